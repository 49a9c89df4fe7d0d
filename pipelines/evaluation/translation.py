"""`thermapair measure translation`: a bundle's translator on people it has never seen, read by the judges."""

from pathlib import Path

import numpy as np

from models.attributes import ATTRIBUTES
from models.errors import EnvironmentFault
from models.evaluation.judges import list_judges, load_judges
from models.evaluation.translation import COLUMNS, evaluate_translation
from models.faces.pack import open_sessions
from models.judges.people import check_unseen
from models.stages import import_settings, import_stage, package_of, parse_settings
from models.temperature import to_centikelvin
from models.weights.bundle import Bundle
from pipelines.evaluation.adapted import embed_faces
from pipelines.rows.shards import Shards
from pipelines.run.kernels import choose_here

TRANSLATED = 8
"""Pictures of one forward pass of the translator."""


def measure_translation(
    bundle: Bundle, test: str, judge: Path, *, draws: int = 1, limit: int | None = None
) -> dict[str, dict[str, float]]:
    """Return the figures of `models.evaluation.translation` on the rows at `test`, by the judges in the folder `judge`.

    Raises:
        UserError: a bundle without a translator, or people whom the judges learned from. EnvironmentFault: no judge there.
    """
    rows = Shards(test, (*COLUMNS, "world_identity"), memory=0, limit=limit)
    found = rows.rows(np.arange(len(rows)))
    check_unseen(found["world_identity"])
    recogniser = open_sessions(judge, threads=1)[1]
    if recogniser is None:
        raise EnvironmentFault(
            f"{judge} holds no recogniser (an ONNX file of 112 px crops). Train one: docs/evaluate.md."
        )
    # The bundle's stage, asked for as many draws as are wanted.
    part = choose_here("translate", bundle.part("translate"), bundle.folder)
    package = package_of("translate", part.kind, f"bundle {bundle.name}: translate.kind")
    kind = import_settings(package)
    options = parse_settings(kind.Options, part.options, "translate.options")
    settings = parse_settings(kind.Settings, part.settings, "translate.settings")
    stage = import_stage(package)(bundle.fetch("translate"), options, dtype=part.dtype, threads=1)
    given = {"thermal": to_centikelvin(found["thermal"])[:, None]}
    made = []
    for draw in range(draws):
        names = np.array([f"measured {number}/{draw}" for number in range(len(rows))], object)
        made.append(stage({**given, "noise_id": names}, settings, TRANSLATED)["translated"])
    # What the judge of attributes reads, where there is one.
    judged = None
    if "attributes" in list_judges(judge):
        read = load_judges(judge).judge_attributes(made[0])
        judged = {word: shares.argmax(axis=1) for word, shares in read.items() if word in ATTRIBUTES}

    def ask(pictures: np.ndarray, points: np.ndarray) -> np.ndarray:
        return embed_faces(recogniser, pictures, points)

    return evaluate_translation(found, np.stack(made), ask, judged)
