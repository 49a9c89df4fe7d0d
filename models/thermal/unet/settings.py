"""What T-FAKE's thermalizer may be asked for, and which columns it takes."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from models.errors import UserError
from models.layers import Layer, check_words
from models.stages import Files, Flow, NoOptions

WEIGHTS = {"model": True}
FILE = "thermal.json"
"""What the numbers of the networks mean, and which conditions there are (`models.thermal.unet.network.ThermalConfig`)."""
CONDITIONS = ("warm", "cold")
"""Conditions where the file names none."""
Options = NoOptions


class Settings(BaseModel):
    """What a job may choose: its layers alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: tuple[Layer, ...] = ()


def columns(options: NoOptions, settings: Settings, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes. Raises a UserError for a condition that it has not learned."""
    facts = files["model"].json(FILE)
    known = [str(name) for name in facts.get("conditions", CONDITIONS)]
    try:
        check_words(settings.layers, known, "this thermalizer")
    except ValueError as error:
        raise UserError(f"{error}.") from None
    masked = ("classes",) if facts.get("mask_background", True) else ()
    return Flow(
        reads=("visible", *masked),
        reads_if_there=() if masked else ("classes",),
        writes=("thermal", "thermal_clipped"),
    )
