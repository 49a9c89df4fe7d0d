"""The end of a training: the best weights as a part of a bundle, with their card, sealed."""

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from models.card import Card, history
from models.errors import UserError
from models.tasks import TrainConfig
from models.training.loop import start
from models.weights.store import SEAL, seal
from pipelines.plan.world import read_world
from pipelines.run.provenance import hardware
from pipelines.storage.uri import Storage
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.job import TrainJob

log = logging.getLogger(__name__)


def export_part(job: TrainJob, storage: Storage, target: Storage) -> Card:
    """Write the bundle part of the best checkpoint (the last, without validation) and its card into `target`."""
    # The weights as they are used: those of the best checkpoint, averaged over steps.
    task, config = job.load_task()
    checkpoints = Checkpoints(storage)
    with tempfile.TemporaryDirectory(prefix="export-") as scratch:
        restored = checkpoints.restore(Path(scratch), "best") or checkpoints.restore(Path(scratch))
        if restored is None:
            raise UserError(f"{storage.uri} has no checkpoint to export")
        state = start(task, config, torch.device("cpu"), restored)
    state.use_average()
    # Exporters see plain memory order: safetensors and ONNX know no other.
    state.model.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    # The card: what it was trained on, how, where and by whom, and what came out.
    facts = json.loads(storage.read("run.json"))
    card = Card(
        title=f"{job.task} of thermapair",
        task=job.task,
        seed=config.seed,
        data=relative_paths(job.data) if job.data else "drawn as needed, from the seed",
        data_digest=job.data_digest(),
        splits=({"train": f"{describe_rows(job.data)}; rows of {job.split}"} if job.data else {})
        | (
            {"validation": f"{describe_rows(job.validation)}; rows of {job.validation_split}"} if job.validation else {}
        ),
        config=describe_config(config),
        config_digest=facts["digest"],
        steps=state.step,
        wall_seconds=state.seconds,
        hardware=hardware(),
        parameters=sum(p.numel() for p in state.model.parameters()),
        commit=facts["commit"],
        command=facts["command"],
        history=history(Path(config.init)) if config.init else [],
        metrics={"validation": state.metrics} if state.metrics else {},
    )
    # The part, sealed; elsewhere its list of files goes last.
    with tempfile.TemporaryDirectory(prefix="export-") as scratch:
        folder = Path(target.path()) if target.local else Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        task.export(state.model, config, folder, card)
        seal(folder)
        if not target.local:
            _upload(folder, target)
    log.info("exported step %d to %s", state.step, target.uri)
    return card


def _upload(folder: Path, target: Storage) -> None:
    """Copy an exported folder; the list of its files goes last, for with it the folder is whole."""
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    for name in sorted(names, key=lambda name: (name == SEAL, name)):
        target.write(name, (folder / name).read_bytes())


def describe_rows(uris: str) -> str:
    """Return which rows rendered data sets hold, in words."""
    return "; ".join(_describe(uri) for uri in uris.split(","))


def _describe(uri: str) -> str:
    found = read_world(Storage(uri))
    if found is None:
        return relative_paths(uri)
    job, digest = found
    gap = f" (gap {job.gap:g})" if job.gap != 1 else ""
    return (
        f"{job.count} pictures of domain {job.domain}{gap}, split {job.split} from person {job.first} on, "
        f"{job.views} views, {'+'.join(job.conditions)}, {job.size} px (digest {digest})"
    )


def describe_config(config: TrainConfig) -> dict[str, Any]:
    """Return what a card says of a configuration: its values, folders of the working directory as relative ones."""
    return config.model_dump(mode="json") | {name: relative_paths(getattr(config, name)) for name in config.places()}


def relative_paths(uris: str) -> str:
    """Return local paths below the working directory as relative ones: a card is read on other machines."""
    here = f"{os.getcwd()}/"
    return ",".join(os.path.relpath(uri) if uri.startswith(here) else uri for uri in uris.split(","))
