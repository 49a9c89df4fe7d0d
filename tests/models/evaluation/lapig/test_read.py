"""What is read off pairs, on small arrays."""

import numpy as np

from models.classes import CLASSES
from models.evaluation.lapig.degrees import degree_errors, flatten_layers
from models.evaluation.lapig.read import degree_figures, diversity_figures, own_people_figures, region_means


def test_regions_are_compared_with_the_true_pair() -> None:
    classes = np.zeros((1, 8, 8), np.uint8)
    classes[0, :4], classes[0, 4:] = CLASSES.index("SKIN"), CLASSES.index("NOSE")
    true = np.stack([np.full((8, 8), 30.0), np.full((8, 8), 20.0)])[None]
    made = true + np.where(classes[:, None] == CLASSES.index("NOSE"), 3.0, -1.0)
    found = degree_figures(region_means(made, classes), region_means(true, classes))
    assert found["degrees_nose"] == [3.0] and found["degrees_skin"] == [1.0] and found["degrees_face"] == [2.0]
    assert np.isnan(found["degrees_ears"]).all()


def test_a_persons_only_picture_has_nothing_to_be_compared_with() -> None:
    small, features = np.arange(4.0)[:, None] * 10, np.eye(4)
    judge = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], float)
    person = np.array([5, 5, 5, 9])
    found = diversity_figures(small, features, judge, person)
    assert found["variety"][:3] == [15.0, 10.0, 15.0] and np.isnan(found["variety"][3])
    assert found["consistency"][:2] == [0.5, 0.5]
    # Looked up among the others' means: two of three find each other, the third finds somebody else.
    own = own_people_figures(judge, judge, person, (2,))
    assert own["rank1_2"][:3] == [1.0, 1.0, 0.0] and np.isnan(own["rank1_2"][3])


def test_errors_are_of_a_person_over_conditions() -> None:
    true = {
        "visible": np.zeros((2, 8, 8, 3), np.uint8), "classes": np.ones((2, 8, 8), np.uint8), "person": np.array([3, 4]),
        "celsius": np.full((2, 2, 8, 8), 30.0), "valid": np.ones((2, 2, 8, 8), bool),
    }  # fmt: skip
    rows = flatten_layers(true, ("warm", "cold"))
    assert list(rows["condition"]) == ["warm", "cold"] * 2 and rows["person"].tolist() == [3, 3, 4, 4]
    draws = np.stack([rows["thermal"] + 1, rows["thermal"] - 1])
    draws[:, 2:] += 0.5
    found = degree_errors(rows, draws)
    assert found["person"] == [3, 4] and found["mae"] == [0.0, 0.5] and found["mae_one"] == [1.0, 1.5]
