"""Packed people: farther apart than those who are drawn, of the same distribution, and the same however many are asked for."""

import numpy as np
import pytest

from models.errors import UserError
from models.evaluation.lapig.distances import nearest_angles
from models.weights.bundle import load_bundle
from pipelines.config.job import Identities
from pipelines.plan.people import packing
from pipelines.plan.people.identities import Reference
from pipelines.plan.people.packing import MOST, PackedPeople, pack_people
from pipelines.plan.people.sampling import SampledPeople
from pipelines.plan.people.source import people_of


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "BLOCK", 16)
    monkeypatch.setattr(packing, "STEPS", 30)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.of(load_bundle("starter"))


def test_packed_people_are_farther_apart_and_of_the_distribution(reference: Reference) -> None:
    packed, drawn = pack_people(reference, 40, 0, 7), reference.numbers(7, range(48))
    angles = nearest_angles(np.stack([reference.embedding(one) for one in packed]))
    assert angles.min() > nearest_angles(np.stack([reference.embedding(one) for one in drawn[:40]])).min() + 10
    # Each person stays as far from the mean as it was drawn.
    np.testing.assert_allclose(np.linalg.norm(packed, axis=1), np.linalg.norm(drawn[:40], axis=1), rtol=1e-3)


def test_a_block_comes_near_the_most_that_its_people_can_be_apart(reference: Reference) -> None:
    """No 16 directions are farther apart than the corners of a simplex, whose cosines are -1/15."""
    angles = nearest_angles(np.stack([reference.embedding(one) for one in pack_people(reference, 16, 0, 7)]))
    most = np.degrees(np.arccos(-1 / 15))
    assert most - 4 < angles.min() <= most


def test_more_people_keep_the_first(reference: Reference) -> None:
    few, many = pack_people(reference, 10, 0, 7), pack_people(reference, 40, 0, 7)
    np.testing.assert_array_equal(few, many[:10])
    people = PackedPeople(reference, 40, 30, 7)
    part = [person for block in people.blocks(15, 20) for person in block]
    assert [person.id for person in part] == [packing.packed_id(7, index) for index in range(15, 20)]
    np.testing.assert_array_equal(part[0].embedding, reference.embedding(many[15]))
    assert people.digest(0, 10) == PackedPeople(reference, 10, 30, 7).digest(0, 10) != people.digest(0, 11)
    assert people.digest(0, 10) != SampledPeople(reference, 40, 30, 7).digest(0, 10)


def test_an_angle_that_is_not_reached_is_refused_with_the_one_that_is(reference: Reference) -> None:
    with pytest.raises(UserError, match=r"packed, 20 identities are \d+\.\d degrees apart.*minimum_angle to \d+ or"):
        pack_people(reference, 20, 89, 7)
    with pytest.raises(UserError, match="rejection takes any number"):
        PackedPeople(reference, MOST + 1, 50, 7)


def test_a_job_chooses_how_people_are_sampled() -> None:
    bundle = load_bundle("starter")
    found = people_of(Identities(count=3, sampling="packing", words={"sex": "woman"}), bundle, 0)
    assert isinstance(found, PackedPeople) and found.words == {"sex": "woman"}
    assert isinstance(people_of(Identities(count=3), bundle, 0), SampledPeople)


def test_people_of_later_blocks_are_held_to_the_angle_alone(reference: Reference) -> None:
    """Who is packed beside them to fill the last block is not asked for, so nobody is refused for their sake."""
    from pipelines.plan.people.packing import BLOCK, Directions

    count = BLOCK + 3
    packed = pack_people(reference, count, 0, 7)
    directions = Directions(reference).of(packed)
    cosines = directions @ directions.T - 2 * np.eye(count)
    nearest = float(np.degrees(np.arccos(cosines.max())))
    pack_people(reference, count, nearest - 0.01, 7)
    with pytest.raises(UserError, match="degrees apart"):
        pack_people(reference, count, nearest + 0.01, 7)
