"""ArcFace, the recogniser task and the metrics against direct formulas."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from models.card import Card
from models.errors import UserError
from models.faces.align import TEMPLATE, fit_similarities, five_points
from models.faces.metrics import count_recalled, gallery_split, iou, rank_one, threshold_at, verification
from models.faces.recogniser import arcface_logits
from models.synthworld.sampling.splits import identities
from models.tasks import recogniser
from models.tasks.judges import identity as judge


def test_arcface_is_the_cosine_of_angle_plus_margin() -> None:
    angles = torch.tensor([[0.3, 1.2, 2.0], [1.0, 2.5, 0.1]], dtype=torch.float64)
    labels = torch.tensor([1, 0])
    logits = arcface_logits(angles.cos(), labels, 0.4, 32.0)
    expected = angles.clone()
    expected[0, 1] += 0.4
    expected[1, 0] += 0.4
    torch.testing.assert_close(logits, 32 * expected.cos())


def test_arcface_stays_monotonic_past_pi() -> None:
    angle = torch.linspace(0.01, torch.pi - 0.01, 500, dtype=torch.float64)[:, None]
    logits = arcface_logits(angle.cos(), torch.zeros(500, dtype=torch.int64), 0.5, 1.0)[:, 0]
    assert (logits.diff() < 0).all()


def test_arcface_gradient() -> None:
    cosines = torch.rand(3, 5, dtype=torch.float64) * 1.8 - 0.9
    cosines.requires_grad_()
    labels = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(lambda c: arcface_logits(c, labels, 0.3, 8.0), (cosines,))


def test_five_points_are_eyes_nose_and_mouth() -> None:
    landmarks = np.zeros((70, 2), np.float32)
    landmarks[36:42, 0], landmarks[42:48, 0] = 10, 20
    landmarks[30], landmarks[48], landmarks[54] = (15, 5), (12, 9), (18, 9)
    assert five_points(landmarks).tolist() == [[10, 0], [20, 0], [15, 5], [12, 9], [18, 9]]


def test_similarity_undoes_a_similarity() -> None:
    angle, scale = 0.3, 0.7
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = TEMPLATE @ turn.T + np.array([5.0, -3.0])
    matrix = fit_similarities(moved[None])[0]
    np.testing.assert_allclose(moved @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-4)


def rows(config: recogniser.Config, count: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(30, 100, (count, 70, 2)).astype(np.float32)
    return {
        "world_identity": identities(config.split).start + np.arange(count) % 4,
        "visible": rng.integers(0, 256, (count, 128, 128, 3), dtype=np.uint8),
        "landmarks_70": landmarks,
    }


@pytest.mark.slow
@pytest.mark.parametrize("task", [recogniser, judge])
def test_a_recogniser_learns_and_exports(task, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = task.Config(steps=10, batch=12, classes=4, margin=0.0)
    model = task.build(config)
    batch = {**task.prepare(rows(config), config), "draw": np.arange(12)}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for step in range(6):
        value, metrics = task.loss(model, batch, config, step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < losses[0] / 2
    assert set(metrics) == {"accuracy", "margin", "traits"}
    model.eval()
    with torch.inference_mode():
        assert 0 <= task.validate(model, [rows(config)], config)["score"] <= 1
        crops = torch.randn(3, 3, 112, 112)
        mine = model.embedder(crops).numpy()
    task.export(model, config, tmp_path, Card(title="a recogniser", task="recogniser"))
    theirs = ort.InferenceSession(str(tmp_path / config.file)).run(None, {"input": crops.numpy()})[0]
    assert theirs.shape == (3, 512)
    np.testing.assert_allclose(mine, theirs, atol=5e-2 * np.abs(mine).max())
    assert Card.read(tmp_path).parameters > 1e5


def test_the_same_draw_gives_the_same_crop() -> None:
    from models.augment.crop import CropAugmentation, augment_crop

    config = recogniser.Config()
    batch = recogniser.prepare(rows(config), config)
    picture, points = batch["visible"][0], batch["points"][0]
    first, again, other = (augment_crop(picture, points, draw, CropAugmentation()) for draw in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_people_outside_the_classes_are_refused() -> None:
    config = recogniser.Config(classes=2)
    with pytest.raises(UserError, match="not among the first 2"):
        recogniser.prepare(rows(config), config)


def test_judge_has_other_people_and_another_network() -> None:
    ours, theirs = recogniser.Config(), judge.Config()
    assert not set(identities(ours.split)) & set(identities(theirs.split))
    assert ours.architecture != theirs.architecture
    assert ours.seed != theirs.seed


def test_verification_equals_brute_force() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(30), 4)
    vectors = rng.normal(size=(30, 16))[people] + rng.normal(size=(120, 16)) * 0.8
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    genuine, impostor = [], []
    for i in range(120):
        for j in range(i + 1, 120):
            (genuine if people[i] == people[j] else impostor).append(float(unit[i] @ unit[j]))
    result = verification(vectors, people, 0.01, rounds=50)
    assert result.genuine == len(genuine)
    assert result.impostor == len(impostor)
    limit = sorted(impostor, reverse=True)[int(0.01 * len(impostor))]
    assert result.threshold == pytest.approx(limit, abs=1e-6)
    assert result.tar == pytest.approx(np.mean(np.array(genuine) > limit), abs=1e-9)
    assert np.mean(np.array(impostor) > result.threshold) <= 0.01
    assert result.low < result.tar < result.high


def test_the_interval_is_of_people_drawn_with_replacement() -> None:
    """Round by round as it is written: a pair is there as often as both its people were drawn."""
    rng, draws = np.random.default_rng(1), np.random.default_rng(0)
    people = np.repeat(np.arange(8), 3)
    unit = rng.normal(size=(8, 6))[people] + rng.normal(size=(24, 6)) * 0.8
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    rates = []
    for _ in range(30):
        often = np.bincount(draws.integers(0, 8, 8), minlength=8)
        genuine, impostor = list[float](), list[float]()
        for i in range(24):
            for j in range(i + 1, 24):
                same = people[i] == people[j]
                pairs = genuine if same else impostor
                pairs += [float(unit[i] @ unit[j])] * int(often[people[i]] * (1 if same else often[people[j]]))
        limit = sorted(impostor, reverse=True)[int(0.05 * len(impostor))]
        rates.append(np.mean(np.array(genuine) > limit + 1e-9))
    result = verification(unit, people, 0.05, rounds=30)
    np.testing.assert_allclose((result.low, result.high), np.percentile(rates, [2.5, 97.5]), atol=1e-6)
    assert result.low < result.high


def test_threshold_is_not_passed_by_more_than_its_share() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert threshold_at(values, 0.2) == 0.4
    assert threshold_at(values, 0.0) == 0.5


def test_rank_one_and_its_gallery() -> None:
    people = np.array([3, 3, 5, 5, 9, 9])
    gallery, probes = gallery_split(people, 2)
    assert gallery.tolist() == [0, 2]
    assert probes.tolist() == [1, 3]
    vectors = np.eye(6)[[0, 0, 1, 1, 2, 2]]
    assert rank_one(vectors[gallery], people[gallery], vectors[probes], people[probes]) == 1.0


def test_iou_and_recall() -> None:
    truth = np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    found = np.array([[0.0, 0, 10, 5], [1, 1, 11, 11], [20, 20, 30, 30]])
    np.testing.assert_allclose(iou(found, truth)[0], [0.5, 0.0])
    assert count_recalled(found, truth) == 2
    assert count_recalled(found[:0], truth) == 0
    assert count_recalled(np.repeat(truth[:1], 3, axis=0), truth) == 1


def test_the_evaluation_tells_people_apart_by_name(random_pack: Path) -> None:
    from models.evaluation.faces import evaluate_recogniser

    config = recogniser.Config()
    shown = {**rows(config), "bbox": np.tile(np.array([[30.0, 25, 95, 105]], np.float32), (12, 1))}
    shown["identity_id"] = np.array([f"person {k % 4}" for k in range(12)], object)
    found = evaluate_recogniser(random_pack, [shown], threads=1, rounds=10)
    assert found["pictures"] == 12
    assert found["people"] == 4
    assert found["impostor_pairs"] == 12 * 11 / 2 - 4 * 3
    assert {"grey_tar_at_far_1e-3", "detected_tar_at_far_1e-3", "recall_iou_0.5"} <= set(found)
    assert "rank1_of_100" not in found


def test_a_recogniser_starts_from_an_earlier_embedder_and_reads_measures(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    before = recogniser.build(recogniser.Config(classes=2))
    save_file(before.state_dict(), tmp_path / "model.safetensors")
    config = recogniser.Config(classes=4, start=str(tmp_path / "model.safetensors"))
    model = recogniser.build(config)
    torch.testing.assert_close(model.embedder.state_dict(), before.embedder.state_dict())
    batch = {**recogniser.prepare(rows(config), config), "draw": np.arange(12)}
    same, other = (
        batch["traits"][batch["label"] == batch["label"][0]],
        batch["traits"][batch["label"] != batch["label"][0]],
    )
    assert (same == same[0]).all() and (other != same[0]).any()
    value, metrics = recogniser.loss(model, batch, config, 0)
    plain, _ = recogniser.loss(model, batch, config.model_copy(update={"traits_weight": 0.0}), 0)
    assert metrics["traits"] > 0 and value > plain
    with pytest.raises(UserError, match="start="):
        recogniser.build(recogniser.Config(start="nowhere.safetensors"))
