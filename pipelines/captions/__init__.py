"""Captions: by whom they are written, how they are chosen, and the engines of a language model, in a job or kept up."""
