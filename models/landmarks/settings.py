"""Which landmarks a part has, and which columns follow from them; there is nothing to choose."""

from collections.abc import Mapping
from typing import Literal

from models.errors import EnvironmentFault
from models.stages import Files, Flow, NoOptions

Standard = Literal[5, 68, 70, 72, 478]
"""Sets of points by their number (`models.landmarks.standards`, which imports the world)."""
WEIGHTS = {"model": True}
TRAINED: tuple[Standard, ...] = (70, 478)
"""Standards that a network can learn; the others come through adapters."""
Options = NoOptions
Settings = NoOptions


def writes(standards: tuple[int, ...]) -> tuple[str, ...]:
    """Return the columns of landmarks of `standards`."""
    kinds = ("landmarks_{}", "variance_{}_visible", "variance_{}_thermal", "seen_{}_visible", "seen_{}_thermal")
    found = [kind.format(number) for number in standards for kind in kinds]
    return (*found, "apart_70", "pose") if 70 in standards else tuple(found)


def columns(options: NoOptions, settings: NoOptions, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes: a landmarker for each standard that lies in the part."""
    there = tuple(number for number in TRAINED if f"{number}/landmarker.safetensors" in files["model"])
    if not there:
        raise EnvironmentFault("the landmarks part holds no landmarker: neither 70/ nor 478/ is there. Train one.")
    return Flow(reads=("visible", "thermal", "bbox", "classes"), writes=writes(there))
