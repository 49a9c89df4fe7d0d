"""Thermal to visible: a latent diffusion that is shown a thermal picture and told attributes."""
