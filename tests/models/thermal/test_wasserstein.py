"""Both solvers against POT's exact value, closed forms and finite differences."""

from collections.abc import Callable
from functools import partial

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from models.thermal.wasserstein import costs, exact, sinkhorn, symmetric


def clouds(count: int = 64, other: int = 48, dimension: int = 16, problems: int = 2) -> tuple[Tensor, Tensor]:
    """Two clouds with a few strong directions and a little noise, as patches have."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    basis = 0.1 * normal(3, dimension)
    x = 0.6 + normal(problems, count, 3) @ basis + 0.02 * normal(problems, count, dimension)
    y = 0.7 + 1.3 * normal(problems, other, 3) @ basis + 0.03 * normal(problems, other, dimension)
    return x, y


def reference(x: Tensor, y: Tensor) -> np.ndarray:
    return np.array([ot.emd2([], [], ot.dist(a.numpy(), b.numpy())) for a, b in zip(x.double(), y.double())])


def test_costs_are_squared_distances_also_far_from_the_origin() -> None:
    x, y = clouds()
    wanted = ot.dist((x[0] + 100).double().numpy(), (y[0] + 100).double().numpy())
    np.testing.assert_allclose(costs(x + 100, y + 100)[0].numpy(), wanted, atol=2e-4)


def test_exact_is_pots_value() -> None:
    x, y = clouds()
    np.testing.assert_allclose(exact(x, y).numpy(), reference(x, y), rtol=1e-5)


@pytest.mark.parametrize(("sweeps", "error"), [(10, 0.01), (100, 0.001)])
def test_sinkhorn_at_a_small_blur_is_pots_value(sweeps: int, error: float) -> None:
    x, y = clouds()
    found = sinkhorn(x, y, sweeps=sweeps).numpy()
    np.testing.assert_allclose(found, reference(x, y), rtol=error)


def test_sinkhorn_is_pots_entropic_value_at_a_large_blur() -> None:
    """The dual value is transport plus entropy, KL against the product of the weights."""
    x, y = (side[:1].double() for side in clouds())
    blur = 0.2
    plan = ot.sinkhorn([], [], cost := ot.dist(x[0].numpy(), y[0].numpy()), 2 * blur**2, "sinkhorn_log", 10_000, 1e-12)
    entropy = float((plan * np.log(np.maximum(plan * plan.size, 1e-300))).sum())
    wanted = float((plan * cost).sum()) + 2 * blur**2 * entropy
    assert sinkhorn(x, y, blur=blur, sweeps=200).item() == pytest.approx(wanted, rel=1e-6)


def test_problems_are_solved_side_by_side() -> None:
    x, y = clouds()
    y[1] += 3.0  # another diameter must not change the first problem by more than its own accuracy
    alone = torch.cat([sinkhorn(x[k : k + 1], y[k : k + 1], sweeps=100) for k in range(2)])
    torch.testing.assert_close(sinkhorn(x, y, sweeps=100), alone, rtol=1e-3, atol=0)


def test_two_points_and_a_cloud_with_itself() -> None:
    x, y = torch.zeros(1, 3, 4), torch.zeros(1, 5, 4)
    y[..., 0] = 1.0
    assert sinkhorn(x, y).item() == pytest.approx(1.0, abs=1e-5)
    assert exact(x, y).item() == pytest.approx(1.0)
    cloud = clouds()[0]
    assert exact(cloud, cloud).abs().max() < 1e-6
    assert sinkhorn(cloud, cloud).abs().max() < 1e-4


@pytest.mark.parametrize(
    "solver", [exact, lambda x, y: sinkhorn(x, y, blur=0.1, sweeps=200)], ids=["exact", "sinkhorn"]
)
def test_gradients_are_finite_differences(solver: Callable[[Tensor, Tensor], Tensor]) -> None:
    x, y = (side[:1].double() for side in clouds(12, 12, 3))
    x.requires_grad_()
    solver(x, y).sum().backward()
    assert x.grad is not None
    for place in ((0, 0, 0), (0, 3, 1), (0, 7, 2), (0, 11, 0)):
        step = torch.zeros_like(x)
        step[place] = 1e-6
        with torch.no_grad():
            slope = ((solver(x + step, y) - solver(x - step, y)) / 2e-6).item()
        assert x.grad[place].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("apart", [0.0, 0.5, 3.0, 30.0])
def test_sinkhorns_gradient_is_the_exact_plans_near_and_far(apart: float) -> None:
    """In float32, too: epsilon is then a millionth of the costs and less, which its seven digits cannot hold."""
    x, y = (side[:1] for side in clouds(48, 48, 16))
    y = y - y.mean() + x.mean() + apart
    gradients = []
    for solver in (exact, lambda x, y: sinkhorn(x, y, sweeps=60)):
        leaf = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(solver(leaf, y).sum(), leaf)[0])
    assert gradients[1].dtype == x.dtype
    assert (gradients[1].norm() / gradients[0].norm()).item() == pytest.approx(1, abs=2e-3)
    # Also without the shift that all points share, which is most of a far set's gradient.
    for sides in (gradients, [gradient - gradient.mean(dim=1, keepdim=True) for gradient in gradients]):
        assert torch.cosine_similarity(*(side.flatten() for side in sides), dim=0) > 0.99


@pytest.mark.parametrize("solver", [partial(sinkhorn, sweeps=1), symmetric], ids=["sinkhorn", "symmetric"])
def test_every_point_moves_by_its_own_mass_before_it_has_converged(solver: Callable[[Tensor, Tensor], Tensor]) -> None:
    x, y = (side[:1] for side in clouds(64, 64))
    leaf = x.clone().requires_grad_()
    gradient = torch.autograd.grad(solver(leaf, y + 1e3).sum(), leaf)[0]
    torch.testing.assert_close(gradient, torch.full_like(gradient, -2e3 / 64), rtol=2e-3, atol=0)


@pytest.mark.gpu
def test_both_run_on_a_gpu() -> None:
    x, y = clouds()
    for solver in (exact, sinkhorn):
        leaf = x.cuda().requires_grad_()
        found = solver(leaf, y.cuda())
        found.sum().backward()
        torch.testing.assert_close(found.detach().cpu(), solver(x, y), rtol=1e-3, atol=1e-6)
        assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.abs().max() > 0
