"""What FaceCLIP's trainings read of rows: the face's crop, the whole picture, who it is and what is said of it."""

import json
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from models.captions.grammar import write_caption
from models.columns import Columns
from models.faces.align import five_points
from models.seeds import seed_of
from models.visible.faceclip.config import IMAGE
from models.visible.faceclip.faces import align_faces, to_faces
from models.visible.faceclip.vit import resize_faces

COLUMNS = ("world_identity", "view", "visible", "landmarks_70", "attributes")


def prepare_rows(rows: Columns) -> Columns:
    """Return crops and pictures uint8 [B, 112, 112, 3], persons and views int64 [B], attributes (JSON)."""
    points = five_points(np.asarray(rows["landmarks_70"], np.float32).reshape(-1, 70, 2))
    # As an aligned crop of a photograph is resized when it is used.
    crops = resize_faces(to_faces(align_faces(list(rows["visible"]), points)), torch.float32)
    pictures = [cv2.resize(each, (IMAGE, IMAGE), interpolation=cv2.INTER_AREA) for each in rows["visible"]]
    return {
        "crop": (crops * 255).round().byte().permute(0, 2, 3, 1).numpy(),
        "picture": np.stack(pictures),
        "person": rows["world_identity"].astype(np.int64),
        "view": rows["view"].astype(np.int64),
        "attributes": rows["attributes"],
    }


def write_captions(attributes: np.ndarray, seeds: np.ndarray, drop: float) -> list[str]:
    """Return captions of attributes (JSON, text [B]), each left unsaid with the chance `drop`; seeds: int64 [B]."""
    captions = []
    for text, seed in zip(attributes, seeds, strict=True):
        rng = np.random.default_rng(int(seed))
        said = {name: word for name, word in json.loads(str(text)).items() if rng.random() >= drop}
        captions.append(write_caption(said, seed_of(int(seed), "caption")))
    return captions


def number(texts: Sequence[str]) -> Tensor:
    """Return a number for each text, the same for the same, int64 [B]."""
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return torch.tensor([places[text] for text in texts])


def other_views(person: np.ndarray, view: np.ndarray) -> np.ndarray:
    """Return for each row one of the same person in another view, int64 [N]; of a person with one view the row itself.

    Only the rows at hand are looked at: a person's pictures lie together in the shards.
    """
    chosen = np.arange(len(person))
    for row in range(len(person)):
        others = np.flatnonzero((person == person[row]) & (view != view[row]))
        if len(others):
            chosen[row] = others[row % len(others)]
    return chosen
