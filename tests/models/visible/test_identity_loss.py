"""Whom a clean prediction shows, as a term of a loss: which rows are read, and what the cosine is of."""

import numpy as np
import pytest
import torch

from models.diffusion.process import DiscreteProcess
from models.diffusion.schedulers import new_scheduler
from models.errors import UserError
from models.faces.align import TEMPLATE, fit_similarities
from models.tasks.identity import cosine_to_truth, decode_clean, readable_rows, recogniser_of
from models.visible import cache

VAE, FACES = "models/starter/visible/vae", "models/starter/faces"


def test_rows_of_most_readable_noise_are_read() -> None:
    scheduler = new_scheduler()
    process, steps = DiscreteProcess.of(scheduler), torch.tensor([10, 999, 400, 700, 600])
    sigma = (1 - scheduler.alphas_cumprod[steps]).sqrt()
    assert readable_rows(process, steps, 1.0, 5).tolist() == [1, 3, 4, 2, 0]
    most = float(sigma[3]) + 1e-4
    assert readable_rows(process, steps, most, 2).tolist() == [3, 4]
    assert readable_rows(process, steps, 1e-6, 2).tolist() == []


def test_a_folder_without_a_recogniser_is_refused() -> None:
    with pytest.raises(UserError, match="starter/parser holds no recogniser to keep the identity by"):
        recogniser_of("models/starter/parser")


def test_a_person_is_like_the_own_picture_and_unlike_another() -> None:
    """And the gradient reaches the latents of both."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (2, 16, 16, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    latents = torch.from_numpy(cache.encode_latents(pictures, VAE)).float()
    matrices = torch.from_numpy(fit_similarities(np.stack([TEMPLATE, TEMPLATE + 2])).astype(np.float32))
    recogniser = recogniser_of(FACES)
    same = cosine_to_truth(decode_clean(latents, VAE), latents, matrices, recogniser, VAE)
    assert torch.allclose(same, torch.ones(2), atol=1e-5)
    asked = latents.flip(0).clone().requires_grad_(True)
    other = cosine_to_truth(decode_clean(asked, VAE), latents, matrices, recogniser, VAE)
    assert (other < 0.9).all()
    (gradient,) = torch.autograd.grad(other.sum(), asked)
    assert gradient.abs().amax(dim=(1, 2, 3)).gt(0).all()
