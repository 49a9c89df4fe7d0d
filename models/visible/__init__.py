"""Visible pictures: a small autoencoder, and latent diffusion conditioned on identity and caption as Arc2Face does it."""
