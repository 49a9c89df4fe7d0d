"""Halves of one moment beside halves of two: told by where the face is in each."""

from pathlib import Path

import numpy as np
import pytest

from pipelines import gather
from pipelines.check_data import check_data
from pipelines.readers.item import Sample
from pipelines.readers.registration import measure_registration
from tests.pipelines import published


@pytest.mark.slow
def test_halves_of_another_moment_are_told(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    views = published.render_people(tmp_path_factory)
    pairs = [Sample(visible=view.visible, grey=view.thermal[..., 0]) for view in views]
    near = measure_registration(pairs)
    first = measure_registration(pairs[:4])
    assert (first.pairs, first.faces) == (4, 4)
    assert near.pairs == 12 and near.faces >= 11 and np.median(near.shift) < 0.05
    # The same, of a thermal camera whose pictures stand 20 px to the side.
    moved = [Sample(visible=one.visible, grey=np.roll(one.grey, 20, axis=1)) for one in pairs if one.grey is not None]
    far = measure_registration(moved)
    assert np.median(far.shift) > 0.15 and f"{int((far.shift > 0.1).sum())} by more than 10%" in str(far)
    # A visible picture without a face is no pair that says anything.
    blank = Sample(visible=np.zeros_like(views[0].visible), grey=pairs[0].grey)
    assert (
        str(measure_registration([blank])) == "not known: the landmarker finds a face in both halves of none of 1 pairs"
    )
    views = views[:4]
    said = str(check_data(str(published.write_sejong(tmp_path, views)), "sejong", sample=3, registration=True))
    assert "registered  halves are " in said and "of 3 pairs)" in said
    # Gathered pairs, of two moments each: said at the end and on the card.
    late = [one._replace(thermal=np.roll(one.thermal, 20, axis=1)) for one in views]
    job = {"layout": "sejong", "images": str(published.write_sejong(tmp_path / "late", late))}
    summary = gather.run(job, str(tmp_path / "set"), local=True, registration=True)
    assert "registration: halves are " in str(summary) and "by more than 10%" in str(summary)
    assert summary.registered in (tmp_path / "set" / "README.md").read_text()
