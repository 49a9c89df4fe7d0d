"""Guidance written out: which inputs the two halves have, how they are put together, and what the solver is told."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.visible.model import new_scheduler
from models.visible.sampler import sample

NOISE = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
PROMPTS = torch.full((2, 5, 8), 3.0)
EMPTY = torch.full((1, 5, 8), 1.0)
PERSON = torch.eye(2, 512) * 7
HEAD = torch.full((2, 6, 3, 3), 0.5)


class UNet:
    """Predicts ten times what the prompt says, and the person's first number; keeps what it was given."""

    dtype = torch.float32
    config = SimpleNamespace(class_embed_type="projection")

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, latents: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, **given: Any) -> tuple[Tensor]:
        self.calls.append({"latents": latents, "timestep": timestep, "prompt": encoder_hidden_states, **given})
        said = 10 * encoder_hidden_states.mean(dim=(1, 2)) + given["class_labels"][:, 0]
        return (said[:, None, None, None].expand(-1, 4, 3, 3),)


class Echo:
    """A scheduler of three steps whose latents are the last prediction."""

    init_noise_sigma = 2.0

    def set_timesteps(self, steps: int, device: object) -> None:
        self.timesteps = torch.arange(steps, 0, -1)

    def scale_model_input(self, latents: Tensor, timestep: Tensor) -> Tensor:
        return latents / 4

    def step(self, prediction: Tensor, timestep: Tensor, latents: Tensor) -> SimpleNamespace:
        return SimpleNamespace(prev_sample=prediction)


def run(scale: float, steps: int = 1, head: Tensor | None = HEAD, scheduler: Any = None) -> tuple[Tensor, UNet]:
    unet = UNet()
    return sample(  # type: ignore[arg-type]
        unet, scheduler or Echo(), NOISE, PROMPTS, PERSON, EMPTY, head, steps=steps, guidance_scale=scale
    ), unet  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [1.5, 2.0, 5.0])
def test_guidance_leads_from_the_empty_prompt_past_the_persons(scale: float) -> None:
    latents, unet = run(scale)
    # With the person's prompt 30, and for the first of the two her unit embedding of sqrt(512); with neither 10.
    cond = torch.tensor([30 + 512**0.5, 30.0])
    torch.testing.assert_close(latents[:, 0, 0, 0], 10 + scale * (cond - 10))
    (call,) = unet.calls
    assert call["prompt"][:, 0, 0].tolist() == [3, 3, 1, 1]
    assert call["class_labels"][2:].abs().max() == 0
    torch.testing.assert_close(call["class_labels"][:2], PERSON / 7 * 512**0.5)


def test_both_halves_are_shown_the_same_latents_and_the_same_head() -> None:
    _, unet = run(2.0)
    seen = unet.calls[0]["latents"]
    torch.testing.assert_close(
        seen[:, :4], torch.cat([NOISE, NOISE]) / 2
    )  # times the sigma of 2, as the model input / 4
    torch.testing.assert_close(seen[:, 4:], torch.cat([HEAD, HEAD]))
    assert run(2.0, head=None)[1].calls[0]["latents"].shape[1] == 4


def test_a_scale_of_one_is_the_conditional_prediction_at_half_the_cost() -> None:
    latents, unet = run(1.0)
    torch.testing.assert_close(latents[:, 0, 0, 0], torch.tensor([30 + 512**0.5, 30.0]))
    assert len(unet.calls[0]["prompt"]) == 2


def test_a_scale_of_zero_is_no_scale_that_was_left_out() -> None:
    others = [run(scale)[0] for scale in (2.0, 3.0, 5.0)]
    assert not any(torch.equal(run(0.0)[0], other) for other in others)


def test_every_step_has_its_time_and_the_scheduler_is_left_as_it_was() -> None:
    _, unet = run(2.0, steps=3)
    assert [int(call["timestep"]) for call in unet.calls] == [3, 2, 1]
    scheduler = new_scheduler()
    first, again = (run(2.0, steps=4, scheduler=scheduler)[0] for _ in range(2))
    assert torch.equal(first, again) and first.dtype == torch.float32
    assert scheduler.num_inference_steps is None
