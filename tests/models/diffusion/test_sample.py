"""The loop itself: which noise is drawn when, that rows are their own, and what the scheduler is told."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import LCMScheduler, TCDScheduler
from torch import Tensor

from models.diffusion.conditions import Conditions
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.sample import NamedNoise, Step, sample
from models.diffusion.schedulers import new_scheduler
from models.seeds import generator
from models.stopping import Abandoned, stop_when
from tests.models.diffusion import tiny


def shrink(model_input: Tensor, step: Step) -> Tensor:
    return 0.5 * model_input


def latents_of(names: list[str], scheduler: object, steps: int = 4, **more: object) -> Tensor:
    return sample(shrink, NamedNoise(names, "visible", "warm"), (2, 3, 3), scheduler, steps, **more)


@pytest.mark.parametrize("scheduler", [LCMScheduler(), TCDScheduler(), new_scheduler()], ids=["lcm", "tcd", "dpm"])
def test_a_row_is_the_same_alone_in_a_batch_and_again(scheduler: object) -> None:
    batch = latents_of(["a", "b", "c"], scheduler)
    for row, name in enumerate("abc"):
        assert torch.equal(latents_of([name], scheduler)[0], batch[row])
    assert torch.equal(latents_of(["c", "a"], scheduler), batch[[2, 0]])
    assert not torch.equal(latents_of(["d"], scheduler)[0], batch[0])


def test_noise_of_a_step_is_drawn_by_the_rows_name_and_the_step() -> None:
    """LCM with a network that sees nothing: what is left is the noise of each step, by its own generator."""
    found: list[Tensor] = []
    scheduler = LCMScheduler(clip_sample=False)
    blind = SimpleNamespace(seen=[])

    def see(model_input: Tensor, step: Step) -> Tensor:
        blind.seen.append(model_input.clone())
        return torch.zeros_like(model_input)

    sample(see, NamedNoise(["a"], "visible"), (2, 3, 3), scheduler, 3, callback=lambda step, x: found.append(x.clone()))
    first = torch.randn(2, 3, 3, generator=generator("a", "visible", 0))
    torch.testing.assert_close(blind.seen[0][0], first)
    scheduler.set_timesteps(3)
    for index, (before, after) in enumerate(zip([blind.seen[0], *found[:-1]], found, strict=True)):
        clean = before / scheduler.alphas_cumprod[scheduler.timesteps[index]].sqrt()
        time = scheduler.timesteps[index] * scheduler.config.timestep_scaling
        skip, out = 0.25 / (time**2 + 0.25), time / (time**2 + 0.25) ** 0.5
        denoised = out * clean + skip * before
        if index < 2:
            kept = scheduler.alphas_cumprod[scheduler.timesteps[index + 1]]
            drawn = torch.randn(1, 2, 3, 3, generator=generator("a", "visible", index + 1))
            denoised = kept.sqrt() * denoised + (1 - kept).sqrt() * drawn
        torch.testing.assert_close(after, denoised, rtol=1e-4, atol=1e-4)


def test_eta_is_handed_to_schedulers_that_know_it() -> None:
    own = latents_of(["a"], TCDScheduler())
    assert torch.equal(latents_of(["a"], TCDScheduler(), eta=0.3), own)
    assert not torch.equal(latents_of(["a"], TCDScheduler(), eta=0.0), own)
    assert torch.equal(latents_of(["a"], new_scheduler(), eta=0.7), latents_of(["a"], new_scheduler()))


def test_the_scheduler_is_left_as_it_was_and_every_step_is_shown() -> None:
    scheduler, steps = new_scheduler(), []
    first = latents_of(["a"], scheduler, callback=lambda step, latents: steps.append((step.index, step.count)))
    assert torch.equal(first, latents_of(["a"], scheduler)) and first.dtype == torch.float32
    assert scheduler.num_inference_steps is None
    assert steps == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_work_that_nobody_waits_for_ends_at_its_next_step() -> None:
    asked: list[int] = []

    def denoise(model_input: Tensor, step: Step) -> Tensor:
        asked.append(step.index)
        return model_input

    with stop_when(lambda: len(asked) == 2), pytest.raises(Abandoned):
        sample(denoise, NamedNoise(["a"], "visible"), (2, 3, 3), new_scheduler(), 9)
    assert asked == [0, 1]


def test_a_network_in_bfloat16_is_sampled_in_float32() -> None:
    unet = tiny.new_unet().to(torch.bfloat16)
    cond = Conditions(torch.randn(1, 5, tiny.HIDDEN))
    found = sample(denoiser(unet, cond, cond, Guidance(2.0)), NamedNoise(["a"], "x"), (4, 4, 4), new_scheduler(), 2)
    assert found.dtype == torch.float32 and found.isfinite().all()
