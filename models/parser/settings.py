"""What the parser is loaded with and which columns it takes; there is nothing to choose."""

from collections.abc import Mapping

from models.stages import Files, Flow, NoOptions

WEIGHTS = {"model": True}
Options = NoOptions
Settings = NoOptions


def columns(options: NoOptions, settings: NoOptions, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes."""
    return Flow(reads=("visible",), writes=("classes",))
