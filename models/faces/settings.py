"""What an insightface pack is loaded with, which columns it takes, and the distribution that people are sampled from."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.errors import EnvironmentFault
from models.stages import Files, Flow, NoOptions

THERMAL = "thermal"
"""Name of the weights, beside the faces' own, of the recogniser that was adapted to thermal probes (`train hfr`)."""
WEIGHTS = {"model": True, THERMAL: False}
WRITES = ("bbox", "keypoints", "detection_score", "found_embedding", "faces")
Size = tuple[int, int]


class Options(BaseModel):
    """How the part is loaded. Sizes are (width, height) of the detector's inputs, multiples of 32."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sizes: tuple[Size, ...] = Field(default=((128, 128),), min_length=1)
    """Inputs that every picture is looked at in; one of the pictures' own size is enough for portraits."""
    closer: tuple[Size, ...] = ((320, 320),)
    """Further inputs for photographs that show no large face in `sizes`."""
    reference: str = "reference.safetensors"
    """File beside the weights: the distribution of the recogniser's embeddings that identities are sampled from."""

    @field_validator("sizes", "closer")
    @classmethod
    def _steps(cls, value: tuple[Size, ...]) -> tuple[Size, ...]:
        wrong = [list(size) for size in value if any(side <= 0 or side % 32 for side in size)]
        if wrong:
            raise ValueError(f"{wrong} given; each is a width and a height, multiples of 32")
        return value


Settings = NoOptions


def columns(options: Options, settings: NoOptions, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes."""
    return Flow(reads=("visible",), writes=WRITES)


def reference(options: Options, weights: Mapping[str, Path]) -> dict[str, np.ndarray] | None:
    """Return the tensors of the reference distribution (`models.faces.reference`), None where the pack has none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = weights["model"] / options.reference
    if not path.is_file():
        return None
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:  # also for types that numpy has not
        raise EnvironmentFault(f"{path} is no readable safetensors file: {error}. Fetch the bundle again.") from None


def recogniser(weights: Mapping[str, Path]) -> str:
    """Return what tells this recogniser from others: its digest, the space that its embeddings lie in."""
    from models.faces.pack import recogniser_digest  # imports onnxruntime

    return recogniser_digest(weights["model"])
