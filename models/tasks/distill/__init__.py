"""Few-step students of the project's latent diffusions: consistency distillation without guidance."""
