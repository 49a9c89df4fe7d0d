"""How the T-FAKE part is judged: a reduced recipe, what it trains, how that is read, and the tables."""
