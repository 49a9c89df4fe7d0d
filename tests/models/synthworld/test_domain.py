"""Domains: refused when wrong, equal at gap 0, frozen by digest; scenes that differ only where they may."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from models.errors import UserError
from models.synthworld.sampling import splits
from models.synthworld.sampling.domain import CONDITIONS, FOLDER, NAMES, digest, load_domain, sample_scene
from models.synthworld.sampling.scene import attributes


@pytest.mark.parametrize("name", NAMES)
def test_domain_is_the_frozen_one(name: str) -> None:
    frozen = yaml.safe_load((FOLDER / "digests.yaml").read_text())
    assert digest(load_domain(name)) == frozen[name], f"{name}.yaml changed after data were made with it"


@pytest.mark.parametrize("name", NAMES)
def test_no_gap_makes_all_domains_draw_the_same(name: str) -> None:
    common, own = load_domain("lab", gap=0.0), load_domain(name, gap=0.0)
    for view in range(3):
        for condition in CONDITIONS:
            a, b = (sample_scene(domain, 7, view, condition) for domain in (common, own))
            assert replace(a, domain="") == replace(b, domain="")
    assert own.capture == common.capture


def test_gap_scales_differences() -> None:
    yaws = [load_domain("fake", gap).pose.yaw[1] for gap in (0.0, 0.5, 1.0, 1.5)]
    assert yaws == pytest.approx([30.0, 45.0, 60.0, 75.0])
    for name in NAMES:
        load_domain(name, gap=1.5)
    with pytest.raises(UserError, match="gap"):
        load_domain("fake", gap=2.0)


def test_wrong_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nstands_for: a test\npose: {yaww: [0, 1]}\n")
    with pytest.raises(UserError, match="yaww"):
        load_domain(path)
    path.write_text("name: mine\nstands_for: a test\npose: {yaw: [5, 1]}\n")
    with pytest.raises(UserError, match="low to high"):
        load_domain(path)
    path.write_text("name: mine\nstands_for: a test\nlooks: {expressions: {grin: 1}}\n")
    with pytest.raises(UserError, match="grin"):
        load_domain(path)
    with pytest.raises(UserError, match="portrait"):
        load_domain("nowhere")


def test_conditions_share_everything_but_the_surroundings() -> None:
    domain = load_domain("portrait")
    warm, cold = (sample_scene(domain, 100_003, 2, condition) for condition in CONDITIONS)
    assert warm.person == cold.person
    assert warm.view == cold.view
    assert warm.environment.ambient_c > cold.environment.ambient_c + 5
    with pytest.raises(UserError, match="tepid"):
        sample_scene(domain, 0, 0, "tepid")


def test_identity_holds_over_views_and_views_differ() -> None:
    domain = load_domain("portrait")
    scenes = [sample_scene(domain, 100_004, view, "warm") for view in range(8)]
    assert len({scene.person for scene in scenes}) == 1
    assert len({scene.view.seed for scene in scenes}) == 8
    for what in ("hair_style", "lighting", "clothing_colour", "expression"):
        assert len({getattr(scene.view, what) for scene in scenes}) > 1
    assert len({attributes(scene)["skin_tone"] for scene in scenes}) == 1


@pytest.mark.slow
def test_portrait_has_the_stated_mix() -> None:
    domain = load_domain("portrait")
    views = [sample_scene(domain, 200_000 + k, 0, "warm").view for k in range(600)]
    share = {
        "clear": sum(view.glasses == "clear" for view in views) / 600,
        "opaque": sum(view.glasses == "opaque" for view in views) / 600,
        "headwear": sum(view.headwear != "none" for view in views) / 600,
        "mask": sum(view.facewear != "none" for view in views) / 600,
    }
    assert share == pytest.approx({"clear": 0.15, "opaque": 0.05, "headwear": 0.08, "mask": 0.03}, abs=0.035)
    assert max(abs(view.yaw) for view in views) <= 60
    assert sum(abs(view.yaw) > 35 for view in views) / 600 < 0.12


def test_lab_is_narrow_and_outdoor_is_wide() -> None:
    lab, outdoor = load_domain("lab"), load_domain("outdoor")
    rooms = [sample_scene(lab, k, 0, "warm").environment.ambient_c for k in range(40)]
    assert 21.0 <= min(rooms) <= max(rooms) <= 23.0
    air = [sample_scene(outdoor, k, 0, condition).environment for k in range(40) for condition in CONDITIONS]
    assert min(e.ambient_c for e in air) < 0.0
    assert max(e.ambient_c for e in air) > 34.0
    assert max(e.sun_wm2 for e in air) > 500.0


def test_splits_are_disjoint_and_hold_people() -> None:
    ranges = list(splits.load_splits().values())
    assert {"recogniser", "generator", "validation", "test", "judges"} == set(splits.load_splits())
    for k, a in enumerate(ranges):
        assert all(not {a.start, a.stop - 1} & set(b) for b in ranges[k + 1 :])
        assert all(max(a.start, b.start) >= min(a.stop, b.stop) for b in ranges[k + 1 :])
    for name in splits.load_splits():
        assert len(splits.identities(name)) > 0
    with pytest.raises(UserError, match="judges"):
        splits.identities("train")
