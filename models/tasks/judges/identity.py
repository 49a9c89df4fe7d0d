"""Train the judge: a recogniser of another architecture, seed and people. It is in no bundle, loss or gate.

python -m cluster train judge --data URI --validation URI --out DIR
"""

from models.faces.recogniser import Architecture
from models.tasks import recogniser
from models.tasks.recogniser import COLUMNS, build, export, loss, prepare, validate

__all__ = ["COLUMNS", "Config", "build", "export", "loss", "prepare", "validate"]


class Config(recogniser.Config):
    """The recogniser's recipe with another network, seed and split."""

    seed: int = 7919
    architecture: Architecture = "plain"
    split: str = "judges"
    file: str = "judge.onnx"
