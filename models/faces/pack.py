"""An insightface pack (a folder of ONNX files) run on batches: insightface's own `FaceAnalysis` takes one picture at a time."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from models.errors import EnvironmentFault
from models.faces.align import CROP
from models.faces.decode import Detections, candidates, letterbox, merge_scales
from models.faces.inputs import DETECTOR_SCALE, RECOGNISER_SCALE, scales_itself, to_blob
from models.faces.onnx_limits import check_sizes
from models.faces.recogniser import EMBEDDING
from models.padding import chunks

Sizes = Sequence[tuple[int, int]]


class Pack:
    """Detector and recogniser of the pack in `folder`.

    The files are recognised by their shape, as insightface does it: nine outputs are an SCRFD with five points, a square
    input of 112 px and one output a recogniser. Detectors that were exported for one picture at a time work too, only
    slower. Scores and thresholds are insightface's: 0.5 to be a face, suppression at IoU 0.4.

    Raises:
        EnvironmentFault: the folder has no such two files, or one of them cannot be read.
    """

    def __init__(self, folder: Path, *, threads: int = 1, least: float = 0.5) -> None:
        self.least = least
        detector, recogniser = open_sessions(folder, threads)
        if detector is None or recogniser is None:
            raise EnvironmentFault(
                f"{folder} is no face pack: it needs an SCRFD ONNX file with five points (9 outputs), which is "
                f"{'there' if detector else 'missing'}, and an ArcFace ONNX file ({CROP} px, 1 output), which is "
                f"{'there' if recogniser else 'missing'}."
            )
        self.detector, self.recogniser = detector, recogniser
        self._batched = len(self.detector.get_outputs()[0].shape) == 3

    def find(self, pictures: Sequence[np.ndarray], sizes: Sizes, batch: int = 32) -> list[Detections]:
        """Return the faces of each picture (uint8 [H, W, 3] RGB, any sizes).

        sizes: (width, height) of the detector's inputs, multiples of 32; what several find is merged. batch: pictures of
        one forward pass; shorter ones are padded.
        """
        parts: list[list[Detections]] = [[] for _ in pictures]
        for size in sizes:
            for rows, missing in chunks(len(pictures), batch if self._batched else 1):
                # Shorter batches are padded with their last picture.
                boxed = [letterbox(picture, size) for picture in pictures[rows]]
                outputs = self._detect(np.stack([p for p, _ in boxed] + [boxed[-1][0]] * missing))
                for row, (_, scale) in enumerate(boxed):
                    parts[rows.start + row].append(candidates(outputs, row, size, scale, self.least))
        return [merge_scales(part) for part in parts]

    def embed(self, crops: np.ndarray, batch: int = 32) -> np.ndarray:
        """Return embeddings float32 [B, 512] (not of length one) of aligned crops uint8 [B, 112, 112, 3] RGB."""
        return embed(self.recogniser, crops, batch)

    def _detect(self, pictures: np.ndarray) -> list[np.ndarray]:
        """Return the nine outputs as [B, N, values]."""
        outputs = self.detector.run(None, {self.detector.get_inputs()[0].name: to_blob(pictures, DETECTOR_SCALE)})
        return outputs if self._batched else [output[None] for output in outputs]


class Session(ort.InferenceSession):
    """A session that knows whether its graph shifts and scales pictures itself."""

    def __init__(self, path: Path, options: ort.SessionOptions, providers: list[str]) -> None:
        super().__init__(str(path), options, providers=providers)
        self.scales_itself = scales_itself(path)


PackFile = tuple[Path, Session] | tuple[None, None]
"""A file of a pack and its session, where there is one."""


def open_sessions(folder: Path, threads: int) -> tuple[Session | None, Session | None]:
    """Return the detector and the recogniser in `folder`, the first of each by name; None for one that is not there."""
    detector, recogniser = _open_files(folder, threads)
    return detector[1], recogniser[1]


def recogniser_file(folder: Path) -> Path | None:
    """Return the recogniser's ONNX file in `folder`, told by its inputs and outputs, None without one."""
    return _open_files(folder, threads=1)[1][0]


def recogniser_digest(folder: Path) -> str:
    """Return what tells the recogniser in `folder` from others: 16 hex digits of its file's SHA-256, "" without one."""
    path = recogniser_file(folder)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path else ""


def _open_files(folder: Path, threads: int) -> tuple[PackFile, PackFile]:
    """Return the files of detector and recogniser, each with its session."""
    detector: PackFile = None, None
    recogniser: PackFile = None, None
    for path in sorted(Path(folder).glob("*.onnx")):
        # A file is told by its inputs and outputs; the first of each kind counts.
        found = open_session(path, threads)
        if len(found.get_outputs()) == 9:
            detector = detector if detector[0] else (path, found)
        elif len(found.get_outputs()) == 1 and found.get_inputs()[0].shape[2:] == [CROP, CROP]:
            recogniser = recogniser if recogniser[0] else (path, found)
    return detector, recogniser


def embed(recogniser: Session, crops: np.ndarray, batch: int) -> np.ndarray:
    """Return embeddings float32 [B, 512] of crops uint8 [B, 112, 112, 3], `batch` at a time (padded)."""
    name = recogniser.get_inputs()[0].name
    out = [np.zeros((0, EMBEDDING), np.float32)]
    for rows, missing in chunks(len(crops), batch):
        # The last batch is padded with its last crop.
        part = np.concatenate([crops[rows], np.repeat(crops[rows][-1:], missing, axis=0)])
        blob = (
            part.transpose(0, 3, 1, 2).astype(np.float32)
            if recogniser.scales_itself
            else to_blob(part, RECOGNISER_SCALE)
        )
        found = recogniser.run(None, {name: blob})[0]
        out.append(found[: len(part) - missing])
    return np.concatenate(out)


def open_session(path: Path, threads: int) -> Session:
    """Open an ONNX file on the GPU if the runtime has one, else with `threads` CPU threads that do not spin."""
    check_sizes(path)
    # Threads that spin while they wait would take the processor from other actors.
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    available = ort.get_available_providers()
    try:
        return Session(path, options, [p for p in wanted if p in available])
    except Exception as error:  # the runtime's exceptions share no base class
        raise EnvironmentFault(f"{path}: no readable ONNX file ({error}). Fetch or train it again.") from error
