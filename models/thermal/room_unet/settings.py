"""What a thermalizer of rooms may be asked for, and which columns it takes."""

from collections.abc import Mapping

from models.stages import Files, Flow, NoOptions
from models.thermal.rooms import UNKNOWN, RoomSettings, check_layers

WEIGHTS = {"model": True}
FILE = "thermal.json"
Options = NoOptions
Settings = RoomSettings


def conditions(files: Mapping[str, Files]) -> tuple[str, ...]:
    """Return the words that may be asked for."""
    return (*(str(name) for name in files["model"].json(FILE).get("conditions", ())), UNKNOWN)


def columns(options: NoOptions, settings: RoomSettings, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes. Raises a UserError for a word that it has not learned."""
    check_layers(settings.layers, conditions(files), random=False)
    return Flow(reads=("visible",), reads_if_there=("classes",), writes=("thermal", "thermal_clipped", "beyond_rooms"))
