"""What the portrait part is loaded with, what a job may choose of it, and which columns it takes: those of the visible kind."""

from collections.abc import Mapping

from models.stages import Files, Flow
from models.visible.sd import settings as drawing
from models.visible.sd.settings import WEIGHTS, Options, Settings

__all__ = ["CAPTION", "WEIGHTS", "Options", "Settings", "columns"]

CAPTION = "A portrait of a person with a neutral expression. The person is facing straight ahead."
"""What every portrait is asked to show, beside whose it is."""


def columns(options: Options, settings: Settings, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes. Raises what the columns of the visible kind raise."""
    drawing.columns(options, settings, files)
    return Flow(reads=("identity_id", "embedding"), writes=("reference",))
