"""Captions: words for a person's attributes, a grammar that writes them, a reader that finds them in any text."""
