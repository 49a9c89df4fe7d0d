"""The delivered thermal picture of each domain."""

import pytest
import torch

from models.errors import UserError
from models.synthworld.render.capture import annotate, capture
from models.synthworld.sampling.domain import load_domain

FACE = 75.0


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """A warm disc before a wall, [128,128]."""
    axis = torch.arange(128) + 0.5 - 64
    disc = (axis[:, None] ** 2 + axis[None, :] ** 2).sqrt() < FACE / 2
    return torch.where(disc, 34.0, 22.0), torch.ones(128, 128, dtype=torch.bool)


@pytest.mark.parametrize(
    ("name", "kind"), [("field", "measured"), ("lab", "minmax"), ("outdoor", "agc"), ("portrait", "apparent")]
)
def test_each_domain_delivers_its_kind(name: str, kind: str) -> None:
    picture, valid = scene()
    domain = load_domain(name)
    taken = [capture(picture, valid, FACE, domain, 1, view) for view in range(6)]
    assert {frame.kind for frame in taken} == {kind}
    low, high = domain.capture.native_face_px
    for frame in taken:
        assert low - 2 <= FACE * frame.picture.shape[0] / 128 <= high + 2
        assert frame.picture.dtype == (torch.uint8 if kind in ("minmax", "agc") else torch.float32)
        middle = frame.twin.temperature[frame.picture.shape[0] // 2, frame.picture.shape[0] // 2].item()
        assert middle == pytest.approx(34.0, abs=3.0)
    assert torch.equal(taken[2].picture, capture(picture, valid, FACE, domain, 1, 2).picture)


def test_lab_is_misregistered_by_two_to_five_pixels() -> None:
    picture, valid = scene()
    shifts = [capture(picture, valid, FACE, load_domain("lab"), 2, view).shift for view in range(20)]
    sizes = [(x * x + y * y) ** 0.5 for x, y in shifts]
    assert min(sizes) >= 2.0
    assert max(sizes) <= 5.0 + 8.0
    frame = capture(picture, valid, FACE, load_domain("lab"), 2, 0)
    warm = frame.twin.temperature > 28.0
    centre = torch.nonzero(warm).float().mean(0) + 0.5 - warm.shape[0] / 2
    assert centre[1].item() == pytest.approx(frame.shift[0], abs=0.7)
    assert centre[0].item() == pytest.approx(frame.shift[1], abs=0.7)


def test_fake_has_no_thermal() -> None:
    with pytest.raises(UserError, match="no thermal"):
        capture(*scene(), FACE, load_domain("fake"), 1)


def test_label_noise_has_the_stated_size() -> None:
    points = torch.zeros(2000, 2)
    assert annotate(points, 100.0, load_domain("field"), 1).std().item() == pytest.approx(1.2, rel=0.1)
    assert torch.equal(annotate(points, 100.0, load_domain("portrait"), 1), points)
