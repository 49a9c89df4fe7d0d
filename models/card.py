"""The card beside a set of weights: what they are, what made them, what they measured. Written as README.md."""

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from models.config import parse_yaml
from models.errors import UserError


class Card(BaseModel):
    """Facts of one trained part. Every number in it comes from a command of this repository."""

    model_config = ConfigDict(extra="forbid")

    title: str
    task: str
    summary: str = ""
    licence: str = "apache-2.0"
    seed: int = 0
    data: str = ""
    """Where the training rows came from, as given to the command."""
    data_digest: str = ""
    """Digest of the commit records of the training data, empty where all of it was drawn."""
    splits: dict[str, str] = {}
    """Role (train, validation, ...) -> split name and the identities it drew."""
    config: dict[str, Any] = {}
    config_digest: str = ""
    steps: int = 0
    """Of this training; of those that it began from see `history`."""
    wall_seconds: float = 0.0
    hardware: str = ""
    parameters: int = 0
    commit: str = ""
    command: str = ""
    history: list[str] = []
    """The trainings that this one began from, the first one first: steps, minutes and command, as far as they are known."""
    metrics: dict[str, dict[str, float]] = {}
    """Source (validation, judges, test, ...) -> metric -> value."""
    limits: str = ""

    def write(self, folder: Path) -> Path:
        """Write `folder/README.md`: YAML front matter with every fact, then the same as a page to read."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "README.md"
        front = yaml.safe_dump(json.loads(self.model_dump_json()), sort_keys=False, allow_unicode=True, width=110)
        path.write_text(f"---\n{front}---\n\n{self._page()}", encoding="utf-8")
        return path

    @staticmethod
    def read(folder: Path) -> "Card":
        """Return the card of `folder/README.md`."""
        path = folder / "README.md"
        try:
            _, front, _ = path.read_text(encoding="utf-8").split("---\n", 2)
            return Card.model_validate(parse_yaml(front))
        except FileNotFoundError:
            raise UserError(f"{path} is missing: this folder holds no trained part") from None
        except (ValueError, yaml.YAMLError) as error:
            raise UserError(f"{path} has no readable front matter: {error}") from None

    def history_line(self) -> str:
        """Return this training as a line of a later card's `history`: steps, minutes and command."""
        return f"{self.steps:,} steps, {self.wall_seconds / 60:.0f} min: {self.command}"

    def _page(self) -> str:
        """Return the card as Markdown; facts that are not known are left out."""
        # What it is, what it measured, how it was trained, what it cannot do.
        lines = [f"# {self.title}", ""]
        lines += [self.summary, ""] if self.summary else []
        for source, values in self.metrics.items():
            lines += [f"## Metrics: {source}", "", "| metric | value |", "|---|---|"]
            lines += [f"| {name} | {value:.4g} |" for name, value in values.items()] + [""]
        # Zero and empty stand for what nobody noted.
        lines += ["## Training", ""]
        facts = {
            "task": self.task,
            "data": self.data,
            **{f"split ({role})": text for role, text in self.splits.items()},
            "seed": self.seed,
            "steps": self.steps,
            "wall time": f"{self.wall_seconds / 60:.1f} min" if self.wall_seconds else "",
            "hardware": self.hardware,
            "parameters": f"{self.parameters:,}" if self.parameters else "",
            "config digest": self.config_digest,
            "command": f"`{self.command}`" if self.command else "",
            "trained before": "; ".join(self.history),
        }
        lines += [f"- {name}: {value}" for name, value in facts.items() if value != ""] + [""]
        lines += ["## Limits", "", self.limits, ""] if self.limits else []
        return "\n".join(lines)


def history(init: Path) -> list[str]:
    """Return the trainings behind the weights that a training begins from: a part, one of its files, or a checkpoint."""
    for folder in (init, init.parent):
        # A part has a card, which knows what came before it.
        if (folder / "README.md").is_file():
            earlier = Card.read(folder)
            return [*earlier.history, earlier.history_line()] if earlier.steps else earlier.history
        # A checkpoint has the state of its run, whose config names what that began from.
        if (folder / "state.json").is_file():
            state = json.loads((folder / "state.json").read_text())
            before = str(state.get("config", {}).get("init", ""))
            line = f"{state['step']:,} steps, {state['seconds'] / 60:.0f} min: a checkpoint"
            return [*(history(Path(before)) if before else []), line]
    return []


def update_metrics(folder: Path, source: str, values: dict[str, float]) -> Card:
    """Set the metrics of one source (`judges`, `test`, ...) on an existing card and write it again."""
    card = Card.read(folder)
    card = card.model_copy(update={"metrics": {**card.metrics, source: {k: float(v) for k, v in values.items()}}})
    card.write(folder)
    return card
