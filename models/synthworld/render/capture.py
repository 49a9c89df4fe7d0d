"""The thermal picture a data set delivers of a rendered view: its camera, resolution, registration, encoding and labels."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.errors import UserError
from models.seeds import generator
from models.synthworld.camera import sensor
from models.synthworld.camera.sensor import ThermalFrame, ThermalKind
from models.synthworld.sampling.ranges import Domain, Span

SWAY_M_PER_S = 0.004
"""How fast a seated head moves between the shutters of two cameras."""
FACE_M = 0.19
"""Height of a face, to express sway in pixels."""


@dataclass(frozen=True)
class ThermalPicture:
    """A delivered frame of one view, N x N native pixels.

    picture: float32 degC for radiometric kinds, uint8 grey levels for "minmax" and "agc" (no temperature).
    twin: the radiometric frame behind it. shift: misregistration against the colour picture, (x, y) in native pixels.
    """

    kind: ThermalKind
    picture: Tensor
    twin: ThermalFrame
    shift: tuple[float, float]


def capture(apparent: Tensor, valid: Tensor, face: float, domain: Domain, *name: object) -> ThermalPicture:
    """Take the thermal picture of one view as `domain` does; all chance is a function of `name`.

    apparent: float32 [S,S] degC; valid: bool [S,S]; face: height of the face in pixels of it.
    Raises UserError for a domain that delivers no thermal picture.
    """
    how = domain.capture
    if how.thermal == "none":
        raise UserError(f"domain {domain.name!r} delivers no thermal picture (capture.thermal: none)")
    rng = generator("capture", *name)
    # Resolution of the thermal frame, from the height that the face shall have in it.
    wanted, amount, angle, delay = torch.rand(4, generator=rng).tolist()
    size = sensor.native_size(apparent.shape[0], face, _interpolate(how.native_face_px, wanted))
    scale = size / apparent.shape[0]
    # It is shifted against the colour picture: by misregistration, and by the head that moves between the shutters.
    sway = SWAY_M_PER_S * max(0.0, _interpolate(how.delay_s, delay)) * face * scale / FACE_M
    distance = max(0.0, _interpolate(how.misregistration_px, amount)) + sway
    direction = torch.tensor(angle * 2.0 * torch.pi)
    shift = (distance * float(direction.cos()), distance * float(direction.sin()))
    # After resampling, pixels made of valid readings alone are valid.
    seen = _shift(sensor.resample(apparent, size), shift)
    known = _shift(sensor.resample(valid.float(), size), shift) > 0.999
    if how.thermal == "apparent":
        return ThermalPicture("apparent", seen, ThermalFrame(seen, known, 0), shift)
    # The camera measures; grey pictures are made of what it measured.
    twin = sensor.measure(seen, known, how.camera, *name)
    if how.thermal == "measured":
        return ThermalPicture("measured", twin.temperature, twin, shift)
    grey = sensor.minmax(twin.temperature) if how.thermal == "minmax" else sensor.plateau_agc(twin.temperature)
    return ThermalPicture(how.thermal, sensor.jpeg(grey, how.jpeg) if how.jpeg else grey, twin, shift)


def annotate(points: Tensor, face: float, domain: Domain, *name: object) -> Tensor:
    """Return landmarks [L,2] as the data set's annotators place them: off by `landmark_noise` face heights (1 sigma)."""
    spread = domain.capture.landmark_noise * face
    return points + spread * torch.randn(points.shape, generator=generator("labels", *name))


def _interpolate(span: Span, place: float) -> float:
    return span[0] + (span[1] - span[0]) * place


def _shift(image: Tensor, shift: tuple[float, float]) -> Tensor:
    """Return float [N,N] moved by (x, y) pixels, borders repeated."""
    if shift == (0.0, 0.0):
        return image
    n = image.shape[0]
    move = torch.tensor([[1.0, 0.0, -2.0 * shift[0] / n], [0.0, 1.0, -2.0 * shift[1] / n]])
    grid = functional.affine_grid(move[None], [1, 1, n, n], align_corners=False)
    return functional.grid_sample(image[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
