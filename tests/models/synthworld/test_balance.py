"""The heat balance at its limits, and emissivity against the published order of magnitude."""

import math

import pytest
import torch

from models.synthworld.heat import anatomy
from models.synthworld.heat.apparent import apparent_temperature, emissivity
from models.synthworld.heat.balance import CORE, perfusion, solve_balance
from models.synthworld.sampling.environment import Environment


def steady(
    air: float, conductance: float = 45.0, wind: float = 0.1, humidity: float = 0.45, solar: float = 0.0
) -> float:
    """Skin temperature, degC, with walls as warm as the air."""
    return solve_balance(
        torch.tensor([conductance]), air, torch.tensor([air]), wind, humidity, torch.tensor([solar])
    ).item()


def test_surroundings_at_core_temperature_give_core() -> None:
    """No gradient, no evaporation into saturated air: no heat flows."""
    assert steady(CORE, wind=0.0, humidity=1.0) == pytest.approx(CORE, abs=0.01)


def test_bloodless_skin_takes_the_temperature_of_dry_less_air() -> None:
    assert steady(20.0, conductance=0.0, humidity=1.0) == pytest.approx(20.0, abs=0.05)


def test_colder_air_wind_and_dryness_cool_and_sun_warms() -> None:
    temperatures = [steady(air) for air in (-10.0, 0.0, 10.0, 20.0, 30.0)]
    assert temperatures == sorted(temperatures)
    assert steady(10.0, wind=5.0) < steady(10.0, wind=0.1) - 1.0
    assert steady(25.0, humidity=0.1) < steady(25.0, humidity=0.9)
    assert steady(10.0, solar=400.0) > steady(10.0) + 2.0


def test_cold_constricts_and_the_nose_most() -> None:
    warm, cold = (perfusion(Environment(ambient_c=t, radiant_c=t)) for t in (24.0, 8.0))
    kept = dict(zip(anatomy.REGIONS, (cold / warm).tolist(), strict=True))
    assert min(kept, key=lambda name: kept[name]) == "nose"
    assert kept["nose"] < 0.5 < kept["forehead"]


def test_bias_of_the_world_is_seeded_and_of_the_stated_spread() -> None:
    values = torch.tensor(list(anatomy.region_bias().values()))
    assert torch.equal(values, torch.tensor(list(anatomy.region_bias().values())))
    assert 0.4 < values.std().item() < 1.1


@pytest.mark.parametrize(("angle", "deficit"), [(0, 0.2), (60, 0.7), (75, 2.4)])
def test_apparent_reads_low_by_the_known_amounts(angle: float, deficit: float) -> None:
    one = torch.ones(1, 1, 1)
    cosine = one * math.cos(math.radians(angle))
    near = torch.zeros(1)  # no atmosphere in between
    read = apparent_temperature(34.0 * one, cosine, 0.0 * one, 22.0 * one, near, near + 0.5, near + 22.0)
    assert 34.0 - read.item() == pytest.approx(deficit, rel=0.2, abs=0.03)


def test_emissivity_falls_with_the_angle_and_roughness_softens_grazing() -> None:
    cosine = torch.cos(torch.deg2rad(torch.arange(0.0, 90.1, 1.0)))
    values = emissivity(cosine)
    assert (values.diff() < 1e-6).all()
    assert 0.97 < values[0] < 0.99
    assert emissivity(cosine, roughness=0.3)[-1] > values[-1] + 0.1


def test_lens_mirrors_the_room_and_distance_pulls_towards_the_air() -> None:
    one = torch.ones(1, 1, 1)
    at = torch.tensor([1.0])
    glass = apparent_temperature(28.0 * one, one, one, 22.0 * one, at, at * 0.5, at * 22.0).item()
    assert 28.0 - glass == pytest.approx(0.12 * 6.0, rel=0.15)
    near, far = (
        apparent_temperature(34.0 * one, one, 0 * one, 22 * one, at * d, at * 0.6, at * 22.0).item() for d in (1.0, 6.0)
    )
    assert 22.0 < far < near < 34.0
