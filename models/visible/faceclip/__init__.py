"""FaceCLIP: one embedding of a face and a text, and Stable Diffusion XL on it."""
