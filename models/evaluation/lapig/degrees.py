"""The errors of temperatures on true pictures, person by person."""

import numpy as np

from models.columns import Columns
from models.evaluation.ensembles import DrawErrors
from models.evaluation.lapig.read import Figures
from models.thermal.baselines import Errors


def flatten_layers(true: Columns, conditions: tuple[str, ...]) -> Columns:
    """Return a row for each condition of true pairs: `visible`, `classes`, `person`, `thermal` float32 [N C, S, S] degC, `valid`
    and `condition`."""
    layers = len(conditions)
    rows = {name: np.repeat(true[name], layers, axis=0) for name in ("visible", "classes", "person")}
    for name, source in (("thermal", "celsius"), ("valid", "valid")):
        rows[name] = true[source].reshape(-1, *true[source].shape[2:])
    return rows | {"condition": np.array(list(conditions) * len(true["person"]), object)}


def degree_errors(rows: Columns, draws: np.ndarray) -> Figures:
    """Return each person's figures (`DrawErrors`) of draws float [K, N, S, S] degC, and `mae_offset` of their mean."""
    people = np.unique(rows["person"])
    names, each = ("visible", "thermal", "valid", "classes", "condition"), list[dict[str, float]]()
    for who in people:
        mine = rows["person"] == who
        chosen = {name: rows[name][mine] for name in names}
        found, mean = DrawErrors(), Errors()
        found.add(chosen, draws[:, mine])
        mean.add(chosen, draws[:, mine].mean(axis=0))
        summary = found.summary()
        each.append({"mae": summary.pop("mae_mean"), "mae_offset": mean.summary()["mae_offset"], **summary})
    # A region that only some people show is NaN for the others.
    known = dict.fromkeys(name for one in each for name in one)
    figures: Figures = {name: [round(one.get(name, float("nan")), 4) for one in each] for name in known}
    return {"person": people.tolist(), **figures}
