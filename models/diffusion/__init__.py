"""Latent diffusion, shared by every model of it: schedulers, the sampling loop, guidance, noising and losses."""
