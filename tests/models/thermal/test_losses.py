"""The three terms of RGB2Thermal: each against a plain computation, and the released code's defects one by one."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.classes import CLASSES, GLASSES, SKIN
from models.config import check
from models.errors import UserError
from models.tasks import thermalizer
from models.thermal import losses, prior
from models.thermal.losses import LossConfig, cut, paired_error, patch_distance, shrink

FULL = LossConfig(patches=0.01, prior=1.0, sizes=(32, 16), count=64)


def pictures(count: int = 3, size: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Smooth values [B, S, S] in [0.4, 0.8] and classes with background around a square of skin."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 5, 5, generator=draw)
    values = 0.4 + 0.4 * torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")[:, 0]
    classes = torch.zeros(count, size, size, dtype=torch.uint8)
    classes[:, 6:26, 6:26] = SKIN
    return values, classes


def new_generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_tables_are_t_fakes_on_its_scale() -> None:
    code = {name: (prior.prior_celsius(name) - 20) / 20 for name in ("warm", "cold")}
    assert code["cold"][CLASSES.index("NOSE")].item() == pytest.approx(11.5 / 20)
    assert code["warm"][CLASSES.index("BEARD")].item() == pytest.approx(12 / 20)
    assert (code["warm"] >= code["cold"]).all()
    assert code["warm"][GLASSES] == 0  # lenses are as cold as the room


def test_prior_is_the_weighted_square_of_region_means() -> None:
    values, _ = pictures(2)
    classes = torch.from_numpy(np.random.default_rng(0).integers(0, 15, values.shape, dtype=np.uint8))
    wanted = torch.linspace(0.3, 0.9, 19)
    for background in (False, True):
        total = 0.0
        for value, ids in zip(values, classes, strict=True):
            for k in range(0 if background else 1, 15):
                region = value[ids == k]
                total += float((region.mean() - wanted[k]) ** 2 * len(region) / ids.numel()) / 2
        found = prior.temperature_prior(values, classes, wanted, background=background)
        assert found.item() == pytest.approx(total, rel=1e-5)


def test_what_rims_enclose_is_glasses() -> None:
    classes = torch.full((2, 20, 20), SKIN, dtype=torch.uint8)
    classes[0, 5:15, 5:15] = GLASSES
    classes[0, 7:13, 7:13] = 4  # an eye behind a clear lens
    filled = prior.fill_lenses(classes)
    assert (filled[0, 5:15, 5:15] == GLASSES).all() and (filled == GLASSES).sum() == 100
    assert torch.equal(filled[1], classes[1])
    cold_lens = torch.where(filled == GLASSES, 0.0, 0.75)
    wanted = (prior.prior_celsius("warm") - 20) / 20
    assert prior.temperature_prior(cold_lens, classes, wanted).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("scale", ["minmax", "affine"])
def test_grey_pairs_say_nothing_of_temperature(scale: str) -> None:
    """A picture of the right pattern at any temperature has no error, and an inverted one has."""
    values, _ = pictures()
    weight = torch.ones_like(values)
    grey = (values - values.amin(dim=(1, 2), keepdim=True)) * 3 + 7
    config = LossConfig(paired_scale=scale)  # type: ignore[arg-type]
    assert paired_error(0.5 * values + 0.2, grey, weight, config).item() == pytest.approx(0.0, abs=1e-6)
    assert paired_error(1 - values, grey, weight, config).item() > 10
    radiometric = paired_error(0.5 * values + 0.2, values, weight, LossConfig())
    assert radiometric.item() == pytest.approx(float(((0.5 * values + 0.2 - values) ** 2).sum()), rel=1e-5)


@pytest.mark.parametrize("scale", ["minmax", "affine"])
def test_grey_pairs_fight_the_prior_in_the_released_code_alone(scale: str) -> None:
    """The gradient of the paired term along a change of all temperatures is zero, but for `code`."""
    values, _ = pictures()
    grey = losses.stretch(values, torch.ones_like(values, dtype=torch.bool))
    along = {}
    for fidelity in ("paper", "code"):
        shift = torch.zeros((), requires_grad=True)
        config = LossConfig(paired_scale=scale, fidelity=fidelity)  # type: ignore[arg-type]
        paired_error(values * 0.6 + 0.1 + shift, grey, torch.ones_like(values), config).backward()
        along[fidelity] = abs(float(shift.grad))  # type: ignore[arg-type]
    assert along["paper"] < 1e-3 < along["code"]


def test_patches_come_from_where_the_person_is() -> None:
    values, classes = pictures()
    found = cut(values, classes != 0, 8, 10_000, new_generator())
    assert found is not None and found.shape == (10_000, 64)
    assert (found.amax(dim=1) > 0).all()  # none of background alone
    windows = values.where(classes != 0, 0.0).unfold(1, 8, 1).unfold(2, 8, 1).reshape(-1, 64)
    known = {row.numpy().tobytes() for row in windows}
    assert all(row.numpy().tobytes() in known for row in found[:300])
    assert cut(values, classes > 30, 8, 4, new_generator()) is None


def test_patches_are_drawn_without_replacement_until_there_are_no_others() -> None:
    values = torch.arange(2 * 12 * 12, dtype=torch.float32).view(2, 12, 12)
    keep = torch.ones_like(values, dtype=torch.bool)
    corners = [cut(values, keep, 8, count, new_generator())[:, 0].tolist() for count in (50, 30, 120)]  # type: ignore[index]
    assert len(set(corners[0])) == 50 and len(set(corners[1])) == 30  # there are 2 x 5 x 5 places
    assert sorted(corners[0]) == [
        k * 144 + row * 12 + column for k in (0, 1) for row in range(5) for column in range(5)
    ]
    assert set(corners[2]) == set(corners[0]) and max(corners[2].count(one) for one in corners[0]) == 3
    assert corners[0] != sorted(corners[0])  # in random order
    other = torch.Generator().manual_seed(6)
    assert cut(values, keep, 8, 50, other)[:, 0].tolist() != corners[0]  # type: ignore[index]


def test_a_patch_shows_a_kept_pixel_and_no_other() -> None:
    values = torch.arange(1.0, 145).view(1, 12, 12)
    keep = torch.zeros_like(values, dtype=torch.bool)
    keep[0, 0, 0] = keep[0, 11, 11] = True
    found = cut(values, keep, 8, 2, new_generator())
    assert found is not None
    assert sorted(found.sum(dim=1).tolist()) == [1.0, 144.0]
    assert found[found[:, 0] > 0][0, 0] == 1 and found[found[:, 63] > 0][0, 63] == 144


def test_a_stretch_goes_from_end_to_end_of_what_counts() -> None:
    """Neither a cold background nor a hot one sets an end of it; a picture in which nothing counts stays as it is."""
    values = torch.tensor([[[-5.0, 2.0], [4.0, 3.0]], [[9.0, 2.0], [6.0, 4.0]], [[0.1, 0.2], [0.3, 0.4]]])
    keep = torch.tensor([[[False, True], [True, True]], [[False, True], [True, True]], [[False] * 2] * 2])
    found = losses.stretch(values, keep)
    torch.testing.assert_close(found[0], torch.tensor([[-3.5, 0.0], [1.0, 0.5]]))
    torch.testing.assert_close(found[1], torch.tensor([[1.75, 0.0], [1.0, 0.5]]))
    torch.testing.assert_close(found[2], values[2])
    # A row in which nothing counts is stretched as the rest of its picture.
    rows = torch.tensor([[[9.0, 1.0], [2.0, 4.0]]])
    below = torch.tensor([[[False, False], [True, True]]])
    torch.testing.assert_close(losses.stretch(rows, below), torch.tensor([[[3.5, -0.5], [0.0, 1.0]]]))
    flat = torch.full((1, 2, 2), 3.0)
    assert torch.equal(losses.stretch(flat, flat > 0), torch.zeros_like(flat))


def test_pairs_count_where_they_have_a_weight_and_as_much() -> None:
    values, target = torch.tensor([[[0.2, 0.4], [0.6, 5.0]]]), torch.tensor([[[0.1, 0.1], [0.1, 0.1]]])
    weight = torch.tensor([[[1.0, 2.0], [0.5, 0.0]]])
    assert paired_error(values, target, weight, LossConfig()).item() == pytest.approx(0.01 + 2 * 0.09 + 0.5 * 0.25)
    # Of grey pairs the pixels without weight set no end of the scale, either.
    grey = torch.tensor([[[30.0, 60.0], [90.0, -7.0]]])
    assert paired_error(values, grey, weight, LossConfig(paired_scale="minmax")).item() == pytest.approx(0, abs=1e-6)
    assert paired_error(values, grey, weight, LossConfig(paired_scale="affine")).item() == pytest.approx(0, abs=1e-6)


def test_gain_and_offset_are_the_best_that_do_not_turn_the_picture_round() -> None:
    values, target = (torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(k)) for k in (1, 2))
    target = target + torch.stack([values[0], -3 * values[1]])  # in the second picture the best gain would be negative
    weight = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(3))
    found = losses._fit_gain_and_offset(values, target, weight)
    x, y, w = (one[0].flatten().double().numpy() for one in (values, target, weight))
    gain, offset = np.polyfit(x, y, 1, w=np.sqrt(w))
    np.testing.assert_allclose(found[0].flatten(), gain * x + offset, atol=1e-5)
    mean = float((target[1] * weight[1]).sum() / weight[1].sum())
    torch.testing.assert_close(found[1], torch.full((6, 6), mean))


@pytest.mark.parametrize(
    ("key", "default", "least", "most"),
    [
        ("mse", 1.0, 0, None), ("patches", 0.0, 0, None), ("prior", 0.0, 0, None), ("blur", 1e-3, 1e-9, None),
        ("annealing", 0.5, 1e-9, 0.99), ("sweeps", 10, 1, None), ("patch", 8, 2, None), ("count", 512, 2, None),
    ],
)  # fmt: skip
def test_settings_of_the_loss_have_limits(key: str, default: float, least: float, most: float | None) -> None:
    assert getattr(LossConfig(), key) == default
    assert getattr(LossConfig(**{key: least}), key) == least  # type: ignore[arg-type]
    for wrong in (-1, least - 1 if isinstance(least, int) else 0, *(() if most is None else (1,))):
        with pytest.raises(ValueError, match="Input should be"):
            LossConfig(**{key: wrong})  # type: ignore[arg-type]
    assert LossConfig().sizes == (256, 128, 64, 32, 16)
    with pytest.raises(ValueError, match="at least 1 item"):
        LossConfig(sizes=())


def test_sizes_that_pictures_and_patches_allow_are_compared() -> None:
    """From a patch's own side to the pictures' shorter one; without any the distance is nothing, and so without a person."""
    real, classes = pictures(seed=2)
    found, person = pictures(seed=1)[0][:, :24], classes != 0

    def clouds(*sizes: int, patch: int = 8) -> int:
        config = FULL.model_copy(update={"sizes": sizes, "patch": patch})
        return len(list(losses._clouds(found, classes[:, :24], real, person, config, new_generator())))

    assert [clouds(size) for size in (7, 8, 24, 25)] == [0, 1, 1, 0] and clouds(16, 12, patch=12) == 2
    none = FULL.model_copy(update={"sizes": (64,)})
    assert patch_distance(found, classes[:, :24], real, person, none, new_generator()).item() == 0
    assert patch_distance(found, classes[:, :24] * 0, real, person, FULL, new_generator()).item() == 0
    assert patch_distance(found, classes[:, :24], real, ~person & person, FULL, new_generator()).item() == 0


def test_the_released_mask_is_inverted_or_blended_by_name() -> None:
    classes = torch.zeros(1, 8, 8, dtype=torch.uint8)
    classes[:, :, 4:] = 8
    none = LossConfig().repeats
    inverted, blended = none._replace(person_masked=True), none._replace(mask_interpolated=True)
    kept = [losses._released_mask(classes, 4, defects)[0, 0].tolist() for defects in (inverted, blended)]
    assert kept[0] == [True, True, False, False]
    assert kept[1] == [False, True, True, True]  # between background and 8 lie ids that are neither


def test_shrinking_keeps_means_and_the_shape() -> None:
    values = torch.arange(32.0).view(1, 4, 8).expand(2, 4, 8)
    keep = torch.ones(2, 4, 8, dtype=torch.bool)
    keep[1, :, :4] = False
    small, kept = shrink(values, keep, 2)
    assert small.shape == kept.shape == (2, 2, 4) and losses._smaller(values.mT, 2) == (4, 2)
    assert kept[0].all() and kept[1].tolist() == [[False, False, True, True]] * 2
    torch.testing.assert_close(small[0].mean(), torch.tensor(15.5), atol=0.01, rtol=0)
    assert (small[1][kept[1]] > values[0, 0, 3]).all()


def test_shrinking_does_not_mix_person_and_background() -> None:
    _, classes = pictures()
    painted = torch.where(classes != 0, 0.7, -50.0)
    small, keep = shrink(painted, classes != 0, 12)
    torch.testing.assert_close(small[keep], torch.full_like(small[keep], 0.7))


@pytest.mark.parametrize("solver", ["exact", "sinkhorn"])
def test_patch_distance_falls_as_distributions_meet(solver: str) -> None:
    config = FULL.model_copy(update={"solver": solver})
    found, classes = pictures(seed=1)
    real, _ = pictures(seed=2)
    person = classes != 0
    distances = [
        patch_distance(found + shift, classes, real, person, config, new_generator()).item() for shift in (0.4, 0.2, 0)
    ]
    assert distances[0] > distances[1] > distances[2] > 0
    # Two constants, `shift` apart, are shift^2 apart per pixel at every size: T-FAKE's divisors are undone.
    flat = torch.full_like(found, 0.5)
    everywhere = torch.ones_like(classes)
    constant = patch_distance(flat, everywhere, flat + 0.3, everywhere > 0, config, new_generator())
    assert constant.item() == pytest.approx(0.09, rel=1e-3)


def test_on_a_cpu_the_default_solver_is_exact() -> None:
    found, classes = pictures(seed=1)
    real, person = pictures(seed=2)[0], classes != 0
    values = {
        solver: patch_distance(
            found, classes, real, person, FULL.model_copy(update={"solver": solver}), new_generator()
        ).item()
        for solver in ("auto", "exact", "sinkhorn", "symmetric")
    }
    assert losses.LossConfig().solver == "auto"
    assert values["auto"] == values["exact"] != values["sinkhorn"]
    assert len(set(values.values())) == 3  # each solver has its own way to nearly the same


def test_the_patch_term_moves_the_person_in_the_paper_and_nothing_in_the_code() -> None:
    real, classes = pictures(seed=2)
    found = pictures(seed=1)[0].requires_grad_()
    patch_distance(found, classes, real, classes != 0, FULL, new_generator()).backward()
    assert found.grad is not None
    assert found.grad[classes != 0].abs().sum() > 0 and found.grad[classes == 0].abs().sum() == 0
    code = FULL.model_copy(update={"fidelity": "code"})
    assert not patch_distance(found, classes, real, classes != 0, code, new_generator()).requires_grad


@pytest.mark.parametrize("defect", losses.Defects._fields)
def test_every_defect_can_be_told_from_the_paper(defect: str) -> None:
    """Each named defect alone changes what it is said to change; `paper` has none and `code` has all."""
    assert not any(LossConfig().repeats) and all(LossConfig(fidelity="code").repeats)
    assert getattr(LossConfig(defects=(defect,)).repeats, defect) and sum(LossConfig(defects=(defect,)).repeats) == 1
    real, classes = pictures(seed=2)
    classes[:, 10:14, 10:14] = 13
    found = pictures(seed=1)[0].requires_grad_()

    real[:, :4] = 0.0

    def everything(*defects: str) -> tuple[float, ...]:
        config = FULL.model_copy(update={"defects": defects, "paired_scale": "minmax", "sizes": (48, 32, 16)})
        distance = patch_distance(found, classes, real, classes != 0, config, new_generator())
        pairs = paired_error(found, real, torch.ones_like(found), config)
        wanted = torch.full((19,), 0.5)
        rest = prior.temperature_prior(found, classes, wanted, background=config.repeats.background_in_prior)
        return distance.item(), float(distance.requires_grad), pairs.item(), rest.item()

    differs = [a != b for a, b in zip(everything(), everything(defect), strict=True)]
    expected = {
        "patches_without_gradient": [False, True, False, False],
        "person_masked": [True, False, False, False],
        "mask_interpolated": [True, False, False, False],
        "grey_as_temperature": [True, False, True, False],
        "background_in_prior": [False, False, False, True],
        "pairs_whole": [False, False, False, False],  # which pictures a network is shown
        "zero_is_background": [True, False, False, False],
        "sizes_enlarged": [True, False, False, False],
    }
    assert differs == expected[defect]


def batch(count: int = 4, size: int = 32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    values, classes = pictures(count, size)
    return {
        "visible": rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
        "classes": classes.numpy(),
        "thermal": (20 + 20 * values.numpy()).astype(np.float32),
        "valid": np.ones((count, size, size), bool),
        "condition": np.array(["warm", "cold"] * (count // 2)),
        "draw": np.arange(count),
        "row": np.arange(count),
    }


def config(**edits: object) -> thermalizer.Config:
    return thermalizer.Config(unet={"width": 8, "blocks": (1, 1, 1, 1)}, **edits)  # type: ignore[arg-type]


def gradient(settings: thermalizer.Config, rows: dict[str, np.ndarray]) -> tuple[list[Tensor], dict[str, float]]:
    torch.manual_seed(0)
    model = thermalizer.build(settings).train()
    total, metrics = thermalizer.loss(model, rows, settings, 0)
    total.backward()
    return [p.grad for p in model.parameters() if p.grad is not None], metrics


def test_the_released_code_trains_on_the_other_two_terms_alone() -> None:
    """Its patch term changes the logged value and no weight: with it, gradients are the same bytes as without."""
    all_defects = {"defects": losses.Defects._fields, "paired_scale": "radiometric"}
    with_patches = {"patches": 5.0, "prior": 1.0, **all_defects, "sizes": (32, 16), "count": 64}
    one, metrics = gradient(config(loss=with_patches), batch())
    other, _ = gradient(config(loss={**with_patches, "patches": 0.0}), batch())
    assert metrics["patches"] > 0
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    paper, _ = gradient(config(loss={**with_patches, "defects": ()}), batch())
    assert not all(torch.equal(a, b) for a, b in zip(paper, other, strict=True))


def test_frames_of_a_user_replace_the_pairs_in_the_patch_term() -> None:
    settings = config(loss={"patches": 1.0, "sizes": (32,), "count": 64}, data={"thermal_unpaired": "frames"})
    assert thermalizer.sides(settings)["frames"].uri.startswith("/")
    rows = batch()
    near, far = ({**rows, "frames.thermal": np.full((4, 32, 32), t, np.float32)} for t in (22.0, 44.0))
    far["frames.thermal"][:, :4] = np.nan  # no reading there
    assert gradient(settings, near)[1]["patches"] != gradient(settings, far)[1]["patches"]
    assert gradient(settings, near)[1]["mse"] == gradient(settings, far)[1]["mse"]


def test_faces_without_temperature_take_the_place_of_the_pairs() -> None:
    settings = config(loss={"prior": 1.0}, data={"faces": "somewhere"})
    rows = batch()
    faces = {"faces.visible": rows["visible"][::-1].copy(), "faces.classes": np.full_like(rows["classes"], SKIN)}
    found = gradient(settings, {**rows, **faces})[1]
    assert found["prior"] != gradient(config(loss={"prior": 1.0}), rows)[1]["prior"]
    assert found["mse"] == gradient(config(), rows)[1]["mse"]


@pytest.mark.parametrize("key", ["thermal_unpaired", "faces"])
def test_sources_without_a_term_are_refused(key: str) -> None:
    with pytest.raises(UserError, match="set loss.patches"):
        check(thermalizer.Config, {"data": {key: "somewhere"}}, "thermalizer")


def test_clipping_is_counted() -> None:
    settings = config()
    torch.manual_seed(0)
    model = thermalizer.build(settings).eval()
    torch.nn.init.constant_(model.networks["warm"].segmentation_head[0].bias, 100.0)  # type: ignore[index, union-attr]
    with torch.inference_mode():
        metrics = thermalizer.validate(model, [batch()], settings)
    assert metrics["clipped"] == pytest.approx(0.5)


def test_own_reference_takes_the_place_of_the_papers() -> None:
    mine = {"cool": dict.fromkeys(CLASSES, 25.0)}
    assert (prior.prior_celsius("cool", LossConfig(reference=mine).reference) == 25).all()
    assert prior.prior_celsius("warm")[SKIN] == 35
    with pytest.raises(ValueError, match="cool must give one temperature to each class; see SKIN"):
        LossConfig(reference={"cool": {k: v for k, v in mine["cool"].items() if k != "SKIN"}})
