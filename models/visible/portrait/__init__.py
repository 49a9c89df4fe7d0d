"""A first portrait of a person by a latent diffusion that reads embeddings, for visible kinds that read a picture."""
