"""`thermapair reference`: the distribution that `identities.source: reference` samples from, for one faces part."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from models.attributes import ATTRIBUTES
from models.card import update_metrics
from models.errors import UserError
from models.faces.reference import fit, fit_measures
from models.faces.settings import Options
from models.faces.stage import Stage
from models.stages import NoOptions
from models.synthworld.sampling.person import measure_person, sample_person
from models.weights.store import seal
from pipelines.plan.attributes import IDENTITY
from pipelines.rows.shards import Shards

FILE = "reference.safetensors"
COLUMNS = ("world_identity", "visible", "attributes")
BATCH = 64


def run(data: str, faces: str, *, count: int | None = None, threads: int = 2) -> dict[str, float]:
    """Embed pictures of the world at `data`, fit their distribution, write it into the part `faces` and seal that.

    count: only the first so many pictures. Returns the metrics, which also go onto the part's card and are printed.

    Raises:
        UserError: too few people whose face is found.
    """
    # Pictures of people whose measures and words are known, embedded.
    folder = Path(faces)
    shards = Shards(data, COLUMNS, memory=0, limit=count)
    stage = Stage({"model": folder}, Options(), threads=threads)
    embeddings, names, texts = _embed_faces(shards, stage)
    if len(np.unique(names)) < 50:
        raise UserError(f"{data}: faces of only {len(np.unique(names))} people were found; a distribution needs 50.")
    # Their distribution, with probes that read words off an embedding.
    attributes = [json.loads(text) for text in texts]
    words = {name: np.array([row[name] for row in attributes]) for name in IDENTITY}
    tensors, metrics = fit(embeddings, names, words, {name: ATTRIBUTES[name][2] for name in IDENTITY})
    metrics["found"] = len(names) / len(shards)
    # What an embedding tells of a person's measures.
    known = {name: measure_person(sample_person(int(name))) for name in np.unique(names)}
    more, explained = fit_measures(embeddings, names, np.stack([known[name] for name in names]))
    tensors, metrics = tensors | more, metrics | explained
    # Into the part: its card says how well this works, its seal that it has changed.
    save_file(tensors, folder / FILE)
    if (folder / "README.md").is_file():
        update_metrics(folder, "reference", metrics)
    seal(folder)
    for name, value in metrics.items():
        print(f"{name:24} {value:.4g}")
    return metrics


def _embed_faces(shards: Shards, stage: Stage) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return of the pictures with exactly one face: unit embeddings float32 [N, 512], who they show [N], their words (JSON)."""
    embeddings, identity, texts = list[np.ndarray](), list[np.ndarray](), list[str]()
    for start in range(0, len(shards), BATCH):
        rows = shards.rows(np.arange(start, min(start + BATCH, len(shards))))
        found = stage({"visible": rows["visible"]}, NoOptions(), BATCH)
        single = found["faces"] == 1
        embeddings.append(found["found_embedding"][single])
        identity.append(rows["world_identity"][single])
        texts += map(str, rows["attributes"][single])
    return np.concatenate(embeddings), np.concatenate(identity), texts
