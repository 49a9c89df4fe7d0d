"""The distance field for several figures at once: each figure's numbers are those of it alone, to the bit."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from models.classes import CLASSES
from models.synthworld.sampling.person import sample_person
from models.synthworld.sampling.scene import Scene, View
from models.synthworld.shape import bare, batch
from models.synthworld.shape.bare import _undress, render_bare_heads
from models.synthworld.shape.batch import Figures
from models.synthworld.shape.classify import classify
from models.synthworld.shape.framing import framing
from models.synthworld.shape.kernels import PAD, eagerly
from models.synthworld.shape.march import distance, hits, normals

SCENES = [
    Scene(sample_person(k), View(yaw=yaw, expression=expression))
    for k, (yaw, expression) in enumerate([(0, "neutral"), (50, "laugh")])
]
SIZE = 16


@pytest.fixture(scope="module")
def points() -> Tensor:
    """Points in and around the head, [3, B, N]."""
    return torch.rand(3, len(SCENES), 2 * PAD, generator=torch.Generator().manual_seed(0)) * 2 - 1


def classes_of(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    return classify(x, y, z, q)[0]


@pytest.mark.parametrize("function", [distance, classes_of])
@pytest.mark.parametrize("limit", [batch.LIMIT, 2 * PAD, PAD])
def test_a_figure_has_the_same_values_alone(
    function: Callable[..., Tensor], limit: int, points: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows at once, one at a time, or half of one."""
    monkeypatch.setattr(batch, "LIMIT", limit)
    figures = [_undress(scene) for scene in SCENES]
    found = Figures(figures)(function, *points)
    with eagerly():
        for row, q in enumerate(figures):
            assert torch.equal(found[row], function(*points[:, row], q))
    assert not torch.equal(found[0], Figures(figures[1:])(function, *points[:, 1:])[0])


def test_heads_are_those_that_rays_of_one_scene_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced one after the other, by the world's own tracer; what is followed at once changes nothing."""
    found, classes = render_bare_heads(SCENES, SIZE)
    for row, scene in enumerate(SCENES):
        q, frame = _undress(scene), framing(scene.view, SIZE)
        with eagerly():
            index, t, way = hits(frame, q)
            x, y, z = (way[k] * t + frame.origin[k] for k in range(3))
            turned = torch.stack(normals(x, y, z, max(0.004, 0.35 * frame.pixel), q), -1) @ frame.turn.T
            kinds = classify(x, y, z, q)[0]
        assert torch.equal(torch.nonzero(classes[row].reshape(-1)).squeeze(1), index)
        assert torch.equal(classes[row].reshape(-1)[index], kinds)
        torch.testing.assert_close(found[row].reshape(-1, 3)[index], turned, atol=1e-4, rtol=0)
    assert CLASSES.index("MOUTH_INTERIOR") in classes[1] and CLASSES.index("MOUTH_INTERIOR") not in classes[0]
    monkeypatch.setattr(bare, "AT_ONCE", SIZE**2)
    assert all(map(torch.equal, render_bare_heads(SCENES, SIZE), (found, classes)))


def test_figures_of_one_batch_wear_the_same() -> None:
    figures = [_undress(SCENES[0]), _undress(SCENES[1])]
    figures[1].wears = figures[1].wears | {"clothes": "hood"}
    with pytest.raises(ValueError, match="wear the same"):
        Figures(figures)
