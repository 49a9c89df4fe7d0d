"""What stands beside the ways of `thermapair evaluate faceclip`: the bundle's own visible part, and CLIP as a reader."""

import cv2
import numpy as np
import torch

from models.columns import Columns
from models.visible.faceclip.clip import Clip
from models.visible.faceclip.config import CROP_SIDE
from models.visible.faceclip.faces import to_faces
from models.visible.faceclip.tokenizer import tokenize
from models.weights.bundle import Bundle
from pipelines.config.chain import resolve_chain

GIVEN = ("sample_id", "identity_id", "caption", "embedding", "crop", "noise_id")
"""Columns: a part reads the face itself, or the embedding of it by the bundle's recogniser."""


class BundlePart:
    """The bundle's visible part, asked as a job asks it for people who come with a picture."""

    def __init__(self, bundle: Bundle) -> None:
        self.link = resolve_chain(without_portraits(bundle), given=GIVEN, wanted=("visible",)).link("visible")
        self.stage = self.link.load(1)

    def draw(self, embeddings: np.ndarray, crops: np.ndarray, captions: list[str], names: list[str]) -> np.ndarray:
        """Return pictures uint8 [N, S, S, 3].

        embeddings: [N, 512], of the bundle's recogniser. crops: uint8 [N, 112, 112, 3], aligned. names: of their noise.
        """
        large = [cv2.resize(crop, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_CUBIC) for crop in crops]
        rows: Columns = {
            "embedding": embeddings,
            "crop": np.stack(large),
            "caption": np.array(captions, object),
            "noise_id": np.array(names, object),
        }
        return np.asarray(self.stage(rows, self.link.settings, self.link.batch(0))["visible"])


def without_portraits(bundle: Bundle) -> Bundle:
    """Return `bundle` whose visible part draws nobody first: everybody here comes with a picture."""
    part = bundle.part("visible")
    settings = {name: value for name, value in part.settings.items() if name != "portrait"}
    return bundle.model_copy(
        update={"parts": {**bundle.parts, "visible": part.model_copy(update={"settings": settings})}}
    )


@torch.inference_mode()
def clip_scores(clip: Clip, pictures: np.ndarray, captions: list[str]) -> np.ndarray:
    """Return the cosine of pictures uint8 [N, S, S, 3] and captions, the mean of both text towers, float [N]."""
    small = np.stack([cv2.resize(each, (112, 112), interpolation=cv2.INTER_AREA) for each in pictures])
    sides = clip.read_pictures(to_faces(small)), clip.read_texts(tokenize(captions))
    return np.mean([(own * text).sum(-1).numpy() for own, text in zip(*sides, strict=True)], axis=0)
