"""Faces in thermal pictures, found by the landmarker and embedded by a recogniser that was adapted to them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from models.errors import EnvironmentFault
from models.faces.align import align, five_points
from models.faces.decode import Detections
from models.faces.metrics import unit_vectors
from models.faces.pack import embed, open_sessions
from models.landmarks.detect import Face, load_detector


class ThermalFaces:
    """What `pipelines.pictures.faces.find_faces` asks of a stage, for thermal pictures as `show_thermal` shows them.

    landmarks: folder of the part that finds faces by its 70 points. recogniser: folder with the ONNX file that `train hfr` wrote.
    """

    def __init__(self, landmarks: Path, recogniser: Path, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.detector = load_detector(landmarks / "70")
        session = open_sessions(recogniser, threads)[1]
        if session is None:
            raise EnvironmentFault(
                f"{recogniser} holds no recogniser: an ONNX file that takes aligned crops. Train hfr first."
            )
        self.recogniser = session

    def find(self, pictures: Sequence[np.ndarray], batch: int) -> list[Detections]:
        """Return the faces of pictures uint8 [H, W, 3]; a score is 1 for points that are sure, 0 for those that are anywhere."""
        return [_detections(self.detector.find(picture, "pixel")) for picture in pictures]

    def embed(self, pictures: Sequence[np.ndarray], points: np.ndarray, batch: int) -> np.ndarray:
        """Return embeddings float32 [B, 512] of length one: of the face at `points` float32 [B, 5, 2] px of each picture."""
        crops = [align(picture[None], five[None])[0] for picture, five in zip(pictures, points, strict=True)]
        return unit_vectors(embed(self.recogniser, np.stack(crops), batch))


def _detections(faces: Sequence[Face]) -> Detections:
    """Return faces as a detector gives them, surest first."""
    return Detections(
        np.array([face.box for face in faces], np.float32).reshape(-1, 4),
        np.array([1 / (1 + 1e3 * face.uncertainty) for face in faces], np.float32),
        np.array([five_points(face.points) for face in faces], np.float32).reshape(-1, 5, 2),
    )
