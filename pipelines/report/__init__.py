"""What a run leaves for people: summary, data-set card, contact sheet and page."""
