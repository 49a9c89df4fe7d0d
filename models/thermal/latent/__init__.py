"""Thermal pictures by latent diffusion in degrees: LaPIG's second half (arXiv 2503.16376), kind `latent-diffusion`."""
