"""The stage that places landmarks on finished pairs: on the visible picture and, for itself, on each thermal one."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from models.classes import BACKGROUND, CLASSES
from models.columns import Columns
from models.errors import EnvironmentFault
from models.landmarks.adapt import Adapter, adapt_face, load_adapter
from models.landmarks.calibration import read_calibration
from models.landmarks.detect import Detector, Face, box_window, cut, decode_face, load_detector, read_detection
from models.landmarks.intensity import unit_values
from models.landmarks.metrics import nme
from models.landmarks.network import Landmarker, fold_batch_norms, load_landmarker, normalise
from models.landmarks.pose import estimate_pose
from models.landmarks.settings import TRAINED, Standard
from models.padding import in_batches
from models.stages import NoOptions
from models.temperature import from_centikelvin
from models.weights.networks import accelerator, device_of

OPAQUE = np.isin(np.arange(len(CLASSES)), [CLASSES.index(n) for n in ("HAIR", "CLOTHING", "HEADWEAR", "FACEWEAR")])
OPAQUE[BACKGROUND] = True
GLASSES = CLASSES.index("GLASSES")


class Stage:
    """`visible` uint8 [B, S, S, 3], `thermal` uint16 [B, C, S, S] centikelvin, `classes`, `bbox` [B, 4] -> for each
    standard L in the part (70, 478), NaN (and False) where no face was found:

    `landmarks_L` float32 [B, L, 2] px, placed on the visible picture: the pair's pixels are the same in both;
    `variance_L_visible` [B, L] and `variance_L_thermal` [B, C, L] float32 px^2, what each picture says for itself;
    `seen_L_visible`, `seen_L_thermal` bool [B, L]: the point's pixel shows the face, not what covers it (see `shows_face`);
    and with 70 landmarks `pose` float32 [B, 3], yaw, pitch, roll in degrees, and `apart_70` float32 [B, C], how far the points of
    each thermal picture alone are from the visible one's ("NME W/H").

    weights: `model`, a folder with `70/landmarker.safetensors`, `478/landmarker.safetensors` or both, and maybe
    `adapters/`. Beyond the call every kind of this stage offers `at_boxes`, for photographs of any size, and
    `find_frame`, for thermal frames in which faces are looked for.
    """

    def __init__(
        self, weights: Mapping[str, Path], options: NoOptions, *, dtype: str = "float32", threads: int = 1
    ) -> None:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        # One model for each standard in the part, with its margin and its calibration.
        part = weights["model"]
        self.part, self.adapters = part, dict[Standard, Adapter]()
        self.detector: Detector | None = None
        folders = {number: folder for number in TRAINED if (folder := part / str(number)).is_dir()}
        self.models = {number: _load_model(folder, dtype) for number, folder in folders.items()}
        self.margins = {number: read_detection(folder).margin for number, folder in folders.items()}
        self.factors = {number: read_calibration(folder) for number, folder in folders.items()}
        if not self.models:
            raise EnvironmentFault(f"{part} holds no landmarker: neither 70/ nor 478/ is there. Train one.")

    def __call__(self, rows: Columns, settings: NoOptions, batch: int) -> Columns:
        """Return the columns above."""
        visible, boxes = rows["visible"], np.asarray(rows["bbox"], np.float64)
        found = np.flatnonzero(np.isfinite(boxes).all(axis=1))
        celsius = from_centikelvin(rows["thermal"])
        columns: Columns = {}
        for number in self.models:
            # Look at each face in the visible picture and in each thermal layer; rows without a face stay NaN.
            count, layers = celsius.shape[:2]
            points = np.full((count, number, 2), np.nan, np.float32)
            spread = np.full((count, 1 + layers, number), np.nan, np.float32)
            apart = np.full((count, layers), np.nan, np.float32)
            for row in found:
                pictures = [unit_values(visible[row]), *(unit_values(layer, "temperature") for layer in celsius[row])]
                faces = self._look(number, [(picture, boxes[row]) for picture in pictures], batch)
                points[row] = faces[0].points
                spread[row] = [face.variance for face in faces]
                apart[row] = [float(nme(face.points[None], points[row][None])[0]) for face in faces[1:]]
            # Variances calibrated by modality.
            spread[:, 0] *= self.factors[number].get("visible", 1.0)
            spread[:, 1:] *= self.factors[number].get("thermal", 1.0)
            columns |= {
                f"landmarks_{number}": points,
                f"variance_{number}_visible": spread[:, 0],
                f"variance_{number}_thermal": spread[:, 1:],
                f"seen_{number}_visible": shows_face(points, rows["classes"], "visible"),
                f"seen_{number}_thermal": shows_face(points, rows["classes"], "thermal"),
            }
            if number == 70:
                columns |= {"pose": estimate_pose(points), "apart_70": apart}
        return columns

    def at_boxes(
        self, pictures: Sequence[np.ndarray], boxes: Sequence[np.ndarray], number: Standard, batch: int
    ) -> list[list[Face]]:
        """Return `number` landmarks with calibrated variance in each of `boxes` [N, 4] of each picture [H, W, 3]:
        uint8, or float32 in [0, 1].

        What no landmarker places is converted by an adapter of the part. Raises a UserError where there is neither.
        """
        # No landmarker of these points: convert those of another.
        if number not in self.models:
            if number not in self.adapters:
                self.adapters[number] = load_adapter(self.part, number, tuple(self.models))
            adapter = self.adapters[number]
            found = self.at_boxes(pictures, boxes, adapter.config.source, batch)
            return [[adapt_face(adapter, face) for face in faces] for faces in found]
        # A look per box, those of all pictures in one batch; their variances calibrated.
        looks = [
            (values, box)
            for values, of_picture in zip((unit_values(picture, "pixel") for picture in pictures), boxes, strict=True)
            for box in np.asarray(of_picture, np.float64)
        ]
        factor = self.factors[number].get("visible", 1.0)
        faces = iter(
            dataclasses.replace(face, variance=face.variance * factor) for face in self._look(number, looks, batch)
        )
        return [[next(faces) for _ in of_picture] for of_picture in boxes]

    def find_frame(self, celsius: np.ndarray, most: int) -> list[Face]:
        """Return the faces of a thermal frame, degrees Celsius float32 [H, W], by the first landmarker's windows: `most` of
        them, the surest first."""
        if self.detector is None:
            self.detector = load_detector(self.part / str(next(iter(self.models))))
        return self.detector.find(celsius, "temperature", most=most)

    @torch.inference_mode()
    def _look(self, number: Standard, looks: Sequence[tuple[np.ndarray, np.ndarray]], batch: int) -> list[Face]:
        """Return the face in the box [4] of each look: of a picture float32 [H, W, 3]."""
        if not looks:
            return []
        model = self.models[number]
        side = model.config.size
        # Cut the faces out and run them as one batch.
        windows = [box_window(box, side, self.margins[number]) for _, box in looks]
        crops = np.stack([cut(picture, window, side) for (picture, _), window in zip(looks, windows)])

        def run(part: Tensor) -> Tensor:
            inputs = normalise(part.to(device_of(model)).permute(0, 3, 1, 2))
            kind = next(model.feature_network.parameters()).dtype
            return model(inputs.to(kind).contiguous(memory_format=torch.channels_last)).cpu()

        outputs = in_batches(run, torch.from_numpy(crops), batch).numpy()
        return [decode_face(out, window, side) for out, window in zip(outputs, windows)]


def shows_face(points: np.ndarray, classes: np.ndarray, modality: Literal["visible", "thermal"]) -> np.ndarray:
    """Return which points [B, L, 2] (px) show, bool [B, L], by the class uint8 [B, S, S] of the pixel they lie in.

    Hair, clothes, hats, masks and the background cover a point, glasses only for thermal; a beard covers nothing, its skin
    line stays readable. A point turned away whose pixel shows another part of the face counts as seen: the classes cannot tell.
    """
    # The class of the pixel that each point lies in.
    size = classes.shape[1:]
    inside = np.isfinite(points).all(axis=-1) & (points >= 0).all(axis=-1) & (points < size[::-1]).all(axis=-1)
    column, row = np.moveaxis(np.where(inside[..., None], points, 0).astype(np.int64), -1, 0)
    under = np.minimum(classes[np.arange(len(classes))[:, None], row, column], len(CLASSES) - 1)
    return inside & ~OPAQUE[under] & ~((under == GLASSES) & (modality == "thermal"))


def _load_model(folder: Path, dtype: str) -> Landmarker:
    """Return the landmarker of `folder` for inference."""
    model = fold_batch_norms(load_landmarker(folder / "landmarker.safetensors"))
    if dtype != "float32":
        model.feature_network.to(getattr(torch, dtype))
    return model.to(accelerator(), memory_format=torch.channels_last)  # type: ignore[call-overload]
