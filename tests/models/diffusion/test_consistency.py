"""Consistency distillation against the closed form of a normal distribution, and diffusers' scheduler."""

import pytest
import torch
from diffusers import LCMScheduler

from models.diffusion.consistency import JUMPS, SCALING, SIGMA_DATA, Consistency
from models.diffusion.process import DiscreteProcess, levels
from models.diffusion.schedulers import new_scheduler

MEAN, SPREAD = 0.7, 0.3
"""Of the data: independent normal values."""


@pytest.fixture(scope="module")
def consistency() -> Consistency:
    return Consistency(DiscreteProcess.of(new_scheduler()), delta=0.1)


def exact(consistency: Consistency):
    """Return the denoiser of N(MEAN, SPREAD^2): the velocity of E[z | noisy]."""

    def predict(noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        alpha, sigma = levels(consistency.process.scheduler, timesteps, noisy)
        gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
        clean = MEAN + gain * (noisy - alpha * MEAN)
        return torch.where(sigma > 0, (alpha * noisy - clean) / sigma.clamp(min=1e-6), 0.0)

    return predict


def flow(consistency: Consistency, noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """Return where the probability flow of N(MEAN, SPREAD^2) leads: the value of the same quantile."""
    alpha, sigma = levels(consistency.process.scheduler, timesteps, noisy)
    return MEAN + SPREAD * (noisy - alpha * MEAN) / (alpha**2 * SPREAD**2 + sigma**2).sqrt()


def test_the_grid_is_that_of_diffusers() -> None:
    made = LCMScheduler.from_config(new_scheduler().config)
    made.set_timesteps(JUMPS)
    grid = Consistency(DiscreteProcess.of(new_scheduler()))
    assert sorted(made.timesteps.tolist()) == grid.timesteps(torch.arange(JUMPS)).tolist()
    assert grid.positions(torch.tensor([0, 19, 20, 39, 980, 999])).tolist() == [0, 0, 1, 1, 49, 49]


def test_a_jump_is_a_step_of_diffusers_scheduler(consistency: Consistency) -> None:
    predict, noisy = exact(consistency), torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    scheduler = LCMScheduler.from_config(new_scheduler().config, clip_sample=False)
    scheduler.set_timesteps(4)
    for timestep in scheduler.timesteps:
        prediction = predict(noisy, timestep.expand(4))
        theirs = scheduler.step(prediction, timestep, noisy, generator=torch.Generator().manual_seed(0)).denoised
        assert torch.allclose(consistency.jump(predict, noisy, timestep.expand(4)), theirs, atol=1e-5)


def test_the_teachers_steps_follow_the_probability_flow(consistency: Consistency) -> None:
    noisy = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    values, teacher = noisy, exact(consistency)
    for place in reversed(range(JUMPS)):
        values = consistency.step_back(teacher, values, torch.full((64,), place))
    wanted = flow(consistency, noisy, torch.full((64,), 999))
    # Fifty Euler steps of an exact denoiser: its own error is what is left.
    assert (values - wanted).abs().mean() < 0.015
    assert values.std() == pytest.approx(SPREAD, rel=0.06)


def along_the_flow(consistency: Consistency, off: float = 0.0):
    """Return the prediction whose jump is where the probability flow leads, `off` beside it."""

    def predict(noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        scaled = SCALING * timesteps.view(-1, 1, 1, 1)
        skip, out = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2), scaled / (scaled**2 + SIGMA_DATA**2).sqrt()
        clean = (flow(consistency, noisy, timesteps) + off * timesteps.view(-1, 1, 1, 1) / 999 - skip * noisy) / out
        alpha, sigma = levels(consistency.process.scheduler, timesteps, noisy)
        return (alpha * noisy - clean) / sigma

    return predict


def test_the_error_is_least_where_jumps_follow_the_flow(consistency: Consistency) -> None:
    rng = torch.Generator().manual_seed(0)
    places = torch.arange(1, JUMPS).repeat_interleave(64)
    latents, noise = (torch.randn(len(places), 1, 2, 2, generator=rng) for _ in range(2))
    latents, teacher = MEAN + SPREAD * latents, exact(consistency)

    def error(student) -> torch.Tensor:
        return consistency.errors(student, teacher, latents, noise, places)[0].view(-1, 64).mean(dim=1)

    right = error(along_the_flow(consistency))
    # The teacher's own clean picture has no spread: as a student it is wrong at every place with noise.
    assert (right[10:] < 0.2 * error(teacher)[10:]).all()
    assert right.mean() < 0.01
    assert (error(along_the_flow(consistency, off=0.5))[10:] > right[10:]).all()


def test_the_target_has_no_gradient_and_the_jump_has(consistency: Consistency) -> None:
    gain = torch.tensor(1.0, requires_grad=True)
    rng = torch.Generator().manual_seed(2)
    latents, noise = torch.randn(8, 1, 2, 2, generator=rng), torch.randn(8, 1, 2, 2, generator=rng)
    places, teacher = torch.full((8,), 20), exact(consistency)

    def student(noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return gain * teacher(noisy, timesteps)

    consistency.errors(student, teacher, latents, noise, places)[0].mean().backward()
    # By finite differences, with the target held where it is.
    noisy = consistency.process.add_noise(latents, noise, consistency.timesteps(places))
    target = consistency.jump(teacher, consistency.step_back(teacher, noisy, places), consistency.timesteps(places - 1))

    def loss(value: float) -> float:
        def scaled(noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            return value * teacher(noisy, timesteps)

        square = (consistency.jump(scaled, noisy, consistency.timesteps(places)) - target).double() ** 2
        huber = (square.flatten(1).mean(dim=1) + 0.1**2).sqrt() - 0.1
        return float(huber.mean() / 0.1)

    assert gain.grad is not None
    assert gain.grad.item() == pytest.approx((loss(1.001) - loss(0.999)) / 0.002, rel=1e-3)


def test_weights_say_which_cells_count(consistency: Consistency) -> None:
    rng = torch.Generator().manual_seed(1)
    latents, noise = torch.randn(2, 1, 2, 2, generator=rng), torch.randn(2, 1, 2, 2, generator=rng)
    weight = torch.zeros(2, 1, 2, 2)
    places = torch.tensor([8, 30])
    error, _ = consistency.errors(exact(consistency), exact(consistency), latents, noise, places, weight)
    assert error.abs().max() < 1e-6
    assert consistency.errors(exact(consistency), exact(consistency), latents, noise, places)[0].min() > 0
