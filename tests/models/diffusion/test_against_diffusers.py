"""Our sampling loop against diffusers' own pipelines, at equal weights, noise and scheduler."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import (
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor

from models.diffusion.conditions import Conditions
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.names import FILE, PRESETS
from models.diffusion.sample import sample
from models.diffusion.schedulers import Scheduler, load_scheduler
from models.diffusion.unet import Control, guidance_embedding
from models.errors import EnvironmentFault, UserError
from tests.models.diffusion import tiny

SHAPE = (4, 4, 4)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


PROMPTS = 3 * draw(3, 7, tiny.HIDDEN)
"""Two rows, and the unconditional one."""


def noise_from(seeds: tuple[int, ...] = (5, 6)):
    """Return a source of noise in diffusers' way: a generator per row that goes on from step to step."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return (lambda step: generators), [torch.Generator().manual_seed(seed) for seed in seeds]


def write_scheduler(folder: Path, name: str, **values: object) -> Path:
    (folder / FILE).write_text(json.dumps({"_class_name": name, **tiny.SD15, **values}))
    return folder


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return tiny.new_unet()


def ours(unet: UNet2DConditionModel, scheduler: Scheduler, guidance: float, steps: int = 5, **more: object) -> Tensor:
    source, _ = noise_from()
    cond, uncond = Conditions(PROMPTS[:2]), Conditions(PROMPTS[2:].expand(2, -1, -1))
    return sample(denoiser(unet, cond, uncond, Guidance(guidance)), source, SHAPE, scheduler, steps, **more)


def by_pipeline(pipeline: StableDiffusionPipeline, guidance: float, steps: int = 5, **more: object) -> Tensor:
    return pipeline(
        prompt_embeds=PROMPTS[:2],
        negative_prompt_embeds=PROMPTS[2:].expand(2, -1, -1),
        generator=noise_from()[1],
        height=16,
        width=16,
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="latent",
        **more,
    ).images


def assert_equal(found: Tensor, wanted: Tensor) -> None:
    """Equal to 1e-5 of the latents' own size, which few steps of random weights let grow."""
    assert (found - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("name", "guidance"), [*((n, 7.0) for n in PRESETS), *(("folder", g) for g in (0.0, 1.0, 1.5))]
)
@torch.inference_mode()
def test_every_scheduler_and_guidance(unet: UNet2DConditionModel, tmp_path: Path, name: str, guidance: float) -> None:
    scheduler = load_scheduler(write_scheduler(tmp_path, "PNDMScheduler", skip_prk_steps=True), name)
    eta = {"eta": 0.3} if name == "tcd" else {}
    found = ours(unet, scheduler, guidance, **eta)
    assert_equal(found, by_pipeline(tiny.pipeline_of(StableDiffusionPipeline, unet, scheduler), guidance, **eta))


@pytest.mark.parametrize("kind", ["EulerAncestralDiscreteScheduler", "DDPMScheduler", "HeunDiscreteScheduler"])
@torch.inference_mode()
def test_a_folders_own_scheduler(unet: UNet2DConditionModel, tmp_path: Path, kind: str) -> None:
    scheduler = load_scheduler(write_scheduler(tmp_path, kind))
    assert type(scheduler).__name__ == kind
    pipeline = tiny.pipeline_of(StableDiffusionPipeline, unet, scheduler)
    assert_equal(ours(unet, scheduler, 3.0), by_pipeline(pipeline, 3.0))


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.2, 0.8)])
@torch.inference_mode()
def test_a_controlnet_and_its_interval(
    unet: UNet2DConditionModel, tmp_path: Path, interval: tuple[float, float]
) -> None:
    scheduler = load_scheduler(write_scheduler(tmp_path, "PNDMScheduler"))
    controlnet, pictures = tiny.new_controlnet(unet), draw(2, 3, 16, 16, seed=3).sigmoid()
    cond = Conditions(PROMPTS[:2], control=pictures)
    uncond = Conditions(PROMPTS[2:].expand(2, -1, -1), control=pictures)

    def steered(strength: float, interval: tuple[float, float]) -> Tensor:
        control = Control(controlnet, strength, interval)
        return sample(denoiser(unet, cond, uncond, Guidance(4.0), control), noise_from()[0], SHAPE, scheduler, 5)

    pipeline = tiny.pipeline_of(StableDiffusionControlNetPipeline, unet, scheduler, controlnet=controlnet)
    wanted = by_pipeline(
        pipeline,
        4.0,
        image=pictures,
        controlnet_conditioning_scale=0.7,
        control_guidance_start=interval[0],
        control_guidance_end=interval[1],
    )
    found = steered(0.7, interval)
    assert_equal(found, wanted)
    assert (steered(0.0, interval) - found).abs().max() > 0.1
    assert_equal(steered(0.0, interval), ours(unet, scheduler, 4.0))


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@torch.inference_mode()
def test_sdxl(tmp_path: Path, guidance: float) -> None:
    unet, pooled = tiny.new_sdxl_unet(), draw(3, tiny.POOLED, seed=4)
    scheduler = load_scheduler(write_scheduler(tmp_path, "EulerDiscreteScheduler", timestep_spacing="leading"))
    sizes = torch.tensor([[16.0, 16, 0, 0, 16, 16]]).expand(2, -1)
    cond = Conditions(PROMPTS[:2], pooled=pooled[:2], time_ids=sizes)
    uncond = Conditions(PROMPTS[2:].expand(2, -1, -1), pooled=pooled[2:].expand(2, -1), time_ids=sizes)
    found = sample(denoiser(unet, cond, uncond, Guidance(guidance)), noise_from()[0], SHAPE, scheduler, 5)
    absent = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    pipeline = StableDiffusionXLPipeline(vae=tiny.new_vae(), unet=unet, scheduler=scheduler, **absent)
    pipeline.set_progress_bar_config(disable=True)
    more = {"pooled_prompt_embeds": pooled[:2], "negative_pooled_prompt_embeds": pooled[2:].expand(2, -1)}
    assert_equal(found, by_pipeline(pipeline, guidance, **more))


@torch.inference_mode()
def test_a_unet_that_reads_the_scale_is_asked_once_a_step(tmp_path: Path) -> None:
    unet = tiny.new_unet(time_cond_proj_dim=8)
    scheduler = load_scheduler(write_scheduler(tmp_path, "LCMScheduler"))
    batches: list[int] = []
    unet.register_forward_hook(lambda _, inputs, __: batches.append(len(inputs[0])))
    found = ours(unet, scheduler, 7.5, steps=3)
    assert batches == [2, 2, 2]
    pipeline = tiny.pipeline_of(StableDiffusionPipeline, unet, scheduler)
    assert_equal(found, by_pipeline(pipeline, 7.5, steps=3))
    torch.testing.assert_close(
        guidance_embedding(7.5, 8), pipeline.get_guidance_scale_embedding(torch.tensor([6.5]), 8)
    )
    assert (ours(unet, scheduler, 2.0, steps=3) - found).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["ddim", "unipc", "dpm++2m", "euler"])
def test_a_scheduler_keeps_the_folders_noise_schedule(tmp_path: Path, name: str) -> None:
    folder = write_scheduler(tmp_path, "DPMSolverMultistepScheduler", prediction_type="v_prediction")
    found = load_scheduler(folder, name)
    assert type(found).__name__ == PRESETS[name].kind
    assert (found.config.beta_end, found.config.prediction_type) == (0.012, "v_prediction")


def test_what_cannot_be_sampled_with_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"names DPMSolverSDEScheduler.*take one of DDIMScheduler.*to one of dpm\+\+2m"):
        load_scheduler(write_scheduler(tmp_path, "DPMSolverSDEScheduler"))
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(EnvironmentFault, match="names no scheduler"):
        load_scheduler(tmp_path)
    with pytest.raises(EnvironmentFault, match=f"has no {FILE}"):
        load_scheduler(tmp_path / "nowhere")


@pytest.mark.parametrize(("name", "steps"), [("lcm", 51), ("dpm++2m", 0), ("tcd", 51), ("euler", 1001)])
def test_steps_that_a_scheduler_does_not_take(
    unet: UNet2DConditionModel, tmp_path: Path, name: str, steps: int
) -> None:
    scheduler = load_scheduler(write_scheduler(tmp_path, "PNDMScheduler"), name)
    with pytest.raises(UserError, match=rf"Scheduler takes 1 to \d+ steps, not {steps}"):
        ours(unet, scheduler, 1.0, steps=steps)
