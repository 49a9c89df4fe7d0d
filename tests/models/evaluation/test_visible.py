"""What the judge's numbers mean."""

import numpy as np
import pytest

from models.evaluation import visible
from models.evaluation.faces import to_grey
from models.evaluation.visible import _rank_one


def test_rank_one_counts_missing_faces_as_failures():
    gallery = np.eye(4, 512, dtype=np.float32)
    probes = gallery.copy()
    assert _rank_one(probes, gallery) == 1.0
    probes[0] = np.nan
    probes[3] = gallery[2]
    assert _rank_one(probes, gallery) == 0.5
    probes[:] = np.nan
    assert _rank_one(probes, gallery) == 0.0


def test_what_is_looked_up_holds_nothing_of_the_answer(monkeypatch, tmp_path):
    """The model is asked by the other views alone, and so is the gallery that the last view is looked up in."""
    count, views = 3, 4
    shown = visible.People(
        np.zeros((count, views, 8, 8, 3), np.uint8), np.zeros((count, views, 70, 2)), ["words"] * count
    )
    # Each view of each person has a direction of its own: the last one is like no other.
    vectors = np.eye(count * views, 512, dtype=np.float32)
    monkeypatch.setattr(visible.cache, "embed_pictures", lambda pictures, points, folder: vectors)
    monkeypatch.setattr(visible.cache, "embed_crops", lambda crops, folder: vectors[views - 1 :: views][: len(crops)])
    monkeypatch.setattr(visible, "align", lambda pictures, points: pictures)
    asked = []

    def stage(rows, settings, batch):
        asked.append(rows["embedding"])
        return {"visible": shown.pictures[:, 0]}

    class Finder:
        def __init__(self, *_):
            pass

        def __call__(self, rows, options, batch):
            return {"faces": np.ones(count, int), "found_embedding": asked[0], "keypoints": np.zeros((count, 5, 2))}

    monkeypatch.setattr(visible, "Faces", Finder)
    found = visible.measure(stage, visible.Settings(), tmp_path, tmp_path, shown)
    np.testing.assert_allclose(asked[0][0, :views], [3**-0.5, 3**-0.5, 3**-0.5, 0], atol=1e-6)
    assert found["cosine_of_true_views"] == 0 and found["cosine_to_asked"] == pytest.approx(1)
    # The last views resemble nobody in the gallery: all are taken for the first, who is right for one in three.
    assert {found[f"{name}rank1{kind}"] for name in ("", "grey_") for kind in ("", "_true_view")} == {1 / 3}
    assert found["rank1_one_picture"] == 1 / 3 and found["face_found"] == 1


def test_grey_pictures_have_no_colour_left():
    picture = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
    grey = to_grey(picture)
    assert grey.dtype == np.uint8 and (grey == grey[..., :1]).all()
    assert abs(int(to_grey(np.full((1, 1, 1, 3), 200, np.uint8))[0, 0, 0, 0]) - 200) <= 1
