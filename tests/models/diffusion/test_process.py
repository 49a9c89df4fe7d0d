"""Noising, targets and loss weights against diffusers and against the equations written out."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_snr
from scipy.special import expit
from torch import Tensor

from models.diffusion.process import DiscreteProcess, FlowProcess, logit_normal_times, row_errors
from models.diffusion.process import levels as process_levels
from models.diffusion.sample import sample
from models.diffusion.schedulers import new_scheduler
from models.errors import UserError

LATENTS, NOISE = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0)).double()
TIMES = torch.tensor([3, 400, 950])


def process(kind: str) -> DiscreteProcess:
    return DiscreteProcess.of(DDIMScheduler(prediction_type=kind, beta_schedule="squaredcos_cap_v2"))


def levels(of: DiscreteProcess) -> tuple[Tensor, Tensor]:
    kept = of.scheduler.alphas_cumprod[TIMES].view(-1, 1, 1, 1)
    return kept.sqrt(), (1 - kept).sqrt()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_targets_and_what_is_under_the_noise(kind: str) -> None:
    found = process(kind)
    alpha, sigma = levels(found)
    noisy = found.add_noise(LATENTS, NOISE, TIMES)
    torch.testing.assert_close(noisy, alpha * LATENTS + sigma * NOISE, check_dtype=False)
    wanted = {"epsilon": NOISE, "v_prediction": alpha * NOISE - sigma * LATENTS, "sample": LATENTS}[kind]
    target = found.target(LATENTS, NOISE, TIMES)
    torch.testing.assert_close(target, wanted, check_dtype=False)
    torch.testing.assert_close(found.clean(target, noisy, TIMES), LATENTS, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.predict(LATENTS, noisy, TIMES), target, rtol=1e-4, atol=1e-4, check_dtype=False)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_min_snr_is_the_same_weight_of_the_clean_latents_for_every_target(kind: str) -> None:
    """An error of the prediction, carried over to the clean latents, weighs min(snr, gamma) whatever is predicted."""
    found = process(kind)
    target, error = found.target(LATENTS, NOISE, TIMES), 0.1 * torch.ones_like(LATENTS)
    noisy = found.add_noise(LATENTS, NOISE, TIMES)
    clean_error = (found.clean(target + error, noisy, TIMES) - LATENTS) ** 2
    snr = compute_snr(found.scheduler, TIMES)
    wanted = row_errors(clean_error.sqrt(), torch.zeros(1)) * snr.clamp(max=5)
    weighted = found.min_snr(TIMES, 5) * row_errors(target + error, target)
    torch.testing.assert_close(weighted, wanted, rtol=2e-2, atol=1e-4, check_dtype=False)


def test_a_schedule_without_signal_at_its_end_cannot_learn_noise() -> None:
    zero = DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="epsilon")
    with pytest.raises(UserError, match="without signal"):
        DiscreteProcess.of(zero).min_snr(torch.tensor([999]), 5)


def test_flow_is_diffusers() -> None:
    scheduler, found = FlowMatchEulerDiscreteScheduler(), FlowProcess()
    at = scheduler.timesteps[[10, 500, 990]]
    noisy = found.add_noise(LATENTS, NOISE, at)
    torch.testing.assert_close(noisy, scheduler.scale_noise(LATENTS, at, NOISE), check_dtype=False)
    torch.testing.assert_close(found.clean(found.target(LATENTS, NOISE, at), noisy, at), LATENTS)


@pytest.mark.parametrize("flow", [False, True])
def test_the_solver_undoes_what_training_adds(flow: bool) -> None:
    """A network that knows the truth leads the sampler from any noise to the latents."""
    of = FlowProcess() if flow else DiscreteProcess.of(new_scheduler())
    scheduler = FlowMatchEulerDiscreteScheduler() if flow else new_scheduler()
    truth = LATENTS[:1].float()

    def know(model_input: Tensor, step) -> Tensor:
        at = step.timestep.reshape(1)
        if flow:
            return (model_input - truth) / (at / 1000)
        alpha, sigma = process_levels(of.scheduler, at, model_input)
        noise = (model_input - alpha * truth) / sigma
        return of.target(truth, noise, at)

    generators = [torch.Generator().manual_seed(1)]
    found = sample(know, lambda step: generators, (4, 5, 5), scheduler, 8)
    torch.testing.assert_close(found, truth, rtol=1e-3, atol=1e-3)


def test_times_are_logit_normal_and_become_time_steps() -> None:
    rngs = [np.random.default_rng(seed) for seed in range(2000)]
    times = logit_normal_times(rngs, 0.6, 0.5)
    wanted = expit([np.random.default_rng(seed).normal(0.6, 0.5) for seed in range(2000)])
    np.testing.assert_allclose(times, wanted)
    steps = process("epsilon").timesteps(np.array([0.0, 0.4999, 1.0]))
    assert steps.tolist() == [0, 499, 999] and steps.dtype == torch.int64
    assert FlowProcess().timesteps(np.array([0.25])).tolist() == [250.0]


def test_errors_are_of_rows_and_weighted() -> None:
    prediction, target = torch.zeros(2, 3, 2, 2), torch.ones(2, 3, 2, 2) * torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    assert row_errors(prediction, target).tolist() == [1.0, 4.0]
    weight = torch.tensor([[1.0, 0], [0, 0]]).expand(2, 1, 2, 2)
    assert row_errors(prediction, target, weight).tolist() == [0.25, 1.0]
