"""Faces as FaceCLIP reads them: ArcFace's alignment at 448 pixels, RGB in [0, 1], without normalisation."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.faces.align import CROP, TEMPLATE, crop, fit_similarities
from models.faces.colour import shows_one_number
from models.faces.decode import Detections
from models.visible.faceclip.config import CROP_SIDE


class BadFace(ValueError):
    """A picture that FaceCLIP reads no face from; the message says why, and the way out."""


def align_faces(pictures: Sequence[np.ndarray], points: np.ndarray) -> np.ndarray:
    """Return crops uint8 [B, 448, 448, 3] of pictures uint8 [H, W, 3] with five points float32 [B, 5, 2] px; black outside."""
    matrices = fit_similarities(points, TEMPLATE * (CROP_SIDE / CROP))
    crops = [crop(picture, matrix, CROP_SIDE) for picture, matrix in zip(pictures, matrices, strict=True)]
    return np.stack(crops) if crops else np.zeros((0, CROP_SIDE, CROP_SIDE, 3), np.uint8)


def cut_face(picture: np.ndarray, found: Detections) -> np.ndarray:
    """Return the crop uint8 [448, 448, 3] of the one face that was found in a photograph uint8 [H, W, 3].

    Raises:
        BadFace: no face, several, or a picture or face without colour.
    """
    check_colour(picture)
    if (count := len(found.scores)) != 1:
        raise BadFace(
            "no face was found; give a photograph with one, or no face at all"
            if count == 0
            else f"{count} faces were found, and an embedding is of one; crop the picture to the person meant"
        )
    return cut_in_colour(picture, found.points[0])


def cut_in_colour(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the crop uint8 [448, 448, 3] of the face with five `points` [5, 2] px in a photograph uint8 [H, W, 3].

    Raises BadFace where the picture, or what is cut out of it, has no colour.
    """
    check_colour(picture)
    (face,) = align_faces([picture], points[None])
    check_colour(face)
    return face


def recogniser_crops(crops: np.ndarray) -> np.ndarray:
    """Return crops uint8 [B, 448, 448, 3] as a recogniser reads them, uint8 [B, 112, 112, 3]: the mean of 4 x 4 pixels each."""
    cells = crops.reshape(len(crops), CROP, CROP_SIDE // CROP, CROP, CROP_SIDE // CROP, 3)
    return np.round(cells.mean(axis=(2, 4))).astype(np.uint8)


def check_colour(picture: np.ndarray) -> None:
    """Raise BadFace for a picture that is no RGB or shows one number a pixel: the face ViT knows photographs in colour alone."""
    if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8:
        raise BadFace("a grey or thermal picture, and FaceCLIP reads faces in colour; give a photograph in colour")
    if shows_one_number(picture):
        raise BadFace(
            "a picture in grey, sepia or a palette, maybe a thermal one, and FaceCLIP reads faces in colour; give one in colour"
        )


def to_faces(crops: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Return crops uint8 [B, H, W, 3] of one size as the encoder's input float32 [B, 3, H, W] in [0, 1]."""
    return torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float() / 255


def no_face(rows: int, device: torch.device | str = "cpu") -> Tensor:
    """Return what stands for the faces of rows without one: zeros float32 [rows, 3, 112, 112]."""
    return torch.zeros(rows, 3, CROP, CROP, device=device)
