"""How blood reaches the face: regions of the head, their perfusion, and what differs from person to person, unseen.

The numbers are the world's own (a conductance and a strength of constriction per region) and lead to temperatures only
through the heat balance. Nothing here is taken from the reference temperatures that training losses use.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.seeds import generator
from models.synthworld.sampling.scene import Scene
from models.synthworld.shape.figure import figure


@dataclass(frozen=True)
class Region:
    """Blood supply of a region of the head.

    conductance: core to surface, W/m2K, at ease. constrict: share of it that is lost in the cold. minutes: time to 63 % of a
    change. spread: standard deviation over pictures of the region's own offset, degC, at 23 degC ambient.
    """

    conductance: float
    constrict: float
    minutes: float
    spread: float


REGIONS = {
    "skin": Region(52.0, 0.26, 11.0, 0.30),
    "forehead": Region(62.0, 0.14, 12.0, 0.35),
    "temple": Region(66.0, 0.14, 12.0, 0.30),
    "canthus": Region(115.0, 0.04, 10.0, 0.30),
    "eye": Region(48.0, 0.10, 8.0, 0.30),
    "cheek": Region(42.0, 0.38, 10.0, 0.50),
    "bridge": Region(45.0, 0.30, 9.0, 0.45),
    "nose": Region(30.0, 0.62, 8.5, 1.70),
    "lips": Region(54.0, 0.25, 10.0, 0.40),
    "chin": Region(42.0, 0.32, 11.0, 0.45),
    "ear": Region(33.0, 0.50, 9.0, 0.50),
    "neck": Region(66.0, 0.12, 13.0, 0.35),
}
COVERS = ("hair", "beard", "cloth", "headwear", "facewear")
BIAS_SD = 0.7
"""Every region of this world is off by a fixed draw of this SD: priors from elsewhere are useful and wrong."""


def region_bias() -> dict[str, float]:
    """Return the world's fixed offset of each region and cover, degC at 23 degC ambient."""
    rng = generator("synthworld", "region bias")
    values = BIAS_SD * torch.randn(len(REGIONS) + len(COVERS), generator=rng)
    return dict(zip((*REGIONS, *COVERS), values.tolist(), strict=True))


@dataclass(frozen=True)
class HiddenState:
    """What neither picture nor words say.

    person: offset of the whole person, degC. offsets: float32 [R] of the regions, degC. constriction: factor on it. lens: share
    of the skin's excess that spectacles take on.
    """

    person: float
    offsets: Tensor
    constriction: float
    lens: float


def draw_hidden_state(scene: Scene) -> HiddenState:
    """Return the hidden state of a scene: habit from the identity, the rest from the session (the view's seed)."""
    # A person has a habit; every session adds to it.
    habit = torch.randn(2 + len(REGIONS), generator=generator("habit", scene.person.identity))
    today = torch.randn(
        3 + len(REGIONS), generator=generator("thermal session", scene.person.identity, scene.view.seed)
    )
    # Offsets of the regions: of this world, and of the person and the day (weights 0.5 and 0.866: variances add up to 1).
    spread = torch.tensor([region.spread for region in REGIONS.values()])
    own = torch.tensor(list(region_bias().values())[: len(REGIONS)])
    return HiddenState(
        person=float(0.40 * habit[0] + 0.50 * today[0]),
        offsets=own + spread * (0.5 * habit[2:] + 0.866 * today[3:]),
        constriction=math.exp(0.15 * float(habit[1]) + 0.10 * float(today[1])),
        lens=0.32 + 0.08 * max(-2.0, min(2.0, float(today[2]))),
    )


def memberships(position: Tensor, scene: Scene) -> Tensor:
    """Return how much each surface point belongs to each region: float32 [N,R], rows sum to 1, smooth over the head.

    position: float32 [N,3], head frame, head units. Left and right share their regions.
    """
    q = figure(scene)
    inner = q.ex - 0.80 * q.ew
    #            centre (|x|, y, z)                                        radii                 weight
    table = {
        "forehead": ((0.0, 0.62, 0.62), (0.42, 0.22, 0.40), 1.0),
        "temple": ((0.62, 0.24, 0.30), (0.16, 0.24, 0.28), 1.0),
        "canthus": ((inner, q.ey - 0.02, q.ez + 0.11), (0.052, 0.050, 0.10), 3.0),
        "eye": ((q.ex, q.ey, q.ez + q.er), (0.14, 0.075, 0.14), 1.6),
        "cheek": ((0.40, -0.28, 0.55), (0.17, 0.19, 0.30), 1.5),
        "bridge": ((0.0, 0.5 * (q.n_top + q.n_bot) + 0.06, q.n_root_z + 0.08), (0.085, 0.15, 0.14), 1.3),
        "nose": ((0.0, q.n_bot + 0.075, q.n_tip_z), (0.125, 0.105, 0.17), 4.0),
        "lips": ((0.0, q.m_y, q.m_z), (0.85 * q.m_w, 0.085, 0.16), 1.4),
        "chin": ((0.0, q.chin_y + 0.04, q.chin_z + 0.15), (0.24, 0.12, 0.22), 1.2),
        "ear": ((q.ear_x + 0.10, q.ear_y, q.ear_z), (0.085, 0.30, 0.22), 3.0),
        "neck": ((0.0, -1.30, 0.0), (0.75, 0.30, 0.60), 3.0),
    }
    # Gaussian weights about the centres; plain skin has a constant one.
    x, y, z = position[:, 0].abs(), position[:, 1], position[:, 2]
    columns = [torch.full_like(x, 0.3)]
    for centre, radii, weight in table.values():
        square = (
            ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 + ((z - centre[2]) / radii[2]) ** 2
        )
        columns.append(weight * torch.exp(-0.5 * square))
    # Weights become shares.
    stacked = torch.stack(columns, -1)
    return stacked / stacked.sum(-1, keepdim=True)


def vessels(position: Tensor, identity: int, waves: int = 24) -> Tensor:
    """Return the vascular field of one identity at [N,3] head-frame points: float32 [N], mean 0, SD about 1.

    Broad mottling plus a few warm lines (superficial veins), fixed on the head of this person.
    """
    rng = generator("vessels", identity)
    # Waves in random directions over the head.
    direction = torch.nn.functional.normalize(torch.randn(waves, 3, generator=rng), dim=-1)
    frequency = 3.0 + 9.0 * torch.rand(waves, 1, generator=rng) ** 1.5
    phase = 2.0 * math.pi * torch.rand(waves, generator=rng)
    waved = torch.cos(position @ (direction * frequency).T + phase)
    # Their sum is mottled skin; where the sum of every third is near zero, a vein runs.
    mottle = waved.mean(-1) * math.sqrt(2.0 * waves)
    line = waved[:, ::3].sum(-1) / math.sqrt(waves / 6.0)
    veins = torch.exp(-((line / 0.22) ** 2)) - 0.15
    return 0.85 * mottle + 1.1 * veins
