"""`loss.fidelity: code` is the authors' released training step: its three terms, computed anew from their description."""

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_fill_holes, correlate1d
from scipy.special import logsumexp
from torch import nn
from torch.nn.functional import interpolate

from models.classes import BACKGROUND, GLASSES
from models.seeds import generator
from models.tasks import thermalizer
from models.thermal.prior import PRIOR_CELSIUS
from models.thermal.wasserstein import symmetric

SIDE, ROWS, COUNT = 32, 3, 60
SIZES = (48, 32, 12)
"""The first is larger than the pictures, the last has fewer patches than are asked for."""
STILL = {
    "geometry": {"rotation": 0, "scale": (1, 1), "shift": 0, "flip": 0},
    "photometry": dict.fromkeys(("brightness", "contrast", "saturation", "grey", "blur", "noise"), 0),
}


def make_batch(seed: int = 0) -> dict[str, np.ndarray]:
    """Return pairs in degrees, far from the prior's scale, and faces with lenses, without a temperature."""
    rng = np.random.default_rng(seed)
    classes = np.zeros((2, ROWS, SIDE, SIDE), np.uint8)
    classes[:, :, 5:27, 4:28] = rng.integers(1, 19, (2, ROWS, 22, 24))
    classes[1, 0, 8:15, 8:15] = GLASSES
    classes[1, 0, 10:13, 10:13] = 4
    return {
        "visible": rng.integers(0, 256, (ROWS, SIDE, SIDE, 3), dtype=np.uint8),
        "classes": classes[0],
        "thermal": (8 + 40 * rng.random((ROWS, SIDE, SIDE))).astype(np.float32),
        "valid": np.ones((ROWS, SIDE, SIDE), bool),
        "condition": np.array(["cold"] * ROWS),
        "faces.visible": rng.integers(0, 256, (ROWS, SIDE, SIDE, 3), dtype=np.uint8),
        "faces.classes": classes[1],
        "draw": np.arange(ROWS),
        "row": np.arange(ROWS),
    }


def make_config(**loss: object) -> thermalizer.Config:
    return thermalizer.Config(
        **STILL,  # type: ignore[arg-type]
        unet={"width": 8, "blocks": (1, 1, 1, 1)},  # type: ignore[arg-type]
        thermal={"conditions": ("cold",)},  # type: ignore[arg-type]
        loss={"fidelity": "code", "sizes": SIZES, "count": COUNT, **loss},  # type: ignore[arg-type]
        data={"faces": "somewhere"},  # type: ignore[arg-type]
    )


def to_patches(pictures: np.ndarray, background: np.ndarray, draw: torch.Generator) -> np.ndarray:
    """Return 8 x 8 patches of pictures [B, h, w], background zero, none of it alone, at most `COUNT` of them."""
    windows = [
        np.lib.stride_tricks.sliding_window_view(values, (8, 8), axis=(1, 2)).reshape(-1, 64)
        for values in (np.where(background, 0.0, pictures), background)
    ]
    some = windows[0][~windows[1].all(axis=1)]
    return some[torch.randperm(len(some), generator=draw)[:COUNT].numpy()]


def resize(pictures: torch.Tensor, size: int) -> np.ndarray:
    """Return [B, S, S] resized as torchvision's Resize does tensors."""
    return interpolate(pictures[:, None], (size, size), mode="bilinear", antialias=True)[:, 0].detach().numpy()


def biased_sinkhorn(x: np.ndarray, y: np.ndarray, blur: float = 1e-3) -> float:
    """Return geomloss's value at p = 2, scaling 0.5, without debiasing: costs are halves of squares."""
    cost = ((x[:, None].astype(float) - y[None]) ** 2).sum(-1) / 2
    both = np.concatenate([x, y])
    diameter = np.linalg.norm(np.ptp(both, axis=0))
    steps = np.arange(2 * np.log(diameter), 2 * np.log(blur), 2 * np.log(0.5))

    def soft(cost: np.ndarray, h: np.ndarray, epsilon: float) -> np.ndarray:
        answer = -epsilon * logsumexp((h / epsilon - np.log(len(h))) - cost / epsilon, axis=1)
        return np.asarray(answer)

    f, g = soft(cost, np.zeros(len(y)), diameter**2), soft(cost.T, np.zeros(len(x)), diameter**2)
    for epsilon in (diameter**2, *np.exp(steps), blur**2):
        f, g = (f + soft(cost, g, epsilon)) / 2, (g + soft(cost.T, f, epsilon)) / 2
    return float(soft(cost, g, blur**2).mean() + soft(cost.T, f, blur**2).mean())


def test_symmetric_is_geomlosses_loop() -> None:
    x, y = (np.random.default_rng(k).random((40 + k, 12)) for k in range(2))
    for far in (0.0, 2.0):
        found = symmetric(*(torch.from_numpy(side)[None] for side in (x, y + far))).item()
        assert found == pytest.approx(2 * biased_sinkhorn(x, y + far), rel=1e-9)


def test_the_step_is_the_released_one() -> None:
    """Of the same random network on the same inputs: squared error, patches, prior, and the gradient of their sum."""
    rows, config = make_batch(), make_config()
    torch.manual_seed(0)
    model = thermalizer.build(config).train()
    total, metrics = thermalizer.loss(model, rows, config, 3)
    gradient = torch.autograd.grad(total, list(model.parameters()))

    network: nn.Module = model.networks["cold"]  # type: ignore[union-attr, index, assignment]
    # Pairs: the pictures as they are; thermal from 0 to 1 over each picture, whatever its degrees.
    pairs = network(torch.from_numpy(rows["visible"]).permute(0, 3, 1, 2).float() / 255)[:, 0]
    low, high = (edge(rows["thermal"], axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    thermal = torch.from_numpy((rows["thermal"] - low) / (high - low))
    squared = ((pairs - thermal) ** 2).mean()
    assert metrics["mse"] == pytest.approx(squared.item(), rel=1e-6)

    # Faces: background black, then blurred.
    classes = rows["faces.classes"]
    line = np.exp(-0.5 * (np.arange(-2, 3) / 0.5) ** 2)
    masked = np.where(classes[..., None] == BACKGROUND, 0.0, rows["faces.visible"])
    for axis in (1, 2):
        masked = correlate1d(masked, line / line.sum(), axis=axis, mode="mirror")
    made = network(torch.from_numpy(masked / 255).permute(0, 3, 1, 2).float())[:, 0]

    # Patches: real ones without pixels of exactly 0; those of faces without the *person* (its mask is inverted).
    draw, distance = generator("patches", "cold", 3, *rows["draw"]), 0.0
    for size in SIZES:
        real, ours = resize(thermal, size), resize(made, size)
        theirs = to_patches(real, real == 0, draw)
        person = resize(torch.from_numpy(classes).float(), size) != 0
        distance += biased_sinkhorn(theirs, to_patches(ours, person, draw))
    distance /= 0.5 * len(SIZES) * 64
    assert metrics["patches"] == pytest.approx(distance, rel=2e-6)

    # Prior: all regions, background too, against 20 to 40 degrees; what rims enclose is lens.
    prior = made.new_zeros(())
    for picture, ids in zip(made, classes, strict=True):
        ids = np.where(binary_fill_holes(ids == GLASSES), GLASSES, ids)
        for k, wanted in enumerate(PRIOR_CELSIUS["cold"].values()):
            region = torch.from_numpy(ids == k)
            if region.any():
                share = region.float().mean()
                prior = prior + (picture[region].mean() - (wanted - 20) / 20) ** 2 * share / ROWS
    assert metrics["prior"] == pytest.approx(prior.item(), rel=1e-6)

    # The sum, whose patch term has no gradient.
    assert total.item() == pytest.approx(squared.item() + 0.01 * distance + prior.item(), rel=1e-6)
    wanted_gradient = torch.autograd.grad(squared + prior, list(model.parameters()))
    for one, other in zip(gradient, wanted_gradient, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_pairs_stand_in_for_faces_and_are_masked_then() -> None:
    rows, config = make_batch(), make_config()
    alone = config.model_copy(update={"data": thermalizer.Sources()})
    torch.manual_seed(0)
    model = thermalizer.build(config).train()
    same = {**rows, "faces.visible": rows["visible"], "faces.classes": rows["classes"]}
    wanted, found = (thermalizer.loss(model, some, way, 0)[1] for some, way in ((same, config), (rows, alone)))
    assert found == pytest.approx(wanted)


def test_what_a_move_brings_in_is_the_coldest_and_counts() -> None:
    """The authors stretch each picture before and after it is moved; without a reading there is no error."""
    rows, config = make_batch(), make_config()
    rows["valid"][:, 10:12] = False
    rows["thermal"][:, 10:12] = np.nan
    moved = config.model_copy(update={"geometry": thermalizer.Geometry(rotation=45, scale=(0.5, 0.5), shift=0, flip=0)})
    model = thermalizer.build(config)
    matrices = torch.eye(2, 3).expand(ROWS, 2, 3)
    for factor, way in ((1.0, config), (2.0, moved)):
        target, weight, _ = thermalizer._targets(model, rows, factor * matrices, way)  # type: ignore[arg-type]
        assert (weight == 0).any() and ((weight == 0) | (weight == 1)).all()
        kept = weight > 0
        assert target.isfinite().all() and target[kept].min() == 0 and target[kept].max() == 1
    assert (target[:, 0] == 0).all() and (weight[:, 0] == 1).all()


def test_code_fills_in_what_a_configuration_leaves_open() -> None:
    config = thermalizer.Config(loss={"fidelity": "code"})  # type: ignore[arg-type]
    assert (config.loss.patches, config.loss.prior, config.loss.paired_scale) == (0.01, 1.0, "minmax")
    assert (config.thermal.low, config.thermal.high, config.thermal.blur, config.background) == (20, 40, 0.5, 1.0)
    assert (config.lr, config.betas, config.weight_decay, config.bf16, config.batch) == (
        1e-3,
        (0.9, 0.999),
        0,
        False,
        64,
    )
    own = thermalizer.Config(
        loss=thermalizer.LossConfig(fidelity="code", patches=0.0),
        thermal=thermalizer.ThermalConfig(low=10.0, conditions=("k",)),
        background=0.5,
    )
    assert (own.loss.patches, own.loss.prior, own.background) == (0.0, 1.0, 0.5)
    assert (own.thermal.low, own.thermal.high, own.thermal.conditions) == (10, 40, ("k",))
    assert thermalizer.Config.model_validate(own.model_dump()) == own
    paper = thermalizer.Config()
    assert (paper.loss.patches, paper.thermal.low, paper.background) == (0.0, 0.0, 0.1)
