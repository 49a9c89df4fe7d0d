"""The trainings of `thermapair evaluate faceclip`: one U-Net for each way and seed, and what it draws."""

import logging
import shutil
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from safetensors.torch import load_file, save_file
from torch import nn

from models.evaluation.faceclip import training
from models.evaluation.faceclip.recipe import Recipe
from models.evaluation.recipe import check_training
from models.tasks import Task
from models.training.loop import Hooks, train
from pipelines.evaluation.measuring import Stop
from pipelines.rows.shards import Shards

log = logging.getLogger(__name__)

TASK = cast(Task, training)
WEIGHTS = "model.safetensors"


class Inputs(NamedTuple):
    """What the rows have in common: folders of the encoder and of the towers, and the rows that are trained on."""

    encoder: str
    towers: str
    data: str


class Trainings:
    """Trains and draws with one U-Net for each way and seed.

    settings: of the first way's training. data: the rows, for their number and digest alone. Raises a UserError for wrong
    values of the recipe before anything starts.
    """

    def __init__(self, recipe: Recipe, inputs: Inputs, stop: Stop) -> None:
        self.recipe, self.inputs, self.stop = recipe, inputs, stop
        self.settings = self._settings("FaceCLIP", 0)
        self.data = Shards(inputs.data, training.COLUMNS, memory=0, colour=True, limit=recipe.limit or None)
        self._trained = lru_cache(1)(self._load)

    def _settings(self, way: str, seed: int) -> training.Config:
        """Return the config of a way's training."""
        recipe = self.recipe
        own = {
            "steps": max(recipe.steps, 1),
            "batch": recipe.batch,
            "encoder": self.inputs.encoder,
            "way": way,
            "seed": seed,
        }
        return check_training(training.Config, {"bf16": False, **recipe.training}, own, "faceclip")

    def run(self, way: str, seed: int, place: Path) -> dict[str, Any]:
        """Train a way's U-Net, from its last checkpoint where there is one, and keep its averaged weights in folder `place`."""
        config = self._settings(way, seed)
        # A U-Net that is there already is kept as it is.
        if not self.recipe.steps:
            model = training.build(config)
            training.begin(model, Path(config.init))
            return _keep(model, place) | {"rows": 0, "seconds": 0.0}
        # Else it learns, from where a killed run left it; of its checkpoints the last is enough.
        scratch = place.with_name(f"{place.name}.run")
        kept = sorted(scratch.glob("step-*/state.json"))

        def save(folder: Path, step: int, score: float | None) -> None:
            for old in scratch.glob("step-*"):
                if old != folder:
                    shutil.rmtree(old)

        hooks = Hooks(scratch, save, lambda line: log.info("%s: %s", way, _say(line)), stop=self.stop, log_every=50)
        result = train(TASK, config, self._rows, None, hooks, resume=kept[-1].parent if kept else None)
        # The averaged weights stay, and nothing else.
        facts = _keep(result.model, place)
        shutil.rmtree(scratch, ignore_errors=True)
        return facts | {"rows": config.steps * config.batch, "seconds": round(result.seconds, 1)}

    @cached_property
    def _rows(self) -> Shards:
        """The rows of all trainings: what is kept of them does not depend on the way."""
        return Shards(
            self.inputs.data,
            training.COLUMNS,
            colour=True,
            prepare=lambda rows: training.prepare(rows, self.settings),
            limit=self.recipe.limit or None,
        )

    def _load(self, way: str, seed: int, place: Path) -> training.Trained:
        """Return the U-Net whose weights are kept in the folder `place`."""
        model = training.build(self._settings(way, seed))
        assert isinstance(model, training.Trained)
        model.load_state_dict(load_file(place / WEIGHTS))
        return model.requires_grad_(False).eval()

    def draw(
        self, way: str, seed: int, place: Path, crops: np.ndarray, captions: list[str], names: list[str]
    ) -> np.ndarray:
        """Return what a way's U-Net, kept in `place`, draws of crops uint8 [N, 112, 112, 3] and captions: uint8 [N, S, S, 3]."""
        model, config, recipe = self._trained(way, seed, place), self._settings(way, seed), self.recipe
        return training.draw_pictures(model, config, crops, captions, names, recipe.sampling_steps, recipe.guidance)


def _keep(model: nn.Module, place: Path) -> dict[str, Any]:
    """Write weights to the folder `place`, under its name once it is whole, and return the number of parameters."""
    half = place.with_name(f"{place.name}.half")
    half.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, half / WEIGHTS)
    half.rename(place)
    return {"parameters": sum(one.numel() for one in model.parameters())}


def _say(line: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in line.items())
