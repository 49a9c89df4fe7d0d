"""Seeded augmentation: of a batch, of an aligned crop, of a face in a frame, and pictures without a face."""
