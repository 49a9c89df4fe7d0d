"""How the parts of true faces differ from the whole, and whether the figures that lie beside the gate are the world's."""

import numpy as np
import pytest

from models.classes import CLASSES
from models.gates.measure_regions import FIRST, measure, summarise
from models.gates.regions import ANY, BANDS, PARTS, band_of, most_deviations, part_differences, spread_in
from models.synthworld.sampling import splits


def test_a_part_is_compared_with_the_whole_face() -> None:
    classes = np.full((8, 8), CLASSES.index("SKIN"), np.uint8)
    classes[:2], classes[7, :3] = CLASSES.index("NOSE"), CLASSES.index("LEFT_EYE")
    celsius = np.where(classes == CLASSES.index("NOSE"), 30.0, 34.0).astype(np.float32)
    # Of the eyes there are too few pixels.
    assert part_differences(celsius, classes) == {"nose": pytest.approx(-3.0)}
    assert part_differences(celsius, np.zeros((8, 8), np.uint8)) == {}
    celsius[0, 0] = np.nan
    assert np.isnan(most_deviations(part_differences(celsius, classes), "warm"))


def test_every_condition_has_figures() -> None:
    names = ["warm", "cold", "hot", ANY, *("-20", "5", "15", "25", "35")]
    assert all(spread > 0 for name in names for _, spread in spread_in(name).values())
    assert all(spread_in(name).keys() == PARTS.keys() for name in names)
    assert spread_in("hot") == spread_in(ANY) != spread_in("warm")
    assert [band_of(air) for air in (-5, 0, 9.9, 30)] == ["below 0", "0 to 10", "0 to 10", "from 30"]
    # Noses cool first: the colder the air, the further below the face.
    noses = [spread_in(str(air))["nose"][0] for air in (-5, 5, 15, 25, 35)]
    assert noses == sorted(noses) and len(noses) == len(BANDS) + 1


def test_figures_are_of_mean_and_deviation() -> None:
    parts = dict.fromkeys(PARTS, 1.0)
    found = summarise([("warm", 25.0, parts)], [("cold", 12.0, parts | {"nose": -3.0})])
    assert found.keys() == {"warm", "10 to 20", ANY}
    assert found[ANY]["nose"] == (-1.0, 2.0) and found["warm"]["ears"] == (1.0, 0.0)
    assert most_deviations({"nose": spread_in("warm")["nose"][0]}, "warm") == 0 == most_deviations({}, "warm")


@pytest.mark.slow
def test_true_faces_of_other_people_are_within_a_few_deviations() -> None:
    people = splits.identities("test")[:12]
    off = [most_deviations(parts, word) for word, _, parts in measure("portrait", people)]
    assert len(off) == 24 and np.median(off) < 2 and np.mean(np.array(off) < 4) > 0.8
    assert not set(people) & set(splits.identities("generator")[FIRST:])
