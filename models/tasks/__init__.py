"""What the project can train: one module per task, all run by the one loop in `models/training/loop.py`.

A task is a plain module with the names of `Task` below. It knows networks and arrays; it never reads a file of the data
set, builds an optimizer or writes a checkpoint: the loop does. It never imports ray.
"""

import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from models.card import Card
from models.columns import Columns
from models.errors import UserError
from models.temperature import Numbers, UnitName

TASKS = {
    "recogniser": "models.tasks.recogniser",
    "judge": "models.tasks.judges.identity",
    "judge_attributes": "models.tasks.judges.attributes",
    "judge_pose": "models.tasks.judges.pose",
    "judge_parser": "models.tasks.judges.parser",
    "detector": "models.tasks.detector",
    "parser": "models.tasks.parser",
    "vae": "models.tasks.vae",
    "visible": "models.tasks.visible",
    "controlnet": "models.tasks.controlnet",
    "text_branch": "models.tasks.text_branch",
    "thermalizer": "models.tasks.thermalizer",
    "room_thermalizer": "models.tasks.rooms.unet",
    "thermal_vae": "models.tasks.thermal_vae",
    "thermal_ldm": "models.tasks.thermal_ldm",
    "distill_visible": "models.tasks.distill.visible",
    "hfr": "models.tasks.hfr.task",
    "distill_thermal": "models.tasks.distill.thermal",
    "distill_translator": "models.tasks.distill.translator",
    "attributes": "models.tasks.attributes",
    "translator": "models.tasks.translation.task",
    "faceclip_face": "models.tasks.faceclip.face",
    "faceclip_clip": "models.tasks.faceclip.clip",
    "faceclip": "models.tasks.faceclip.align",
    "faceclip_visible": "models.tasks.faceclip.visible",
    "captioner": "models.tasks.captioner",
    "landmarker": "models.tasks.landmarker",
    "adapter": "models.tasks.adapter",
    "landmarker_bound": "models.tasks.landmarker_bound",
}


def absolute(value: str) -> str:
    """Return a path made absolute; a URI and an empty text stay as they are. Workers run in folders of their own."""
    return value if not value or "://" in value else os.path.abspath(os.path.expanduser(value))


@dataclass(frozen=True)
class _Path:
    """The mark of a `Place`."""


Place = Annotated[str, _Path()]
"""A file or folder that a config names: a relative one is of the working directory, a default of the repository."""


class Placed(BaseModel):
    """A config with a `Place`: every one is made absolute that is not the field's default."""

    @model_validator(mode="before")
    @classmethod
    def _make_absolute(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        places = cls.places()
        named = {n: v for n, v in values.items() if n in places and isinstance(v, str) and v != places[n]}
        return values | {name: absolute(value) for name, value in named.items()}

    @classmethod
    def places(cls) -> dict[str, str]:
        """Return the names of the fields that are a `Place`, and their defaults."""
        return {name: str(field.default) for name, field in cls.model_fields.items() if _Path() in field.metadata}


class TrainConfig(Placed):
    """The hyper-parameters that the loop reads. A task's `Config` extends it with its own and may change the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    steps: int = Field(1000, gt=0, description="optimizer steps; one step sees `batch` rows over all workers together")
    batch: int = Field(64, gt=0, description="global batch: the same rows make a step however many workers share them")
    lr: float = Field(1e-3, gt=0, description="peak learning rate of AdamW")
    final_lr: float = Field(0.02, ge=0, le=1, description="share of `lr` that the cosine ends at")
    warmup: int = Field(100, ge=0, description="steps of linear warm-up (at most a tenth of `steps`)")
    weight_decay: float = Field(0.01, ge=0, description="on matrices and kernels only, not on biases, norms and scales")
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = Field(1.0, ge=0, description="largest global gradient norm; 0 = no clipping")
    ema: float = Field(
        0.999, ge=0, lt=1, description="decay of the averaged weights that validate and export see; 0 = off"
    )
    bf16: bool = Field(False, description="compute in bfloat16 autocast; heads and losses leave it with .float()")
    channels_last: bool = Field(True, description="convolutions in NHWC, faster on CPUs")
    validate_every: int = Field(0, ge=0, description="steps between validations; 0 = at the end only")
    validate_rows: int = Field(2000, gt=0, description="at most so many rows of the validation data")
    init: Place = Field(
        "", description="checkpoint, part of a bundle or safetensors file to start from; names must match"
    )


@dataclass(frozen=True)
class Side:
    """Further rows beside the main data: shards with these columns, or a folder of thermal pictures (no columns)."""

    uri: str
    columns: tuple[str, ...] = ()
    unit: UnitName | Numbers = "centikelvin"
    """Of thermal pictures."""


class Task(Protocol):
    """What a module in `models/tasks` offers.

    The following names are optional, and found by name:

    `prepare(rows: Columns, config) -> Columns`
        Row-wise and without randomness, called once for every row as it is cached (aligned crops, VAE latents,
        embeddings, tokens). What it returns is all that `loss` sees, so drop what is not needed: it is held in memory.
        Not applied to the rows of `validate`.
    `columns(config) -> tuple[str, ...]`
        In place of `COLUMNS` where the columns depend on the config.
    `VALIDATION_COLUMNS`
        Columns that `validate` needs, if not `COLUMNS`.
    `VALIDATION_OPTIONAL`
        Those of them that it does without where not every row has a value.
    `FOUND`
        Columns of points that it looks for itself in rows that have none: they come as NaN.
    `takes_grey(config) -> bool`
        Whether rows whose visible picture is the thermal one in grey may be trained on. Without it they are left out.
    `TAKES_TRANSLATED`
        True where rows are trained on, too, whose visible picture a translator made of the thermal one.
    `TAKES_HALVES`
        True where rows of cameras that stood apart are pairs of a person, too (see `pipelines.rows.halves`).
    `pictures(model: nn.Module, rows: Columns, config) -> np.ndarray`
        uint8 [H, W, 3], a sample sheet of a few validation rows, written after each validation.
    `sides(config) -> dict[str, Side]`
        Rows of other sources, one beside every row of the batch, chosen by its `draw`; their columns come as `name.column`.
    `weights(config) -> list[Path]`
        Files and folders of weights that training reads beside `init`: a run goes on with the same ones alone.
    `check(config) -> None`
        Raise a UserError for weights that are named and cannot be trained; called once, before the run is claimed.
    `check_row(rows: Columns, config) -> None`, `check_validation_row(rows: Columns, config) -> None`
        Raise a UserError for rows that it cannot be trained on, or validated on; called with one row of either before the run is
        claimed.
    `STAGE`
        The stage whose part it trains: with `--bundle` it begins with that bundle's weights.
    `begin(model: nn.Module, folder: Path) -> None`
        Fill a fresh model from the weights of a bundle's part (`init`); raise UserError when they are of another shape.
    """

    Config: type[TrainConfig]
    COLUMNS: tuple[str, ...]
    """Columns of the shards that the task needs (see `pipelines/rows/shards.py`); only these are read and decoded."""

    def build(self, config: Any) -> nn.Module:
        """Return everything trainable, freshly initialised from `config.seed` (the loop seeds torch before the call).

        All parameters and buffers are checkpointed and averaged. A frozen helper (a VAE, a text encoder that is not
        trained) must not be a registered submodule: hold it in a tuple, e.g. `self._frozen = (vae,)`.
        Batch statistics differ between one and several workers: prefer GroupNorm, or freeze the statistics.
        """

    def loss(self, model: nn.Module, batch: Columns, config: Any, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the mean loss over the batch's rows (scalar with gradient) and plain numbers to log.

        `batch` holds the columns of `COLUMNS` (or what `prepare` made of them), decoded, B rows, and always
            `row`   int64 [B]: index of the row in the data set
            `draw`  int64 [B]: seed of this visit to this row, a function of (config.seed, epoch, row) alone
        Augmentation and noise of row k are drawn from `draw[k]`: then neither the number of workers nor a resumed
        run changes them. The mean must be plain (workers hold equal shares of a batch, their gradients are averaged).
        The loop has set train mode, autocast and the thread count, and calls backward, clips and steps.
        """

    def validate(self, model: nn.Module, rows: Iterable[Columns], config: Any) -> dict[str, float]:
        """Return metrics on batches of decoded validation rows; the loop has set eval mode, inference mode, EMA weights.

        `score` must be among them, higher is better: it chooses the best checkpoint.
        """

    def export(self, model: nn.Module, config: Any, folder: Path, card: Card) -> None:
        """Write the bundle part (weights as safetensors or ONNX in fp16, config) and `card` as README.md into `folder`."""


def load(name: str) -> Task:
    """Return the task's module: a name of `TASKS`, or the dotted path of any module."""
    path = TASKS.get(name, name)
    try:
        return cast(Task, importlib.import_module(path))
    except ModuleNotFoundError as error:
        if error.name is None or not path.startswith(error.name):
            raise
        known = ", ".join(TASKS)
        raise UserError(f"unknown task {name!r}; known: {known}, or the dotted path of a module") from None
