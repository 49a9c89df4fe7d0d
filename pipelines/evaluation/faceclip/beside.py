"""What stands beside the ways of `thermapair evaluate faceclip`: the bundle's own drawing by ArcFace, and CLIP as a reader."""

import cv2
import numpy as np
import torch

from models.columns import Columns
from models.visible.faceclip.clip import Clip
from models.visible.faceclip.faces import to_faces
from models.visible.faceclip.tokenizer import tokenize
from models.weights.bundle import Bundle
from pipelines.config.chain import resolve_chain


class ArcFace:
    """The bundle's visible part, asked as a job asks it."""

    def __init__(self, bundle: Bundle) -> None:
        given = ("sample_id", "identity_id", "caption", "embedding", "noise_id")
        self.link = resolve_chain(bundle, given=given, wanted=("visible",)).link("visible")
        self.stage = self.link.load(1)

    def draw(self, embeddings: np.ndarray, captions: list[str], names: list[str]) -> np.ndarray:
        """Return pictures uint8 [N, S, S, 3] of embeddings [N, 512] of the bundle's recogniser; names: of their noise."""
        rows: Columns = {
            "embedding": embeddings,
            "caption": np.array(captions, object),
            "noise_id": np.array(names, object),
        }
        return np.asarray(self.stage(rows, self.link.settings, self.link.batch(0))["visible"])


@torch.inference_mode()
def clip_scores(clip: Clip, pictures: np.ndarray, captions: list[str]) -> np.ndarray:
    """Return the cosine of pictures uint8 [N, S, S, 3] and captions, the mean of both text towers, float [N]."""
    small = np.stack([cv2.resize(each, (112, 112), interpolation=cv2.INTER_AREA) for each in pictures])
    sides = clip.read_pictures(to_faces(small)), clip.read_texts(tokenize(captions))
    return np.mean([(own * text).sum(-1).numpy() for own, text in zip(*sides, strict=True)], axis=0)
