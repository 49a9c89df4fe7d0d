"""Guidance written out: which inputs the two halves have, how they are put together, and when there is one half alone."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.diffusion.conditions import Conditions
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.sample import Step
from models.visible.model import condition

LATENTS = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
PROMPTS = torch.full((2, 5, 8), 3.0)
EMPTY = torch.full((2, 5, 8), 1.0)
PERSON = torch.eye(2, 512) * 7
HEAD = torch.full((2, 6, 3, 3), 0.5)


class UNet:
    """Predicts ten times what the prompt says, and the person's first number; keeps what it was given."""

    dtype, device = torch.float32, torch.device("cpu")
    config = SimpleNamespace(class_embed_type="projection", time_cond_proj_dim=None)

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, latents: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, **given: Any) -> tuple[Tensor]:
        self.calls.append({"latents": latents, "timestep": timestep, "prompt": encoder_hidden_states, **given})
        said = 10 * encoder_hidden_states.mean(dim=(1, 2)) + given["class_labels"][:, 0]
        return (said[:, None, None, None].expand(-1, 4, 3, 3),)


def run(scale: float, head: Tensor | None = HEAD, timestep: int = 500, **more: Any) -> tuple[Tensor, UNet]:
    unet = UNet()
    cond = condition(unet, PROMPTS, PERSON, head)  # type: ignore[arg-type]
    uncond = condition(unet, EMPTY, torch.zeros_like(PERSON), head)  # type: ignore[arg-type]
    denoise = denoiser(unet, cond, uncond, Guidance(scale, **more))  # type: ignore[arg-type]
    return denoise(LATENTS, Step(0, 1, torch.tensor(timestep))), unet


@pytest.mark.parametrize("scale", [1.5, 2.0, 5.0])
def test_guidance_leads_from_the_empty_prompt_past_the_persons(scale: float) -> None:
    prediction, unet = run(scale)
    # With the person's prompt 30, and for the first of the two her unit embedding of sqrt(512); with neither 10.
    cond = torch.tensor([30 + 512**0.5, 30.0])
    torch.testing.assert_close(prediction[:, 0, 0, 0], 10 + scale * (cond - 10))
    (call,) = unet.calls
    assert call["prompt"][:, 0, 0].tolist() == [3, 3, 1, 1]
    assert call["class_labels"][2:].abs().max() == 0
    torch.testing.assert_close(call["class_labels"][:2], PERSON / 7 * 512**0.5)


def test_both_halves_are_shown_the_same_latents_and_the_same_head() -> None:
    _, unet = run(2.0)
    seen = unet.calls[0]["latents"]
    torch.testing.assert_close(seen[:, :4], torch.cat([LATENTS, LATENTS]))
    torch.testing.assert_close(seen[:, 4:], torch.cat([HEAD, HEAD]))
    assert run(2.0, head=None)[1].calls[0]["latents"].shape[1] == 4


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_scale_of_one_or_less_is_the_conditional_prediction_at_half_the_cost(scale: float) -> None:
    prediction, unet = run(scale)
    torch.testing.assert_close(prediction[:, 0, 0, 0], torch.tensor([30 + 512**0.5, 30.0]))
    assert len(unet.calls[0]["prompt"]) == 2


@pytest.mark.parametrize(("timestep", "guided"), [(199, False), (200, True), (700, True), (701, False)])
def test_outside_its_interval_there_is_no_guidance(timestep: int, guided: bool) -> None:
    prediction, unet = run(3.0, timestep=timestep, interval=(0.2, 0.7))
    assert len(unet.calls[0]["prompt"]) == (4 if guided else 2)
    assert float(prediction[1, 0, 0, 0]) == (70.0 if guided else 30.0)
    assert int(unet.calls[0]["timestep"]) == timestep


def test_both_halves_take_the_same_inputs() -> None:
    with pytest.raises(ValueError, match="same inputs"):
        Conditions(PROMPTS, beside=HEAD).join(Conditions(EMPTY))
