"""What the judge's numbers mean."""

import numpy as np

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


def test_grey_pictures_have_no_colour_left():
    picture = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
    grey = to_grey(picture)
    assert grey.dtype == np.uint8 and (grey == grey[..., :1]).all()
    assert abs(int(to_grey(np.full((1, 1, 1, 3), 200, np.uint8))[0, 0, 0, 0]) - 200) <= 1
