"""The visible picture by a latent diffusion of Stable Diffusion's shape, conditioned as Arc2Face is."""
