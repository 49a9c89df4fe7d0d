"""Rows on disk: their Arrow schemas, their ids, and how pictures and points are written into them."""
