"""T-FAKE's tables: a reduced recipe, what it trains, how that is measured."""
