"""Recognisers adapted with pairs of several sources, and what they make of test people."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import cv2
import numpy as np
import torch
from torch import Tensor

from models.columns import Columns
from models.errors import UserError
from models.evaluation.faces import to_grey
from models.evaluation.translation import split_rows
from models.faces.align import align
from models.faces.metrics import unit_vectors
from models.faces.recogniser import EMBEDDING
from models.seeds import seed_of
from models.tasks import Task
from models.tasks.hfr import task
from models.tasks.hfr.contrast import unit
from models.training.loop import Hooks, train

BATCH = 64
"""Crops of one forward pass."""
INVERTED, BLURRED, BLUR = 0.5, 0.5, (0.5, 3.0)
"""Shares of pictures that augmentation inverts and blurs, and the range of the blur, px of the picture."""


def choose_people(person: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return all rows of `count` people drawn by the seed, in order; more people hold the fewer. person: [N], names.

    Raises a UserError where there are fewer.
    """
    known = np.unique(person)
    if len(known) < count:
        raise UserError(f"{count} people are asked for, and there are {len(known)}: --set people=[...]")
    chosen = np.random.default_rng(seed_of("people", seed)).permutation(known)[:count]
    return np.flatnonzero(np.isin(person, chosen))


def choose_pairs(person: np.ndarray, pairs: int, identities: int, seed: int) -> np.ndarray:
    """Return `pairs` rows, person by person in an order drawn by the seed; more pairs hold the fewer.

    identities: of so many people, equally many each; 0: of as many as it takes. Raises a UserError where there are fewer.
    """
    # Only people who have enough pairs for an equal share can be drawn.
    known, place, count = np.unique(person, return_inverse=True, return_counts=True)
    each = -(-pairs // identities) if identities else 0
    fit = np.flatnonzero(count >= max(each, 1))
    order = np.random.default_rng(seed_of("pairs", seed)).permutation(fit)
    if identities:
        order = order[:identities]
    # Person by person, so that more pairs hold the fewer.
    rows = [np.flatnonzero(place == one)[: each or None] for one in order]
    found = np.concatenate(rows)[:pairs] if rows else np.zeros(0, int)
    if len(found) < pairs or len(order) < identities:
        wanted = f"{pairs} pairs{f' of {identities} people' if identities else ''}"
        raise UserError(f"{wanted} are asked for, and there are {len(person)} pairs of {len(known)} people")
    return found


def can_choose(person: np.ndarray, pairs: int, identities: int) -> bool:
    """Return whether `choose_pairs` finds so many pairs of so many people."""
    _, count = np.unique(person, return_counts=True)
    return int((count >= -(-pairs // identities)).sum()) >= identities


def augment_rows(rows: Columns) -> Columns:
    """Return rows whose thermal half is the visible one in grey, half of them inverted and half blurred, drawn by the person
    and view of the row: what a recogniser can be shown without a thermal picture."""
    grey = to_grey(rows["visible"])[..., 0]
    made = []
    for picture, name, view in zip(grey, rows["identity_id"], rows["view"], strict=True):
        rng = np.random.default_rng(seed_of("augmentation", str(name), int(view)))
        inverted = 255 - picture if rng.random() < INVERTED else picture
        blur = float(rng.uniform(*BLUR)) if rng.random() < BLURRED else 0.0
        made.append(cv2.GaussianBlur(inverted, (0, 0), blur) if blur else inverted)
    return {**rows, "thermal": np.stack(made)}


class Mixture:
    """Prepared rows of several sources as the training loop reads them; each fills its share of the rows by repetition.

    parts: columns of a task's `prepare`, of one size; shares: of each, together 1.
    """

    def __init__(self, parts: Sequence[Columns], shares: Sequence[float]) -> None:
        sizes = {part["visible"].shape[1] for part in parts}
        if len(sizes) > 1:
            raise UserError(
                f"pairs of {' and '.join(map(str, sorted(sizes)))} px make no batch: make them with one size"
            )
        # As many rows as the part that needs least repetition for its share has in all.
        counts = [len(part["visible"]) for part in parts]
        total = max(count / share for count, share in zip(counts, shares, strict=True))
        wanted = [max(count, round(total * share)) for count, share in zip(counts, shares, strict=True)]
        # Row k of the mixture is row `place` of part `owner`, which begins again where it ends.
        self.parts = parts
        self.owner = np.repeat(np.arange(len(parts)), wanted)
        self.place = np.concatenate([np.arange(n) % count for n, count in zip(wanted, counts, strict=True)])

    def __len__(self) -> int:
        return len(self.owner)

    def rows(self, indices: np.ndarray) -> Columns:
        """Return the rows of `indices`; people of two sources are two people."""
        where = list(zip(self.owner[indices], self.place[indices], strict=True))
        found = {name: np.stack([self.parts[o][name][p] for o, p in where]) for name in self.parts[0]}
        if "person" in found:
            found["person"] = np.array([f"{o}/{self.parts[o]['person'][p]}" for o, p in where])
        return found


def adapt(parts: Sequence[Columns], shares: Sequence[float], config: task.Config, hooks: Hooks) -> task.Recogniser:
    """Return the recogniser adapted with prepared rows of sources, as `train hfr` does."""
    model = train(cast(Task, task), config, Mixture(parts, shares), None, hooks).model
    assert isinstance(model, task.Trainee)
    return model.network.eval()


class Test(NamedTuple):
    """Test people: aligned crops uint8 [N, 112, 112, 3] of gallery pictures, and of both halves of pairs of other views
    (`visible`, which may be none, and `thermal`). owner: int [N], whom each gallery picture shows, 0 to people - 1; person:
    int [P], whom each probe shows."""

    gallery: np.ndarray
    visible: np.ndarray
    thermal: np.ndarray
    person: np.ndarray
    owner: np.ndarray

    @property
    def people(self) -> int:
        """How many are known."""
        return int(self.owner.max()) + 1


def read_test(person: np.ndarray, view: np.ndarray, prepared: Columns, people: int) -> Test:
    """Return test people of prepared rows [N]; raises a UserError where fewer than two have two views."""
    split = split_rows(person, view, people)
    crops = {name: align(prepared[name], prepared[points]) for name, points in task.POINTS.items()}
    known = {name: place for place, name in enumerate(person[split.gallery])}
    own = np.array([known[person[row]] for row in split.probes])
    gallery, probes = crops["visible"][split.gallery], crops["visible"][split.probes]
    return Test(gallery, probes, crops["thermal"][split.probes], own, np.arange(len(gallery)))


def read_protocol(models: Columns, prepared: Columns, people: int) -> Test:
    """Return the test of a protocol that says who enrols, by all pictures of `models` [M] (`visible`, `points`, `person`): all
    thermal halves of prepared rows ask. The visible halves enrol, so none of them is a probe.

    Raises a UserError where fewer than two people enrol and are asked for.
    """
    asked, there = (np.asarray(rows["person"]).astype(str) for rows in (prepared, models))
    known = np.intersect1d(asked, there)[:people]
    if len(known) < 2:
        raise UserError("a gallery needs two people at least who enrol and are asked for (role model, probe)")
    enrol, ask = np.isin(there, known), np.isin(asked, known)
    gallery = align(models["visible"][enrol], models["points"][enrol])
    thermal = align(prepared["thermal"][ask], prepared[task.POINTS["thermal"]][ask])
    places = (np.searchsorted(known, names) for names in (asked[ask], there[enrol]))
    return Test(gallery, gallery[:0], thermal, *places)


@torch.inference_mode()
def embed_test(network: task.Recogniser, test: Test) -> dict[str, np.ndarray]:
    """Return unit embeddings float32 [N, 512] of the three kinds of crops, by name; of the gallery the mean of each person's."""
    device = next(network.parameters()).device

    def embed(crops: np.ndarray) -> np.ndarray:
        parts = [_tensor(crops[k : k + BATCH]).to(device) for k in range(0, len(crops), BATCH)]
        found = [unit(network(part)).cpu().numpy() for part in parts]
        return np.concatenate(found) if found else np.zeros((0, EMBEDDING), np.float32)

    enrolled = embed(test.gallery)
    gallery = unit_vectors(np.stack([enrolled[test.owner == one].mean(axis=0) for one in range(test.people)]))
    return {"gallery": gallery, "visible": embed(test.visible), "thermal": embed(test.thermal)}


def _tensor(crops: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2))).float()
