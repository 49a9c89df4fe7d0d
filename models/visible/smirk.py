"""SMIRK's 55 numbers of an expression: what they may be, and a map to them from the words and strengths of ours.

The map is linear: numbers = bias + sum over expressions of strength * row, by least squares on pairs of the two. It is a file
`expression_map.json` beside the adapter's weights. None comes with the project: pairs need SMIRK run on pictures of known
expressions, and without a map words do not move the adapter.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from models.errors import EnvironmentFault, UserError

EXPRESSION, EYELIDS, JAW = slice(0, 50), slice(50, 52), slice(52, 55)
SMIRK = 55
"""50 numbers of FLAME's expression, 2 of the eyelids, 3 of the jaw (pose vector, radians; the first opens it)."""
MAP = "expression_map.json"


def clamp(values: np.ndarray) -> np.ndarray:
    """Return SMIRK's numbers float32 [..., 55] within what its encoder gives: eyelids 0 to 1, the jaw's first from 0 on, its
    others -0.2 to 0.2; NaN stays."""
    bounded = np.array(values, np.float32)
    bounded[..., EYELIDS] = bounded[..., EYELIDS].clip(0, 1)
    bounded[..., 52] = np.maximum(bounded[..., 52], 0)
    bounded[..., 53:] = bounded[..., 53:].clip(-0.2, 0.2)
    return bounded


def check_smirk(values: Sequence[float] | np.ndarray, where: str) -> np.ndarray:
    """Return the numbers of one expression, float32 [55], clamped. A UserError that begins with `where` if they are none."""
    try:
        numbers = np.asarray(values, np.float32)
    except (ValueError, TypeError):
        raise UserError(f"{where}: smirk is no list of numbers.") from None
    if numbers.shape != (SMIRK,):
        found = " x ".join(map(str, numbers.shape))
        raise UserError(
            f"{where}: smirk has {found} numbers instead of {SMIRK}: 50 of the expression, 2 of the eyelids, 3 of the jaw."
        )
    if not np.isfinite(numbers).all():
        raise UserError(f"{where}: smirk has values that are not finite.")
    return clamp(numbers)


class ExpressionMap(BaseModel):
    """SMIRK's numbers of expressions by name, as `fit` found them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    names: tuple[str, ...]
    weight: tuple[tuple[float, ...], ...]
    """[names, 55]: what full strength adds."""
    bias: tuple[float, ...]
    """[55]: a face at rest."""
    pairs: int
    error: float
    """Root of the mean squared error over all numbers of pairs that were left out (cross-validation)."""
    error_of_mean: float
    """The same of the mean of the others, which knows no expression: a map of use is well below it."""

    @model_validator(mode="after")
    def _check_shape(self) -> "ExpressionMap":
        rows = {len(row) for row in (*self.weight, self.bias)}
        if rows != {SMIRK} or len(self.weight) != len(self.names):
            raise ValueError(f"weight is [{len(self.names)}, {SMIRK}] and bias [{SMIRK}]")
        return self

    @classmethod
    def load(cls, path: Path) -> "ExpressionMap":
        """Return the map in a file. Raises EnvironmentFault for one that is damaged."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise EnvironmentFault(f"{path} is no map of expressions: {error}. Fit it again.") from None

    def save(self, path: Path) -> None:
        """Write the file that `load` reads."""
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def __call__(self, strengths: Sequence[Mapping[str, float]]) -> np.ndarray:
        """Return numbers float32 [B, 55], clamped, of expressions by name and strength. Raises UserError for an unknown name."""
        return clamp(_design(strengths, self.names) @ np.array([*self.weight, self.bias]))


def fit(pairs: Sequence[tuple[Mapping[str, float], Sequence[float]]], folds: int = 10) -> ExpressionMap:
    """Return the map that least squares finds, with its error on what was left out.

    pairs: expressions by name and strength (a face at rest has none), and the 55 numbers that SMIRK read off such a face.

    Raises:
        UserError: too few pairs to leave some out, numbers that are none, or expressions that the pairs do not tell apart.
    """
    names = tuple(sorted({name for strengths, _ in pairs for name in strengths}))
    if not names or len(pairs) < 2 * (len(names) + 1):
        raise UserError(
            f"{len(pairs)} pairs of {len(names)} expressions: a map needs an expression and at least twice as many pairs as "
            "numbers that it learns for each of SMIRK's (one an expression, and one for rest)."
        )
    strengths = _design([one for one, _ in pairs], names)
    smirk = np.stack([check_smirk(values, f"pair {row}") for row, (_, values) in enumerate(pairs)]).astype(np.float64)
    rows, rank = _solve(strengths, smirk)
    if rank <= len(names):
        raise UserError(
            f"the pairs do not tell their expressions apart ({', '.join(names)}): give some of each alone, and of faces at rest."
        )
    # The error on pairs that were left out, each once. Drawn folds: every tenth row of a table may be the same expression.
    left_out, of_mean, folds = np.zeros_like(smirk), np.zeros_like(smirk), min(folds, len(pairs))
    fold_of = np.random.default_rng(0).permutation(len(pairs)) % folds
    for fold in range(folds):
        test = fold_of == fold
        left_out[test] = clamp(strengths[test] @ _solve(strengths[~test], smirk[~test])[0])
        of_mean[test] = smirk[~test].mean(axis=0)
    return ExpressionMap(
        names=names,
        weight=tuple(map(tuple, rows[:-1].tolist())),
        bias=tuple(rows[-1].tolist()),
        pairs=len(pairs),
        error=_root_mean_square(left_out - smirk),
        error_of_mean=_root_mean_square(of_mean - smirk),
    )


def _design(strengths: Sequence[Mapping[str, float]], names: Sequence[str]) -> np.ndarray:
    """Return float64 [B, names + 1]: the strength of each expression, and 1."""
    if unknown := sorted({name for one in strengths for name in one} - set(names)):
        raise UserError(f"the map of expressions does not know {', '.join(unknown)}; it knows {', '.join(names)}.")
    return np.array([[*(one.get(name, 0.0) for name in names), 1.0] for one in strengths], np.float64)


def _solve(strengths: np.ndarray, smirk: np.ndarray) -> tuple[np.ndarray, int]:
    """Return what least squares finds, float64 [names + 1, 55], and the rank of `strengths`."""
    found, _, rank, _ = np.linalg.lstsq(strengths, smirk, rcond=None)
    return np.asarray(found), int(rank)


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))
