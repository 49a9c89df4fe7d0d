"""Faces: find them (SCRFD), align them on five points, embed them (ArcFace), compare them."""
