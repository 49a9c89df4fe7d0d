"""What the diffusion model is trained on, made once from the world's rows: latents, embeddings and pixel weights."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from models.classes import CLASSES, IGNORE
from models.errors import EnvironmentFault
from models.faces.align import CROP, align, five_points
from models.faces.metrics import unit_vectors
from models.faces.pack import Session, embed, open_sessions
from models.padding import in_batches
from models.visible.angles import FILE as HEAD
from models.visible.autoencoder import Vae, encode, load_autoencoder
from models.visible.head import HeadReader
from models.weights.store import ROOT

BATCH = 32
FACE = np.isin(CLASSES, ("SKIN", "NOSE", "RIGHT_EYE", "LEFT_EYE", "RIGHT_BROW", "LEFT_BROW", "MOUTH_INTERIOR", "TOP_LIP",
                         "BOTTOM_LIP", "BEARD"))  # fmt: skip


def from_root(path: str) -> Path:
    """Return `path`, relative ones from the repository root: a training process may run anywhere."""
    return ROOT / path


@lru_cache(maxsize=1)
def autoencoder(folder: str) -> Vae:
    """Return the frozen autoencoder of `folder`."""
    return load_autoencoder(from_root(folder)).requires_grad_(False)


@lru_cache(maxsize=2)
def recogniser(folder: str) -> Session:
    """Return the session of the recogniser in an insightface pack. Raises EnvironmentFault for a folder without one."""
    session = open_sessions(from_root(folder), threads=torch.get_num_threads())[1]
    if session is None:
        raise EnvironmentFault(
            f"{from_root(folder)} holds no recogniser (an ONNX file that takes {CROP} px crops). Train it first."
        )
    return session


@lru_cache(maxsize=1)
def head_reader(folder: str) -> HeadReader:
    """Return what reads measures from embeddings in a visible model's folder."""
    return HeadReader.load(from_root(folder) / HEAD)


def encode_latents(pictures: np.ndarray, folder: str) -> np.ndarray:
    """Return scaled latents float16 [B, C, S/8, S/8] of pictures uint8 [B, S, S, 3]; folder: of the autoencoder."""
    vae = autoencoder(folder)
    with torch.inference_mode():
        latents = in_batches(lambda few: encode(vae, few), torch.from_numpy(np.ascontiguousarray(pictures)), BATCH)
    return latents.half().numpy()


def embed_pictures(pictures: np.ndarray, landmarks_70: np.ndarray, folder: str) -> np.ndarray:
    """Return unit embeddings float32 [B, 512] of pictures uint8 [B, S, S, 3], aligned on the world's own landmarks [B, 70, 2]."""
    return embed_crops(align(pictures, five_points(landmarks_70)), folder)


def embed_crops(crops: np.ndarray, folder: str) -> np.ndarray:
    """Return unit embeddings float32 [B, 512] of aligned crops uint8 [B, 112, 112, 3]; folder: of the insightface pack."""
    return unit_vectors(embed(recogniser(folder), crops, BATCH))


def embeddings_of_others(
    embedding: np.ndarray, identity: np.ndarray, view: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (mean over the person's other views, one of those views), each unit float32 [B, 512].

    identity, view: int [B]. Only the rows of this batch are looked at: a person's pictures lie together in the shards. A
    person with a single view keeps that view's embedding.

    A picture is conditioned on other pictures of the person so that the embedding carries who it is, not its light or pose.
    """
    # Which of the other views stands alone follows from the row, so the same rows give the same pair.
    mean, one = embedding.copy(), embedding.copy()
    for row in range(len(embedding)):
        others = np.flatnonzero((identity == identity[row]) & (view != view[row]))
        if len(others):
            mean[row] = unit_vectors(embedding[others].sum(axis=0))
            one[row] = embedding[others[row % len(others)]]
    return mean, one


def face_weight(classes: np.ndarray, side: int, face: float) -> np.ndarray:
    """Return the weight of each latent cell, float16 [B, side, side], from 1 off the face to `face` on it.

    classes: uint8 [B, S, S]; where nothing says the class (IGNORE), no face is known.
    """
    on_face = FACE[np.where(classes == IGNORE, 0, classes)] & (classes != IGNORE)
    share = F.adaptive_avg_pool2d(torch.from_numpy(on_face.astype(np.float32))[:, None], side)[:, 0]
    return (1 + (face - 1) * share).half().numpy()
