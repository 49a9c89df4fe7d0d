"""Sampling against diffusers' own pipeline: guidance of every strength, and the scheduler that the weights name."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from models.errors import EnvironmentFault, UserError
from models.visible.sampler import sample
from models.visible.schedule import FILE, Scheduler, load_scheduler
from tests.models.visible.tiny import new_unet

SD15 = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000,
        "steps_offset": 1}  # fmt: skip


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(1)
    return new_unet(24).eval()


def write_scheduler(folder: Path, name: str, **values: object) -> Path:
    (folder / FILE).write_text(json.dumps({"_class_name": name, **SD15, **values}))
    return folder


def by_pipeline(
    unet: UNet2DConditionModel, scheduler: Scheduler, noise: Tensor, prompts: Tensor, guidance: float
) -> Tensor:
    """Return the latents of diffusers' pipeline for prompt embeddings, those of the empty prompt last."""
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=(8,) * 4, norm_num_groups=8, **levels)
    parts = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipeline = StableDiffusionPipeline(vae=vae, unet=unet, scheduler=scheduler, **parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt_embeds=prompts[:-1],
        negative_prompt_embeds=prompts[-1:].expand(len(prompts) - 1, -1, -1),
        latents=noise,
        height=32,
        width=32,
        num_inference_steps=5,
        guidance_scale=guidance,
        output_type="latent",
    ).images


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 1.5, 7.0])
@pytest.mark.parametrize("name", ["PNDMScheduler", "EulerDiscreteScheduler"])
@torch.inference_mode()
def test_guidance_is_diffusers_at_any_strength(
    unet: UNet2DConditionModel, tmp_path: Path, name: str, guidance: float
) -> None:
    draw = torch.Generator().manual_seed(0)
    noise, prompts = torch.randn(2, 4, 4, 4, generator=draw), 3 * torch.randn(3, 7, 24, generator=draw)
    scheduler = load_scheduler(write_scheduler(tmp_path, name, skip_prk_steps=True))
    zeros = torch.zeros(2, 512)
    found = sample(unet, scheduler, noise, prompts[:2], zeros, prompts[2:], steps=5, guidance_scale=guidance)
    wanted = by_pipeline(unet, scheduler, noise, prompts, guidance)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_without_guidance_the_person_is_still_there(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    """At 0 as at 1: what is left out is the unconditional half, not the prompt."""
    draw = torch.Generator().manual_seed(0)
    noise, prompts, zeros = (
        torch.randn(1, 4, 4, 4, generator=draw),
        torch.randn(3, 7, 24, generator=draw),
        torch.zeros(1, 512),
    )
    scheduler = load_scheduler(write_scheduler(tmp_path, "DDIMScheduler"))

    def latents(prompt: int, guidance: float) -> Tensor:
        one = prompts[prompt : prompt + 1]
        with torch.inference_mode():
            return sample(unet, scheduler, noise, one, zeros, prompts[2:], steps=2, guidance_scale=guidance)

    assert torch.equal(latents(0, 0.0), latents(0, 1.0))
    assert not torch.equal(latents(0, 0.0), latents(1, 0.0))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("PNDMScheduler", "DPMSolverMultistepScheduler")] + [(k, k) for k in ("DDIMScheduler", "UniPCMultistepScheduler")],
)
def test_the_scheduler_is_the_one_that_the_folder_names(tmp_path: Path, name: str, kind: str) -> None:
    found = load_scheduler(write_scheduler(tmp_path, name, prediction_type="v_prediction"))
    assert type(found).__name__ == kind
    assert (found.config.beta_end, found.config.prediction_type) == (0.012, "v_prediction")


def test_a_scheduler_that_cannot_be_sampled_with_is_named(tmp_path: Path) -> None:
    for name, more in (("LCMScheduler", {}), ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"})):
        with pytest.raises(UserError, match=f"names {name}.*take one of DDIMScheduler"):
            load_scheduler(write_scheduler(tmp_path, name, **more))
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(EnvironmentFault, match="names no scheduler"):
        load_scheduler(tmp_path)
    with pytest.raises(EnvironmentFault, match=f"has no {FILE}"):
        load_scheduler(tmp_path / "nowhere")
