"""The reference distribution: sampled people look like those it was fitted on, and the words come back."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from models.faces.reference import fit, fit_measures, fit_principal, fit_ridge, mean_embeddings


def world(people: int, views: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit embeddings of a 20-dimensional population with two groups, with some noise from view to view."""
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(512, 20)))[0].T
    codes = random.normal(size=(people, 20))
    group = (codes[:, 0] > 0).astype(int)
    vectors = np.repeat(codes @ basis, views, axis=0) + random.normal(size=(people * views, 512)) * 0.05
    embeddings = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return embeddings, np.repeat(np.arange(people), views), np.repeat(group, views)


def test_the_distribution_is_that_of_the_people() -> None:
    embeddings, identity, _ = world(400, 4)
    people = mean_embeddings(embeddings, identity)
    found = fit_principal(people, explained=0.98)
    assert 18 <= len(found["scales"]) <= 40
    assert np.allclose(found["components"] @ found["components"].T, np.eye(len(found["scales"])), atol=1e-5)
    z = np.random.default_rng(1).normal(size=(400, len(found["scales"])))
    sampled = found["mean"] + (z * found["scales"]) @ found["components"]
    true, made = (np.sort(np.linalg.eigvalsh(np.cov(x.T)))[-18:] for x in (people, sampled))
    assert np.allclose(made / true, 1, atol=0.3)


def test_probes_are_measured_on_people_they_have_not_seen() -> None:
    embeddings, identity, group = world(400, 4)
    words = np.array(["left", "right"])[group]
    tensors, metrics = fit(embeddings, identity, {"side": words}, {"side": ("left", "right")})
    assert metrics["side_accuracy"] > 0.9 > metrics["side_prior"]
    scores = embeddings @ tensors["probe.side.weight"].T + tensors["probe.side.bias"]
    assert (scores.argmax(1) == group).mean() > 0.95
    shuffled = np.random.default_rng(2).permutation(400).repeat(4) % 2
    _, chance = fit(embeddings, identity, {"side": np.array(["left", "right"])[shuffled]}, {"side": ("left", "right")})
    assert chance["side_accuracy"] < 0.65
    # Words that a probe can learn by heart, one at random for each picture: people whom it knows would all be read.
    few, who = embeddings[:200], identity[:200]
    by_heart = np.array(["left", "right"])[np.random.default_rng(4).integers(0, 2, 200)]
    _, chance = fit(few, who, {"side": by_heart}, {"side": ("left", "right")})
    assert chance["side_accuracy"] < 0.8


def test_measures_are_read_and_measured_on_people_that_took_no_part(tmp_path: Path) -> None:
    embeddings, identity, _ = world(400, 4)
    truth = mean_embeddings(embeddings, identity)[:, :3] * 20
    tensors, metrics = fit_measures(embeddings, identity, truth.repeat(4, axis=0))
    assert metrics["measures_explained"] > 0.9
    found = mean_embeddings(embeddings, identity) @ tensors["measures.weight"].T + tensors["measures.bias"]
    assert np.corrcoef(found[:, 0], truth[:, 0])[0, 1] > 0.95
    save_file(tensors, tmp_path / "reference.safetensors")
    kept = load_file(tmp_path / "reference.safetensors")
    assert all(np.array_equal(kept[name], tensors[name]) for name in tensors)
    _, chance = fit_measures(embeddings, identity, np.random.default_rng(3).permutation(truth).repeat(4, axis=0))
    assert chance["measures_explained"] < 0.1


def test_ridge_is_least_squares_where_its_penalty_is_small() -> None:
    random = np.random.default_rng(0)
    x, weight = random.normal(size=(200, 8)) * 10, random.normal(size=(2, 8))
    found, bias = fit_ridge(x, x @ weight.T + [1.0, -2.0])
    np.testing.assert_allclose(found, weight, atol=1e-3)
    np.testing.assert_allclose(bias, [1.0, -2.0], atol=1e-2)
