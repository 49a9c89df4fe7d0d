"""Who is sampled: as people were chosen one by one, however they are compared; how many find room; who has changed."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import EnvironmentFault, UserError
from models.seeds import seed_of
from models.weights.bundle import Bundle, load_bundle
from pipelines.config.job import Identities
from pipelines.plan.people import sampling
from pipelines.plan.people.capacity import Capacity, chance_of_near
from pipelines.plan.people.given import GivenPeople
from pipelines.plan.people.identities import Identity, Reference, check_embedding
from pipelines.plan.people.sampling import (
    PATIENCE,
    Crowd,
    Directions,
    SampledPeople,
    choose_candidates,
    identity_id,
    sample_people,
)
from pipelines.plan.people.source import People, people_of


def one_by_one(reference: Reference, count: int, minimum_angle: float, seed: int) -> list[tuple[str, np.ndarray]]:
    """People as they were sampled at first: each candidate's embedding beside all that were accepted."""
    import torch

    limit, refused = float(np.cos(np.radians(minimum_angle))), 0
    accepted, names = np.zeros((count, 512), np.float32), list[str]()
    for index in itertools.count():
        number = torch.Generator().manual_seed(seed_of(seed, "identity", index))
        z = torch.randn(len(reference.scales), generator=number).numpy()
        vector = reference.mean + (z * reference.scales) @ reference.components
        candidate = (vector / np.linalg.norm(vector)).astype(np.float32)
        if float((accepted[: len(names)] @ candidate).max(initial=-1)) > limit:
            refused += 1
            assert refused <= PATIENCE
            continue
        accepted[len(names)], refused = candidate, 0
        names.append(identity_id(seed, index))
        if len(names) == count:
            return list(zip(names, accepted))
    raise AssertionError


@pytest.mark.parametrize("angle", [50, 55])
def test_people_are_those_who_were_sampled_one_by_one(angle: float) -> None:
    """At 55 degrees every second candidate is refused towards the end."""
    reference = Reference.of(load_bundle("starter"))
    expected, found = one_by_one(reference, 1000, angle, 7), sample_people(reference, 1000, angle, 7)
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert np.array([e for _, e in found]).tobytes() == np.array([e for _, e in expected]).tobytes()
    people = SampledPeople(reference, 1000, angle, 7)
    again = [person for block in people.blocks(300, 900) for person in block]
    assert [person.id for person in again] == [name for name, _ in expected[300:900]]
    assert all((person.embedding == vector).all() for person, (_, vector) in zip(again, expected[300:900]))


def ball(dimensions: int, mean: float = 0.0) -> Reference:
    """People evenly over a sphere of few dimensions, in skewed components that are not orthonormal."""
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(512, 512)))[0].astype(np.float32)
    skew = np.eye(dimensions, dtype=np.float32)
    if mean:
        skew[0, 1] = 0.5
    return Reference({"mean": turn[-1] * mean, "components": skew @ turn[:dimensions],
                      "scales": np.ones(dimensions, np.float32)})  # fmt: skip


def test_strangers_are_those_who_lie_outside_of_the_components() -> None:
    mean, components = np.zeros(512, np.float32), np.eye(4, 512, dtype=np.float32)
    mean[7] = 0.5
    reference = Reference({"mean": mean, "components": components, "scales": np.ones(4, np.float32)})
    away = np.zeros((4, 512), np.float32)
    away[0, 1], away[1, 9], away[2, 2], away[2, 300] = 2, 3, 0.6, 0.8
    np.testing.assert_allclose(reference.strangeness(mean + away), [0, 1, 0.64, 1], atol=1e-6)


@pytest.mark.parametrize(("dimensions", "mean"), [(3, 0.0), (8, 0.0), (8, 0.7)])
def test_directions_keep_the_angles_of_embeddings(dimensions: int, mean: float) -> None:
    reference = ball(dimensions, mean)
    embeddings = np.array([reference.sample(0, k) for k in range(50)])
    directions = Directions(reference).of(reference.numbers(0, range(50)))
    assert directions.shape[1] <= dimensions + 1
    np.testing.assert_allclose(directions @ directions.T, embeddings @ embeddings.T, atol=2e-6)


@pytest.mark.parametrize("other", [1, sampling.BLOCK + 1])
@pytest.mark.parametrize("wrong", [5e-5, -5e-5])
@pytest.mark.parametrize("near", [True, False])
def test_what_is_too_close_to_call_is_judged_by_embeddings(
    other: int, wrong: float, near: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two, in one block or not, whose directions are a little wrong; all others are copies of the first, no close call."""
    monkeypatch.setattr(sampling, "PATIENCE", 10**6)
    limit, asked = 0.6, list[tuple[int, int]]()

    def draw(first: int, size: int) -> np.ndarray:
        cosines = np.where(np.arange(first, first + size) == other, limit + wrong, 1.0)
        return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)

    def exactly(one: int, two: int) -> float:
        asked.append((one, two))
        return limit + (1e-8 if near else -1e-8)

    crowd = Crowd(draw, limit, exactly)
    for _ in range(2):
        crowd.grow()
    assert crowd.chosen == ([0] if near else [0, other])
    assert asked == [(other, 0)]


def test_nobody_is_compared_where_no_two_can_be_near(monkeypatch: pytest.MonkeyPatch) -> None:
    null = Reference.of(load_bundle("null"))
    monkeypatch.setattr(Crowd, "grow", lambda *_: pytest.fail("compared"))
    assert choose_candidates(null, 10**6, 50, 0)[-1] == 10**6 - 1
    assert len(sample_people(Reference.of(load_bundle("starter")), 1, 0.0, 3)) == 1
    with pytest.raises(pytest.fail.Exception, match="compared"):
        choose_candidates(null, 10**6, 80, 0)


@pytest.mark.parametrize(("values", "far", "angle"), [((1.0,) * 6, 0.0, 40), ((2.0, 1.0, 1.0, 0.5, 0.5), 0.0, 30),
                                                      ((1.0,) * 12, 0.6, 55), ((1.0,) * 12, 2.0, 40)])  # fmt: skip
def test_the_chance_of_two_near_is_no_larger_than_its_bound(
    values: tuple[float, ...], far: float, angle: float
) -> None:
    random, size = np.random.default_rng(0), 2000
    mean, spread = np.full(len(values), far / np.sqrt(len(values))), np.diag(values)
    people = mean + random.normal(size=(2, size, len(values))) @ spread
    one, other = people / np.linalg.norm(people, axis=-1, keepdims=True)
    seen = float((one @ other.T > np.cos(np.radians(angle))).mean())
    bound = chance_of_near(mean, spread, angle)
    assert 0 < seen <= bound < 1


def test_the_bound_of_isotropic_people_is_that_of_a_cap() -> None:
    cap = (1 - np.cos(np.radians(50)) ** 2) ** 256
    assert cap / 10 < chance_of_near(np.zeros(512), np.eye(512), 50) < cap * 100


@pytest.mark.parametrize(
    ("far", "spread", "angle", "expected"),
    [((0.0,) * 64, (1.0,) * 64, 50, 4.311437e-07), ((0.3, 0, 0.1, 0.2, 0, 0.4), (2, 1.5, 1, 1, 0.5, 0.25), 30, 0.8081150),
     ((0.9, 0, 0.3, 0.6, 0, 1.2), (2, 1.5, 1, 1, 0.5, 0.25), 20, 0.8923182), ((0.2,) * 24, (1.0,) * 24, 60, 0.3859296)],
)  # fmt: skip
def test_the_bound_is_as_tight_as_it_was(
    far: tuple[float, ...], spread: tuple[float, ...], angle: float, expected: float
) -> None:
    """A looser one would compare people who cannot be near, by the million."""
    assert chance_of_near(np.array(far), np.diag(np.array(spread)), angle) == pytest.approx(expected, rel=1e-5)
    assert chance_of_near(np.array(far), np.zeros((len(far), 2)), angle) == 1


def test_room_is_read_off_the_line_and_back() -> None:
    found = Capacity(slope=0.5, offset=1.0, cosines=np.array([0.9, 0.8, 0.7, 0.6]), pairs=100)
    assert found.at(40) == pytest.approx(np.exp(0.5 * np.log(100 / 2) + 1))  # two pairs of a hundred are nearer
    assert found.at(80) == pytest.approx(np.exp(0.5 * np.log(100 / 4) + 1))
    assert found.at(10) == float("inf")
    # 14, 16 and 20 people have room at the angles of the last, third and second pair; nobody is asked beyond the fourth.
    assert [found.angle(count) for count in (1, 14, 16, 20, 1000)] == [53, 53, 45, 36, 25]


def test_a_count_that_finds_no_room_is_said_early_with_what_would_do() -> None:
    """Caps on a sphere, thrown at random, end when they cover 0.547 of it: discs' jamming, of which patience sees most."""
    sphere, angle = ball(3), 4.0
    jammed = 0.547 * 2 / (1 - np.cos(np.radians(angle / 2)))
    capacity = Directions(sphere).capacity()
    assert 0.8 * jammed < capacity.at(angle) < 1.1 * jammed
    assert capacity.angle(int(capacity.at(angle))) in (3, 4)
    assert capacity.angle(int(4 * jammed)) in (1, 2)  # half the angle, four times the people
    told = (
        r"about (\d+) of 20000 identities are 4 degrees apart.*Lower identities.minimum_angle to 1 or identities.count"
    )
    with pytest.raises(UserError, match=told):
        choose_candidates(sphere, 20_000, angle, 0)


def test_where_few_find_room_sampling_gives_up_and_says_after_how_many() -> None:
    with pytest.raises(UserError, match=r"only [1-9] of 50 .* \(400 candidates in a row were too near\)"):
        choose_candidates(ball(3), 50, 80, 0)


@pytest.mark.parametrize(("refused", "takes"), [(400, True), (401, False)])
def test_whoever_comes_after_too_many_were_refused_is_not_taken(refused: int, takes: bool) -> None:
    directions = np.tile(np.array([1, 0], np.float32), (512, 1))
    directions[refused + 1] = 0, 1
    crowd = Crowd(lambda first, size: directions, 0.5)
    crowd.grow()
    assert crowd.chosen == ([0, refused + 1] if takes else [0])


@pytest.mark.parametrize(("cosine", "takes"), [(0.5, True), (0.5001, False)])
def test_whoever_is_just_as_far_as_asked_for_is_taken(cosine: float, takes: bool) -> None:
    directions = np.tile(np.array([1, 0], np.float32), (512, 1))
    directions[1] = 0.5, np.sqrt(0.75)
    crowd = Crowd(lambda first, size: directions, 0.5, lambda one, other: cosine if {one, other} == {0, 1} else 1.0)
    crowd.grow()
    assert crowd.chosen == ([0, 1] if takes else [0])


def test_as_many_in_a_row_may_be_refused_as_patience_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the first block are alike, and so are all of the second."""
    monkeypatch.setattr(sampling, "PATIENCE", sampling.BLOCK - 1)
    blocks = iter(([1, 0], [0, 1]))
    monkeypatch.setattr(Directions, "of", lambda *_: np.tile(np.array(next(blocks), np.float32), (sampling.BLOCK, 1)))
    assert choose_candidates(ball(3), 2, 50, 0).tolist() == [0, sampling.BLOCK]


@pytest.mark.parametrize(("room", "enough"), [(280, True), (220, False)])
def test_an_estimate_may_be_a_little_too_small(room: int, enough: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sphere has room for 440 people 8 degrees apart, whatever is estimated."""
    monkeypatch.setattr(sampling, "EARLY", 10)
    estimate = SimpleNamespace(at=lambda angle: room, angle=lambda count: 4)
    monkeypatch.setattr(Directions, "capacity", lambda *_: estimate)
    if enough:
        assert len(choose_candidates(ball(3), 300, 8, 0)) == 300
        return
    with pytest.raises(UserError, match=r"about \d+ of 300 identities.*Lower identities.minimum_angle to 4"):
        choose_candidates(ball(3), 300, 8, 0)


def test_how_many_find_room_is_not_asked_while_most_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Directions, "capacity", lambda *_: pytest.fail("estimated"))
    assert choose_candidates(ball(8), 2000, 12, 0)[-1] > 1999


def test_asking_for_more_keeps_the_first() -> None:
    reference = Reference.of(load_bundle("starter"))
    few, more = (choose_candidates(reference, count, 60, 0) for count in (100, 700))
    assert (few == more[:100]).all() and len(set(more)) == 700


def test_sampled_people_are_proved_without_drawing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reference, "numbers", lambda *_: pytest.fail("drawn"))
    reference = Reference.of(load_bundle("starter"))
    digests = [SampledPeople(reference, 10, 50, 0).digest(0, 5), SampledPeople(reference, 99, 50, 0).digest(0, 5)]
    assert digests[0] == digests[1]
    other = Reference({**reference.tensors, "mean": reference.tensors["mean"] * 2})
    changed = [SampledPeople(reference, 9, 51, 0), SampledPeople(reference, 9, 50, 1), SampledPeople(other, 9, 50, 0)]
    assert len({digests[0], *(people.digest(0, 5) for people in changed)}) == 4


def file_of(path: Path, count: int, kind: str = "double", group: int = 100, **changed: str) -> str:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(count, 512))
    words = [changed.get(f"p{k}") for k in range(count)]
    table = {
        "identity_id": [f"p{k}" for k in range(count)],
        "embedding": pa.array(list(vectors), pa.list_(pa.type_for_alias(kind))),
        "attributes": pa.array(words, pa.string()),
    }
    pq.write_table(pa.table(table), path, row_group_size=group)
    return str(path)


def everyone(people: People, start: int, stop: int) -> list[Identity]:
    return [person for block in people.blocks(start, stop) for person in block]


def test_given_people_come_in_blocks_as_each_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.plan.people.given.BLOCK", 7)
    path = file_of(tmp_path / "a.parquet", 40, p3='{"sex": "man"}')
    people = GivenPeople(path)
    rows = pq.read_table(path).to_pylist()
    for start, stop in ((0, 40), (5, 6), (7, 21), (39, 40)):
        found = everyone(people, start, stop)
        assert [person.id for person in found] == [row["identity_id"] for row in rows[start:stop]]
        alone = [check_embedding(row["embedding"], "") for row in rows[start:stop]]
        assert np.array([person.embedding for person in found]).tobytes() == np.array(alone).tobytes()
    assert everyone(people, 3, 4)[0].given == {"sex": "man"}
    assert len(GivenPeople(path, 9)) == 9


def test_a_digest_is_of_people_not_of_how_a_file_lies(tmp_path: Path) -> None:
    first = GivenPeople(file_of(tmp_path / "a.parquet", 40))
    again = GivenPeople(file_of(tmp_path / "b.parquet", 50, group=3, p45='{"sex": "man"}'))
    assert first.digest(0, 40) == again.digest(0, 40) and len(again) == 50
    single = GivenPeople(file_of(tmp_path / "c.parquet", 40, kind="float"))
    assert first.digest(0, 40) == single.digest(0, 40)
    told = GivenPeople(file_of(tmp_path / "d.parquet", 40, p7='{"sex": "man"}'))
    assert first.digest(0, 7) == told.digest(0, 7) and first.digest(7, 8) != told.digest(7, 8)
    folder = tmp_path / "folder"
    folder.mkdir()
    file_of(folder / "a.parquet", 40)
    assert GivenPeople(str(folder)).digest(0, 40) == first.digest(0, 40)


def test_words_are_read_off_given_people_and_given_ones_win(bundle: Bundle, tmp_path: Path) -> None:
    path = file_of(tmp_path / "a.parquet", 4, p1='{"sex": "man"}')
    found = everyone(people_of(Identities(source=path), bundle, 0), 0, 4)
    assert all(set(person.estimated) == {"sex"} and not person.sampled for person in found)
    assert found[1].words["sex"] == "man"


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("mean", np.zeros(511, np.float32), r"'mean' of shape \(511,\) instead of \(512,\)"),
        ("mean", np.full(512, np.nan, np.float32), "no finite numbers"),
        ("components", np.zeros((0, 512), np.float32), "'scales' of shape"),
        ("components", np.zeros((4, 513), np.float32), r"\(4, 513\) instead of \(4, 512\)"),
        ("components", np.float32(1), "'components' of shape"),
        ("scales", np.zeros(3, np.float32), r"\(3,\) instead of \(4,\)"),
        ("scales", np.zeros(4, np.int64), "no finite numbers"),
        ("probe.sex.weight", np.zeros((3, 512), np.float32), r"\(3, 512\) instead of \(2, 512\)"),
        ("probe.age.bias", np.zeros(3, np.float32), "has no tensor 'probe.age.weight'"),
    ],
)
def test_a_reference_of_wrong_shapes_is_named(name: str, tensor: np.ndarray, words: str) -> None:
    whole = {"mean": np.zeros(512, np.float32), "components": np.eye(4, 512, dtype=np.float32),
             "scales": np.ones(4, np.float32)}  # fmt: skip
    Reference(whole)
    with pytest.raises(ValueError, match=words):
        Reference({**whole, name: np.asarray(tensor)})


def test_a_bundle_whose_reference_cannot_be_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = load_bundle("starter")
    monkeypatch.setattr("models.faces.settings.reference", lambda *_: {"mean": np.zeros(3, np.float32)})
    with pytest.raises(EnvironmentFault, match=f"bundle {bundle.name} has the tensor 'mean' of shape"):
        Reference.of(bundle)
