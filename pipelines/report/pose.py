"""How far the pose in the pictures is from the one that was asked for in degrees."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from models.visible.angles import ANGLES, TRAINED
from pipelines.config.generate import POSE

STEP = 15
"""Degrees of a bucket."""


@dataclass(frozen=True)
class PoseError:
    """Samples whose asked angle is so large, to either side: |asked| in [low, high) degrees."""

    angle: str
    """yaw, pitch or roll."""
    low: int
    high: int
    samples: int
    measured: int
    """Those whose landmarks say a pose."""
    error: float | None
    """Mean of |measured - asked| in degrees over them; None where there is none."""
    beyond_training: int
    """Those that ask for more than training has shown."""

    @property
    def text(self) -> str:
        """What it says, in words."""
        found = "not measured" if self.error is None else f"{self.error:.1f} degrees off"
        return f"{self.angle} {self.low} to {self.high}: {found}"


def pose_errors(asked: np.ndarray, measured: np.ndarray) -> list[PoseError]:
    """Return the errors of poses float [N, 3] in degrees by angle and bucket, those without a sample left out.

    NaN in `asked`: the angle was not asked for; in `measured`: no face was found.
    """
    found = []
    for place, name in enumerate(ANGLES):
        size, error = np.abs(asked[:, place]), np.abs(measured[:, place] - asked[:, place])
        # The last bucket takes the largest angle that there is.
        last = max(0.0, np.nanmax(size, initial=0.0))
        for low in range(0, int(last) + 1, STEP):
            chosen = (size >= low) & (size < low + STEP)
            there = chosen & np.isfinite(error)
            if chosen.any():
                found.append(
                    PoseError(
                        angle=name,
                        low=low,
                        high=low + STEP,
                        samples=int(chosen.sum()),
                        measured=int(there.sum()),
                        error=round(float(error[there].mean()), 2) if there.any() else None,
                        beyond_training=int((chosen & (size > TRAINED[name])).sum()),
                    )
                )
    return found


def read_poses(tables: Iterable[pa.Table]) -> tuple[np.ndarray, np.ndarray]:
    """Return the poses asked for and measured, float64 [N, 3], of rows that hold both columns; NaN where there is none."""
    nothing = [np.nan] * len(ANGLES)
    rows = [(row[POSE] or nothing, row["pose"] or nothing) for table in tables for row in table.to_pylist()]
    both = np.array(rows, np.float64).reshape(-1, 2, len(ANGLES))
    return both[:, 0], both[:, 1]
