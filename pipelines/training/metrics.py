"""What a training run says while it runs: metrics.jsonl, TensorBoard, sample pictures and a curve, at the run's URI."""

import contextlib
import io
import json
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

from pipelines.pictures.codecs import encode_png_rgb
from pipelines.storage.uri import Storage

FILE = "metrics.jsonl"


class Metrics:
    """Writes the records of a run from `step` on; records of later steps, which a resumed run repeats, are dropped."""

    def __init__(self, out: Storage, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.out = out
        self.records = [record for record in read_metrics(out) if record["step"] <= step]
        self._scratch = tempfile.TemporaryDirectory(prefix="tensorboard-")
        folder = out.path("tensorboard") if out.local else self._scratch.name
        self._board = SummaryWriter(folder, purge_step=step + 1, flush_secs=30)
        self.flush()

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._board.close()
        self.flush()
        self._scratch.cleanup()

    def log(self, record: dict[str, float]) -> None:
        """Add one record; it must hold `step`."""
        self.records.append(record)
        for name, value in record.items():
            if name != "step":
                self._board.add_scalar(name, value, int(record["step"]))
        if self.out.local:
            with open(self.out.path(FILE), "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def picture(self, step: int, sheet: np.ndarray) -> None:
        """Keep a sheet of samples, uint8 [H, W, 3]."""
        self.out.write(f"pictures/step-{step:07d}.png", encode_png_rgb(sheet))
        self._board.add_image("samples", sheet, step, dataformats="HWC")

    def flush(self) -> None:
        """Write everything so far: object storage has no append."""
        self.out.write(FILE, "".join(json.dumps(record) + "\n" for record in self.records).encode())
        if not self.out.local:
            for path in Path(self._scratch.name).iterdir():
                self.out.write(f"tensorboard/{path.name}", path.read_bytes())

    def curve(self) -> None:
        """Draw loss and validation score over steps into curve.png."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 3))
        for axis, name in zip(figure.subplots(1, 2), ("loss", "validation/score"), strict=True):
            points = [(record["step"], record[name]) for record in self.records if name in record]
            axis.plot(*zip(*points, strict=True), marker="." if len(points) < 50 else "") if points else None
            axis.set(xlabel="step", title=name)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        self.out.write("curve.png", buffer.getvalue())


def read_metrics(out: Storage) -> list[dict[str, float]]:
    """Return the records of the run at `out`; a line cut short by a kill is dropped."""
    records = []
    with contextlib.suppress(FileNotFoundError):
        for line in out.read(FILE).decode().splitlines():
            with contextlib.suppress(ValueError):
                records.append(json.loads(line))
    return records
