"""The thermalizer's scale and stage, and the baselines against scipy-free closed forms."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.errors import UserError
from models.layers import layers_of
from models.stages import NoOptions
from models.temperature import from_centikelvin
from models.thermal.baselines import Baselines, Errors, RoomBaselines, person, room_features, skill
from models.thermal.unet.network import ThermalConfig, Thermalizer, blur, new_thermalizer, save_thermalizer
from models.thermal.unet.settings import Settings, columns
from models.thermal.unet.stage import Stage
from models.unet import UNetConfig
from models.weights.store import SmallFiles

SMALL = UNetConfig(width=8, blocks=(1, 1, 1, 1))


def rows(count: int = 6, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 4, (count, 32, 32), dtype=np.uint8)
    visible = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    condition = np.array(["warm", "cold"] * (count // 2))
    offset = np.where(condition == "warm", 1.5, 0.0)[:, None, None]
    celsius = 25 + 2.0 * classes + offset + visible[..., 0] * (4 / 255) + rng.normal(0, 0.1, classes.shape)
    valid = rng.random(classes.shape) < 0.9
    return {
        "visible": visible,
        "classes": classes,
        "condition": condition,
        "thermal": celsius.astype(np.float32),
        "valid": valid,
    }


def thermalizer(folder: Path) -> Stage:
    return Stage({"model": folder}, NoOptions(), dtype="float32", threads=1)


def test_scale_is_t_fakes_by_default_and_inverts() -> None:
    model = new_thermalizer(ThermalConfig(), SMALL)
    assert (model.config.low, model.config.high) == (20.0, 40.0)
    torch.testing.assert_close(model.to_scale(torch.tensor([10.0, 20.0, 30.0, 45.0])), torch.tensor([0, 0, 0.5, 1.0]))


def test_stage_rows_do_not_depend_on_their_neighbours(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_thermalizer(new_thermalizer(ThermalConfig(low=0, high=45), SMALL), tmp_path)
    stage, settings = thermalizer(tmp_path), Settings(layers=layers_of(["cold", "warm"]))
    data = rows()
    together = stage({k: data[k] for k in ("visible", "classes")}, settings, 4)
    alone = stage({k: data[k][5:] for k in ("visible", "classes")}, settings, 4)
    assert together["thermal"].shape == (6, 2, 32, 32) and together["thermal"].dtype == np.uint16
    np.testing.assert_array_equal(together["thermal"][5:], alone["thermal"])
    warm = stage({k: data[k] for k in ("visible", "classes")}, Settings(layers=layers_of(["warm"])), 4)
    np.testing.assert_array_equal(together["thermal"][:, 1], warm["thermal"][:, 0])  # layers lie as they are asked for
    assert not np.array_equal(together["thermal"][:, 0], together["thermal"][:, 1])
    celsius = from_centikelvin(together["thermal"])
    assert celsius.min() >= 0 and celsius.max() <= 45


def test_masked_background_cannot_change_the_answer(tmp_path: Path) -> None:
    save_thermalizer(new_thermalizer(ThermalConfig(), SMALL), tmp_path)
    stage, settings = thermalizer(tmp_path), Settings(layers=layers_of(["warm"]))
    data = rows(2)
    other = data["visible"].copy()
    other[data["classes"] == 0] = 7
    first = stage({"visible": data["visible"], "classes": data["classes"]}, settings, 2)
    second = stage({"visible": other, "classes": data["classes"]}, settings, 2)
    np.testing.assert_array_equal(first["thermal"], second["thermal"])


def test_the_masked_picture_may_be_blurred_as_the_published_one_is(tmp_path: Path) -> None:
    pictures = torch.rand(2, 3, 32, 40)
    wanted = [
        cv2.GaussianBlur(p.permute(1, 2, 0).numpy(), (5, 5), 0.5, borderType=cv2.BORDER_REFLECT_101) for p in pictures
    ]
    np.testing.assert_allclose(blur(pictures, 0.5).permute(0, 2, 3, 1), np.stack(wanted), atol=1e-6)
    sharp = new_thermalizer(ThermalConfig(mask_background=False), SMALL).eval()
    soft = Thermalizer(ThermalConfig(mask_background=False, blur=0.5), dict(sharp.networks.items())).eval()
    classes = torch.ones(2, 32, 64, dtype=torch.uint8)
    pictures = torch.rand(2, 3, 32, 64)
    assert torch.equal(
        soft.predict_scaled(pictures, classes, "warm"), sharp.predict_scaled(blur(pictures, 0.5), classes, "warm")
    )


def test_unknown_condition_is_named(tmp_path: Path) -> None:
    save_thermalizer(new_thermalizer(ThermalConfig(), SMALL), tmp_path)
    files = {"model": SmallFiles(tmp_path)}
    with pytest.raises(UserError, match="tropical.*it has: warm, cold"):
        columns(NoOptions(), Settings(layers=layers_of(["tropical"])), files)
    with pytest.raises(UserError, match="no room in degrees, so not '22.5'; it has: warm, cold"):
        columns(NoOptions(), Settings(layers=layers_of(["22.5"])), files)
    with pytest.raises(UserError, match="one picture of a condition.*samples has to be 1"):
        columns(NoOptions(), Settings(layers=layers_of(["warm"], draws=2)), files)


def test_classes_are_needed_only_where_the_background_is_masked(tmp_path: Path) -> None:
    files, settings = {"model": SmallFiles(tmp_path)}, Settings(layers=layers_of(["warm"]))
    save_thermalizer(new_thermalizer(ThermalConfig(conditions=("warm",)), SMALL), tmp_path)
    assert columns(NoOptions(), settings, files).reads == ("visible", "classes")
    save_thermalizer(new_thermalizer(ThermalConfig(conditions=("warm",), mask_background=False), SMALL), tmp_path)
    flow = columns(NoOptions(), settings, files)
    assert (flow.reads, flow.reads_if_there) == (("visible",), ("classes",))
    found = thermalizer(tmp_path)({"visible": rows(2)["visible"]}, settings, 2)
    assert set(found) == set(flow.writes) and found["thermal"].shape == (2, 1, 32, 32)


def test_baselines_are_ordered_as_what_they_know() -> None:
    baselines = Baselines([rows(seed=1), rows(seed=2)])
    test = rows(seed=3)
    mae = {}
    for name in Baselines.NAMES:
        errors = Errors()
        errors.add(test, baselines.predict(name, test))
        mae[name] = errors.summary()["mae"]
    assert mae["constant"] > mae["class_table"] > mae["class_condition"] > mae["regression"]
    assert mae["regression"] == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=0.05)  # only the noise is left
    assert skill(mae["class_condition"], mae["class_condition"], mae["oracle"]) == 0.0


def test_errors_ignore_background_and_invalid_pixels() -> None:
    test = rows(2)
    errors = Errors()
    answer = test["thermal"] + np.where((test["classes"] == 0) | ~test["valid"], 100.0, 1.0)
    errors.add(test, answer)
    found = errors.summary()
    assert found["mae"] == pytest.approx(1.0, abs=1e-4) and found["mae_offset"] == pytest.approx(0.0, abs=1e-4)


def rows_with_rooms(count: int) -> dict[str, np.ndarray]:
    """Return rows that know air, sun and wind."""
    rng = np.random.default_rng(3)
    ranges = {"ambient_c": (-5, 35), "sun_wm2": (0, 800), "wind_ms": (0, 5)}
    return rows(count) | {name: rng.uniform(low, high, count) for name, (low, high) in ranges.items()}


def test_room_baselines_are_least_squares_per_class() -> None:
    known = rows_with_rooms(24)
    known["thermal"] += (0.3 * known["ambient_c"] + 0.004 * known["sun_wm2"]).astype(np.float32)[:, None, None]
    fitted = RoomBaselines([{name: values[:12] for name, values in known.items()},
                            {name: values[12:] for name, values in known.items()}])  # fmt: skip
    # Class 2 of cold rows, by numpy's own least squares over all pixels.
    features, keep, cold = room_features(known), person(known) & (known["classes"] == 2), known["condition"] == "cold"
    for name, chosen in (("class_room", np.ones(24, bool)), ("class_condition_room", cold)):
        x = np.concatenate([features[k][None].repeat(keep[k].sum(), 0) for k in np.flatnonzero(chosen)])
        y = np.concatenate([known["thermal"][k][keep[k]] for k in np.flatnonzero(chosen)])
        weights = np.linalg.lstsq(x, y, rcond=None)[0]
        found = fitted.predict(name, known)
        for k in np.flatnonzero(chosen):
            assert np.allclose(found[k][known["classes"][k] == 2], features[k] @ weights, atol=0.02)
    # Nothing is said of a room that is not known.
    lost = {**known, "wind_ms": np.full(24, np.nan)}
    assert np.isnan(fitted.predict("class_room", lost)).all()


def test_room_baselines_of_seen_classes_count_the_pixels_of_the_true_person() -> None:
    known = rows_with_rooms(24)
    # What is seen is one class everywhere, background that is person among it: one regression over the whole person.
    known["seen_classes"] = np.zeros_like(known["classes"])
    fitted = RoomBaselines([known], "seen_classes")
    features, keep = room_features(known), person(known)
    x = np.concatenate([features[k][None].repeat(keep[k].sum(), 0) for k in range(24)])
    y = np.concatenate([known["thermal"][k][keep[k]] for k in range(24)])
    wanted = features @ np.linalg.lstsq(x, y, rcond=None)[0]
    assert np.allclose(fitted.predict("class_room", known), wanted[:, None, None], atol=0.02)
