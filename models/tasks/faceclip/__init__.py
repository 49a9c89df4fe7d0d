"""Trainings of FaceCLIP: the face ViT, the towers of texts and pictures, and the alignment of the three."""
