"""Temperature of every pixel from a heat balance.

Bare skin, per square metre, with K the conductance from the core (tissue and perfusion):

    K (core - T) + a S = h_c (T - air) + h_r (T - radiant) + m (p(T) - rh p(air))

convection h_c grows with wind, radiation is linearised, evaporation follows the vapour pressures p, the sun S enters
through the absorptivity a alone: that is the only way in which skin tone or the colour of hair and cloth touch heat.
In the cold K falls (constriction), most in nose and ears; after `minutes` the approach to balance is exponential. Covers
fall exponentially with thickness from the skin below to the temperature that the outside alone would give them.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from models.synthworld.heat import anatomy, surroundings
from models.synthworld.heat.apparent import apparent_temperature, vapour_pressure
from models.synthworld.sampling.environment import Environment
from models.synthworld.sampling.scene import Scene
from models.synthworld.shape.classify import among
from models.synthworld.shape.figure import figure
from models.synthworld.shape.gbuffer import GBuffer

CORE = 36.8  # arterial blood of the head, degC
BEFORE = Environment(ambient_c=23.0, radiant_c=23.0, sky_c=23.0, wind_ms=0.1, humidity=0.45)
"""Where people come from before their `minutes` in the scene begin."""

_DEPTH_MM = {"hair": 10.0, "beard": 10.0, "cloth": 4.5, "headwear": 6.0, "facewear": 4.0}
"""Thickness of cover at which the skin's excess has fallen to 37 %."""
_COVER_MINUTES = {"hair": 5.0, "beard": 5.0, "cloth": 10.0, "headwear": 8.0, "facewear": 2.0, "lens": 6.0}
"""Time in which a cover has gone 63 % of the way to its new surroundings."""


def temperature(gbuffer: GBuffer, scenes: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """Return (kinetic, apparent, valid) of B pictures: float32 degC, float32 degC, bool, each [B,S,S].

    Kinetic is the temperature of the surfaces; apparent what an ideal radiometer reads (see `heat.apparent`). An ideal
    radiometer never saturates, so `valid` says where both are finite; cameras narrow it (see `camera.sensor`).
    """
    # Temperature of the surfaces, and of what is mirrored in them.
    kinetic, mirrored = [], []
    for b, scene in enumerate(scenes):
        picture = surroundings.background(scene, gbuffer.hit.shape[-1])
        hit = gbuffer.hit[b]
        if hit.any():
            picture[hit] = person(gbuffer, b, scene)
        kinetic.append(picture)
        mirrored.append(surroundings.radiant(scene.environment, gbuffer.normal[b, ..., 1]))
    body = torch.stack(kinetic)
    cover = gbuffer.hair + gbuffer.beard + gbuffer.cloth + gbuffer.headwear + gbuffer.facewear
    lens = (gbuffer.lens > 0).float()
    # Fibres stand in all directions: covers look much the same from every angle, and so does a background.
    fuzzy = torch.where((cover > 0.2) & (lens == 0), 0.7 + 0.3 * gbuffer.cosine, gbuffer.cosine)
    cosine = torch.where(gbuffer.hit, fuzzy, torch.ones_like(fuzzy))
    # What the camera reads of both through the air.
    distance, humidity, air = (
        torch.tensor(values)
        for values in (
            [scene.view.distance_m for scene in scenes],
            [scene.environment.humidity for scene in scenes],
            [scene.environment.ambient_c for scene in scenes],
        )
    )
    seen = apparent_temperature(body, cosine, lens, torch.stack(mirrored), distance, humidity, air)
    return body, seen, body.isfinite() & seen.isfinite()


def exchange(wind_ms: float) -> tuple[float, float]:
    """Return (h_c, h_r), W/m2K: free and forced convection over a head, and linearised radiation."""
    return math.hypot(3.4, 9.0 * max(wind_ms, 0.0) ** 0.55), 5.1


def solve_balance(
    conductance: Tensor, air: float, radiant: Tensor, wind_ms: float, humidity: float, solar: Tensor, core: float = CORE
) -> Tensor:
    """Return the steady skin temperature, degC, of bare skin; tensors broadcast. solar: W/m2 absorbed."""
    h_c, h_r = exchange(wind_ms)
    # Evaporation: a coefficient that grows with heat, and the vapour pressure of the air.
    heat = 0.5 * (air + radiant)
    wet = 0.22 + 0.9 * torch.sigmoid((heat - 31.0) / 1.5)  # W/m2hPa: insensible loss, then sweat
    outside = humidity * vapour_pressure(torch.as_tensor(air))
    skin = torch.full_like(conductance, 34.0)
    for _ in range(3):  # Newton steps on the vapour pressure; the rest is linear
        pressure = vapour_pressure(skin)
        slope = pressure * 17.62 * 243.12 / (243.12 + skin) ** 2
        gain = conductance * core + h_c * air + h_r * radiant + solar - wet * (pressure - slope * skin - outside)
        skin = gain / (conductance + h_c + h_r + wet * slope)
    return skin


def perfusion(environment: Environment, constriction: float = 1.0) -> Tensor:
    """Return the conductance of each region under `environment`, W/m2K, float32 [R]."""
    # A felt temperature turns constriction (cold) and dilation (hot) on.
    felt = 0.5 * (environment.ambient_c + environment.radiant_c) - 1.2 * environment.wind_ms**0.5
    felt += 0.006 * environment.sun_wm2
    cold = 1.0 / (1.0 + math.exp((felt - 19.0) / 2.2))
    hot = 1.0 / (1.0 + math.exp((28.0 - felt) / 1.5))
    values = []
    for region in anatomy.REGIONS.values():
        lost = min(0.9, region.constrict * constriction) * cold
        values.append(region.conductance * (1.0 - lost) * (1.0 + 0.8 * region.constrict * hot))
    return torch.tensor(values)


def person(gbuffer: GBuffer, b: int, scene: Scene) -> Tensor:
    """Return the kinetic temperature of the pixels of picture `b` that show the person, float32 [N] degC."""
    hit = gbuffer.hit[b]
    environment = scene.environment
    position, classes = gbuffer.position[b][hit], gbuffer.classes[b][hit]
    radiant = surroundings.radiant(environment, gbuffer.normal[b, ..., 1][hit])
    sun = environment.sun_wm2 * gbuffer.sun[b][hit]
    state = anatomy.draw_hidden_state(scene)
    share = anatomy.memberships(position, scene)
    field = anatomy.vessels(position, scene.person.identity)
    # Differences between people and places are differences in blood flow: none is left once the air is at core warmth.
    depth = max(0.0, min(1.4, (CORE - environment.ambient_c) / (CORE - BEFORE.ambient_c)))
    lean = depth * (state.person + share @ state.offsets + 0.35 * field)
    skin = _skin_temperature(scene, share, radiant, sun, state.constriction) + lean
    skin = torch.where(among(classes, "RIGHT_EYE", "LEFT_EYE"), skin - 0.25 * depth, skin)
    skin = _add_breath(skin, position, classes, scene, depth)
    return _add_covers(skin, gbuffer, b, scene, radiant, sun, state, depth, field)


def _skin_temperature(scene: Scene, share: Tensor, radiant: Tensor, sun: Tensor, constriction: float) -> Tensor:
    """Return the temperature of bare skin, float32 [N] degC: on the way from the room before to balance with this one.

    share: float32 [N, R] of the regions; radiant: degC [N]; sun: W/m2 [N].
    """
    environment = scene.environment
    # Balance here, and balance in the room before.
    absorbed = (0.85 - 0.30 * scene.person.tone) * sun
    after = solve_balance(
        share @ perfusion(environment, constriction),
        environment.ambient_c, radiant, environment.wind_ms, environment.humidity, absorbed,
    )  # fmt: skip
    before = solve_balance(
        share @ perfusion(BEFORE), BEFORE.ambient_c, torch.full_like(radiant, BEFORE.radiant_c),
        BEFORE.wind_ms, BEFORE.humidity, torch.zeros_like(sun),
    )  # fmt: skip
    # Each region approaches the new balance at its own pace.
    minutes = share @ torch.tensor([region.minutes for region in anatomy.REGIONS.values()])
    return after + (before - after) * torch.exp(-environment.minutes / minutes)


def _add_breath(skin: Tensor, position: Tensor, classes: Tensor, scene: Scene, depth: float) -> Tensor:
    """Return skin float32 [N] degC warmed at nostrils and mouth by breath on its way out, cooled by room air on its way in."""
    q = figure(scene)
    swing = math.sin(2.0 * math.pi * scene.environment.breath_phase)
    dx, dy = (position[:, 0].abs() - 0.5 * q.n_ala) / 0.055, (position[:, 1] - q.n_bot) / 0.045
    nostril = torch.exp(-0.5 * (dx**2 + dy**2)) * (position[:, 2] > 0.5)
    skin = skin + 0.8 * depth * swing * nostril
    return torch.where(among(classes, "MOUTH_INTERIOR"), CORE - 1.6 * depth + 0.7 * depth * swing, skin)


def _add_covers(
    skin: Tensor, gbuffer: GBuffer, b: int, scene: Scene, radiant: Tensor, sun: Tensor, state: anatomy.HiddenState,
    depth: float, field: Tensor,
) -> Tensor:  # fmt: skip
    """Return skin temperature with everything that lies over it, float32 [N]."""
    hit, environment = gbuffer.hit[b], scene.environment
    h_c, h_r = exchange(environment.wind_ms)
    free = (h_c * environment.ambient_c + h_r * radiant) / (h_c + h_r)  # what an object without blood takes on
    # Thickness of each cover; brows count as a thin beard.
    classes, own = gbuffer.classes[b][hit], anatomy.region_bias()
    thick = {name: getattr(gbuffer, name)[b][hit] for name in anatomy.COVERS}
    thick["beard"] = thick["beard"] + 1.3 * among(classes, "RIGHT_BROW", "LEFT_BROW")
    dark = surroundings.absorptivity(scene)
    # What is worn came in from the room before, and follows the new surroundings at its own pace.
    follow = {name: math.exp(-environment.minutes / minutes) for name, minutes in _COVER_MINUTES.items()}
    # Covers from the inside out: each takes the temperature below it to that of its outside.
    result = skin
    for name in anatomy.COVERS:
        left = torch.exp(-thick[name] / _DEPTH_MM[name])
        below = result + (CORE - 1.8 - result).clamp(min=0.0) * 0.7 * (1.0 - left)  # kept warm from outside
        outside = free + (BEFORE.ambient_c - free) * follow[name] + dark[name] * sun / (h_c + h_r)
        outside = outside + depth * (1.0 - left) * (0.4 * own[name] + 0.25 * field)
        if name == "facewear":
            outside = outside + _breath_through_mask(gbuffer.position[b][hit], scene, depth)
        result = torch.where(thick[name] > 0, outside + (below - outside) * left, result)
    # Spectacles: glass and frames take on a share of the face behind them.
    lens = gbuffer.lens[b][hit]
    shaded = torch.where(lens == 2, 0.75, torch.where(lens == 1, 0.25, 0.6)) * sun / (h_c + h_r)
    share = torch.where(lens > 0, state.lens, state.lens + 0.12)
    near = CORE - 3.0 * depth + depth * 0.4 * state.person  # the face behind, seen as one warm plate
    free = free + (BEFORE.ambient_c - free) * follow["lens"]
    glass = free + share * (near - free) + shaded + 0.1 * depth * field
    return torch.where((lens > 0) | among(classes, "GLASSES"), glass, result)


def _breath_through_mask(position: Tensor, scene: Scene, depth: float) -> Tensor:
    """Return how far breath shifts a mask's temperature, degC [N]: most before nose and mouth."""
    q = figure(scene)
    dx, dy = position[:, 0] / 0.28, (position[:, 1] - 0.5 * (q.n_bot + q.m_y)) / 0.28
    swing = math.sin(2.0 * math.pi * scene.environment.breath_phase)
    return depth * (4.5 + 3.5 * swing) * torch.exp(-0.5 * (dx**2 + dy**2))
