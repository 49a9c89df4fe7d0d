"""Guidance by another network, against targets whose way there is known."""

import pytest
import torch
from torch import Tensor

from models.diffusion.process import DiscreteProcess, FlowProcess, Process
from models.diffusion.sample import NamedNoise, Step, sample
from models.diffusion.schedulers import new_scheduler
from models.diffusion.steering import Steering, climb, steer

WANTED = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(1))


def nearness(latents: Tensor) -> Tensor:
    """How near the first two rows are to what is wanted; of the third nothing is said."""
    return -(latents - WANTED).square().sum(dim=(1, 2, 3)) * torch.tensor([1.0, 5.0, 0.0])


def test_a_move_has_its_length_and_leads_up_the_slope_whatever_its_steepness() -> None:
    start = torch.zeros_like(WANTED)
    moved = climb(start, nearness, Steering(0.1, moves=1))
    assert moved.square().mean(dim=(1, 2, 3)).sqrt() == pytest.approx([0.1, 0.1, 0], abs=1e-6)
    cosine = torch.cosine_similarity(moved.flatten(1), WANTED.flatten(1))
    assert cosine[:2] == pytest.approx([1, 1], abs=1e-5)
    # Two moves go twice as far, for here the slope leads straight there.
    twice = climb(start, nearness, Steering(0.1, moves=2))
    torch.testing.assert_close(twice, 2 * moved)


@pytest.mark.parametrize("process", [DiscreteProcess.of(new_scheduler()), FlowProcess()], ids=["v", "flow"])
def test_the_prediction_says_what_was_moved(process: Process) -> None:
    noisy, step = torch.randn_like(WANTED), Step(0, 1, torch.tensor(400))
    plain = torch.randn_like(WANTED)
    steering = Steering(0.2, moves=3)
    found = steer(lambda *_: plain, nearness, process, steering)(noisy, step)
    timesteps = torch.full((3,), 400)
    wanted = climb(process.clean(plain, noisy, timesteps), nearness, steering)
    torch.testing.assert_close(process.clean(found, noisy, timesteps), wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(found[2], plain[2])  # to the bit: beside others or alone


@pytest.mark.parametrize(("interval", "acts"), [((0, 1), [0, 1, 2, 3]), ((0.25, 0.75), [1, 2]), ((0, 0.5), [0, 1])])
def test_it_acts_within_its_steps(interval: tuple[float, float], acts: list[int]) -> None:
    steering = Steering(0.1, interval=interval)
    assert [k for k in range(4) if steering.acts(Step(k, 4, torch.tensor(0)))] == acts
    assert not Steering(0.0).acts(Step(0, 4, torch.tensor(0)))


def test_what_is_sampled_does_better_by_the_goal() -> None:
    """A denoiser that says that all is zero ends at zero; guided, its end lies towards what is wanted, of the third row not."""
    scheduler = new_scheduler()
    process = DiscreteProcess.of(scheduler)

    def zero(noisy: Tensor, step: Step) -> Tensor:
        return process.predict(torch.zeros_like(noisy), noisy, step.timestep.expand(len(noisy)))

    noise = NamedNoise(["a", "b", "c"], "test")
    ends = [sample(steer(zero, nearness, process, Steering(s)), noise, (4, 5, 5), scheduler, 4) for s in (0.0, 0.2)]
    assert ends[0].abs().max() < 1e-4 and torch.equal(ends[0][2], ends[1][2])
    gained = nearness(ends[1]) - nearness(ends[0])
    assert (gained[:2] > 0.2 * -nearness(ends[0])[:2]).all()
