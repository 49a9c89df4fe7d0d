"""Squared Wasserstein-2 distance between two clouds of points, exact or entropic, with its gradient. Torch on any device.

Points carry equal weights and the cost is the squared Euclidean distance. All solvers give the gradient by the envelope
theorem: the plan is held fixed and the cost is differentiated (Peyre and Cuturi 2019, Computational Optimal Transport,
section 9.1).

On a CPU `exact` is both the faster and the more exact; how far off `sinkhorn` is depends on how far apart the clouds are
(`tests/benchmarks/wasserstein.py`, whose figures stand in docs/train.md).
"""

import math

import ot
import torch
from torch import Tensor

TINY = 1e-30
"""Kernel sums are kept above this: no division by zero where a point has no partner within reach."""


def costs(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared distances of x [..., N, D] and y [..., M, D], float [..., N, M]; never below zero."""
    centre = y.detach().mean(dim=-2, keepdim=True)  # far from the origin, products would cost digits
    x, y = x - centre, y - centre
    squares = x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]
    return (squares - 2 * x @ y.transpose(-1, -2)).clamp(min=0)


def exact(x: Tensor, y: Tensor) -> Tensor:
    """Return W2^2 of x float [S, N, D] and y float [S, M, D], float [S], by POT's network simplex (on the CPU).

    Only the pairs that the plan joins (at most N + M - 1) are differentiated, on the device of `x`.
    """
    return torch.stack([_exact(*clouds) for clouds in zip(x, y, strict=True)])


def _exact(x: Tensor, y: Tensor) -> Tensor:
    # The optimal plan, in double precision; then the cost along it, as a function of the points.
    with torch.no_grad():
        plan = torch.from_numpy(ot.emd([], [], costs(x, y).cpu().numpy()))
    row, column = plan.nonzero(as_tuple=True)
    mass = plan[row, column].to(x)
    return (mass * (x[row.to(x.device)] - y[column.to(x.device)]).square().sum(-1)).sum()


def sinkhorn(x: Tensor, y: Tensor, *, blur: float = 1e-3, annealing: float = 0.5, sweeps: int = 10) -> Tensor:
    """Return entropic W2^2 of x float [S, N, D] and y float [S, M, D], float [S]; the S problems run together.

    blur: the smallest distance that counts, in the points' units. The entropy weighs epsilon = 2 blur^2; T-FAKE's cost is
    half of ours, its epsilon blur^2. annealing: blur starts at the largest distance and shrinks by this factor a level.
    sweeps: Sinkhorn iterations of a level; twice as many at the last.

    More of either costs time and buys accuracy (`tests/benchmarks/wasserstein.py`); what is short of convergence reads
    too low, as the value is that of the dual problem, without the debiasing of Sinkhorn divergences. Near sets suffer most:
    the entropy and what annealing leaves are then a large share of a small value.

    Computed in float64: potentials of far sets are millions of epsilons, of which float32 keeps too few digits for the plan.
    """
    cost = costs(x.double(), y.double())
    # Value and plan from the dual potentials; neither is differentiated.
    with torch.no_grad():
        epsilon = 2 * blur**2
        f, g = _potentials(cost.detach(), epsilon, annealing**2, sweeps)
        # Each point of x sends all of its mass, converged or not: else its gradient were too long or too short.
        plan = torch.softmax((g[:, None, :] - cost) / epsilon, dim=2) / cost.shape[-2]
    # The value is the dual's; the gradient is that of the cost under the plan.
    transported = (plan * cost).sum(dim=(-1, -2))
    return (f.mean(-1) + g.mean(-1) + (transported - transported.detach())).to(x.dtype)


def symmetric(x: Tensor, y: Tensor, *, blur: float = 1e-3, annealing: float = 0.5) -> Tensor:
    """Return entropic W2^2 of x float [S, N, D] and y float [S, M, D], float [S], as T-FAKE's released code estimates it.

    One averaged iteration a level, from the clouds' diameter down to `blur` (Feydy 2020, Geometric data analysis, algorithm
    3.4), which is far from converged: what geomloss gives without debiasing, times two, as its cost is half of ours.
    """
    return torch.stack([_symmetric(*clouds, blur, annealing) for clouds in zip(x, y, strict=True)]).to(x.dtype)


def _symmetric(x: Tensor, y: Tensor, blur: float, annealing: float) -> Tensor:
    x, y = x.double(), y.double()
    cost = costs(x, y).detach()
    with torch.no_grad():
        # Levels of blur, the diameter of the box around both clouds first.
        points = torch.cat([x, y])
        diameter = max(float((points.amax(dim=0) - points.amin(dim=0)).norm()), blur)
        count = math.ceil(math.log(blur / diameter) / math.log(annealing))
        levels = [diameter, *(diameter * annealing**k for k in range(count)), blur]
        # Both potentials move half the way to each other's answer.
        f = _softmin(cost, cost.new_zeros(len(y)), levels[0])
        g = _softmin(cost.T, cost.new_zeros(len(x)), levels[0])
        for level in levels:
            f, g = (f + _softmin(cost, g, level)) / 2, (g + _softmin(cost.T, f, level)) / 2
    # A last whole step carries the gradient, of each cloud through its own potential.
    return _softmin(costs(x, y.detach()), g, blur).mean() + _softmin(costs(y, x.detach()), f, blur).mean()


def _softmin(cost: Tensor, potential: Tensor, blur: float) -> Tensor:
    """Return the potential [N] that answers `potential` [M] under cost [N, M]."""
    epsilon = 2 * blur**2
    return -epsilon * (torch.logsumexp((potential - cost) / epsilon, dim=1) - math.log(len(potential)))


def _potentials(cost: Tensor, last: float, step: float, sweeps: int) -> tuple[Tensor, Tensor]:
    """Return the dual potentials f [S, N], g [S, M] of cost [S, N, M], annealed down to epsilon = `last`.

    Every level begins in the log domain, which nothing can overflow; its further iterations scale the kernel that the
    potentials leave, products instead of exponentials (Schmitzer 2019, SIAM J. Sci. Comput. 41), and are absorbed.
    """
    n, m = cost.shape[-2:]
    f, g = cost.new_zeros(cost.shape[:-1]), cost.new_zeros(len(cost), m)
    epsilon = max(float(cost.max()), last)
    while True:
        epsilon = max(epsilon * step, last)
        # One iteration in the log domain.
        f = -epsilon * (torch.logsumexp((g[:, None, :] - cost) / epsilon, dim=2) - math.log(m))
        g = -epsilon * (torch.logsumexp((f[:, :, None] - cost) / epsilon, dim=1) - math.log(n))
        # Further ones as products with the kernel that remains, absorbed into the potentials at the end.
        kernel = ((f[:, :, None] + g[:, None, :] - cost) / epsilon).exp_()
        u, v = cost.new_ones(len(cost), n, 1), cost.new_ones(len(cost), m, 1)
        for _ in range(sweeps * (2 if epsilon == last else 1)):
            u = m / (kernel @ v).clamp(min=TINY)
            v = n / (kernel.transpose(1, 2) @ u).clamp(min=TINY)
        f, g = f + epsilon * u[..., 0].log(), g + epsilon * v[..., 0].log()
        if epsilon == last:
            return f, g
