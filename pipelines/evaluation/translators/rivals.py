"""The translators that are compared: a bundle's own, others that the recipe names, and what each makes of thermal pictures."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from models.attributes import ATTRIBUTES
from models.columns import Columns
from models.config import digest_of
from models.diffusion.names import STUDENT as STEPS
from models.diffusion.names import check_student
from models.errors import UserError
from models.evaluation.translation import show_thermal
from models.evaluation.translators import (
    ADAPTED,
    FOLDERS,
    GIVEN,
    MAMBA,
    ONE_STEP,
    RAW,
    REGRESSION,
    STUDENT,
    TRUE,
    UNGUIDED,
    UNTOLD,
    WHY,
    Recipe,
)
from models.stages import import_settings, import_stage, package_of, parse_settings
from models.temperature import from_grey, to_centikelvin
from models.weights.bundle import MAIN, Bundle, Part, Weights, digests, small_files
from pipelines.config.translate import grey_of
from pipelines.evaluation.adapted import Recognisers, adapted_parts, fetch_recognisers, load_recognisers
from pipelines.run.kernels import choose_here

BATCH = 8
"""Pictures of one forward pass of a translator."""


class Rivals:
    """rows: row of the tables -> the translators of its seeds; None for a row without one.

    stage, adapted: return the loaded translator with its settings, or the adapted recogniser, of a row's seed.
    """

    def __init__(self, recipe: Recipe, bundle: Bundle) -> None:
        self.recipe, self.bundle = recipe, bundle
        self.rows = self._find_rows()
        for part in self.rows.get(
            ADAPTED, ()
        ):  # probes of another space than the gallery's are refused before all else
            assert part is not None
            fetch_recognisers(part, bundle.folder)
        self.stage, self.adapted = lru_cache(1)(self._load_stage), lru_cache(None)(self._load_adapted)

    def _find_rows(self) -> dict[str, list[Part | None]]:
        own = self.bundle.part("translate")
        found: dict[str, list[Part | None]] = {RAW: [None], TRUE: [None], MAMBA: [own], ONE_STEP: [own]}
        if own.kind == "latent-diffusion":
            found |= {UNTOLD: [own], GIVEN: [own]}
        if own.settings.get("identity_guidance"):
            found[UNGUIDED] = [_unguided(own)]
        found[MAMBA] += [_put(own, folder) for folder in self.recipe.mamba]
        found |= {row: [_put(own, one) for one in getattr(self.recipe, field)] for row, field in FOLDERS.items()}
        found[ADAPTED] = list(adapted_parts(self.bundle, [str(Path(one).absolute()) for one in self.recipe.hfr]))
        files = small_files(own, self.bundle.folder)
        taught = files[MAIN].json(STEPS)["steps"] if MAIN in files and STEPS in files[MAIN] else [1]
        if "steps" not in import_settings(_package(own)).Settings.model_fields or 1 not in taught:
            del found[ONE_STEP]
        return {row: [self._settle(row, part) for part in found[row]] for row in WHY if found.get(row)}

    def _settle(self, row: str, part: Part | None) -> Part | None:
        """Return a row's part with its own settings and the kernel of its scans written out, so that its digest tells them.

        Raises a UserError for steps, guidance or a scheduler that a student was not trained for.
        """
        if part is None or row == ADAPTED:
            return part
        # One step is its mean, of a student as many as it was trained for, without guidance.
        more: dict[str, Any] = {}
        if row in (ONE_STEP, REGRESSION):
            part, more = _unguided(part), {"steps": 1}
        files = small_files(part, self.bundle.folder)
        is_student = MAIN in files and STEPS in files[MAIN]
        if row == STUDENT:
            if not is_student:
                raise UserError(f"student={part.weights[MAIN].uri} is no student: name what distill_translator wrote.")
            more = {"steps": max(files[MAIN].json(STEPS)["steps"]), "guidance": 1.0}
        part = part.model_copy(update={"settings": {**part.settings, **more}})
        if is_student:
            asked = parse_settings(import_settings(_package(part)).Settings, part.settings, "translate.settings")
            check_student(asked.steps, asked.guidance, files[MAIN].json(STEPS), asked.scheduler)
        return choose_here("translate", part, self.bundle.folder)

    def digest(self, row: str, seed: int) -> tuple[str, ...]:
        """Return what identifies a row's translator, its weights and settings; () for a row without one."""
        part = self.rows[row][seed]
        models = () if part is None else (part.model_dump(mode="json"), digests(part, self.bundle.folder))
        return tuple(map(digest_of, models))

    def draw(self, row: str, seed: int, given: Columns, chosen: np.ndarray) -> np.ndarray:
        """Return what a row makes of the thermal pictures of `given`, uint8 [K, N, S, S, 3].

        chosen: numbers of those rows, which noise follows from.
        """
        part = self.rows[row][seed]
        if part is None:
            return (show_thermal(given["thermal"]) if row == RAW else given["visible"])[None]
        # Degrees, as `translate` takes them: grey levels are read by the part's own scale.
        degrees = given["thermal"]
        if degrees.dtype == np.uint8:
            degrees = from_grey(degrees, grey_of(part, self.bundle.folder))
        thermal = to_centikelvin(degrees)[:, None]
        # Every draw of its own noise; a mean is the same in all.
        stage, settings = self.stage(row, seed)
        told = _words(row, given, stage)
        made = []
        for draw in range(1 if row in (ONE_STEP, REGRESSION) else self.recipe.draws):
            names = np.array([f"evaluated {number}/{draw}" for number in chosen], object)
            made.append(stage({"thermal": thermal, "noise_id": names}, settings, BATCH, **told)["translated"])
        return np.stack(made)

    def _load_stage(self, row: str, seed: int) -> tuple[Any, Any]:
        part = self.rows[row][seed]
        assert part is not None
        package = _package(part)
        kind = import_settings(package)
        settings = parse_settings(kind.Settings, part.settings, "translate.settings")
        folder = self.bundle.model_copy(update={"parts": {"translate": part}}).fetch("translate")
        options = parse_settings(kind.Options, part.options, "translate.options")
        return import_stage(package)(folder, options, dtype=part.dtype, threads=1), settings

    def _load_adapted(self, seed: int) -> Recognisers:
        part = self.rows[ADAPTED][seed]
        assert part is not None
        return load_recognisers(part, self.bundle.folder)


def _package(part: Part) -> str:
    return package_of("translate", part.kind, "translate.kind")


def _unguided(part: Part) -> Part:
    """Return the part without guidance by a recogniser."""
    return part.model_copy(update={"settings": {k: v for k, v in part.settings.items() if k != "identity_guidance"}})


def _put(part: Part, folder: str) -> Part:
    """Return the part with the translator of another folder."""
    return part.model_copy(update={"weights": {**part.weights, MAIN: Weights(uri=str(Path(folder).absolute()))}})


def _words(row: str, rows: Columns, stage: Any) -> dict[str, list[dict[str, str]]]:
    """Return `given`, the words that a row is told of each picture; {} where it draws them itself."""
    if row not in (UNTOLD, GIVEN):
        return {}
    known = stage.parts.translator.config.words if row == GIVEN else ()
    said = [json.loads(text) for text in rows["attributes"]]
    # A published set says other things of its rows, and in words of its own.
    return {"given": [{name: one[name] for name in known if one.get(name) in ATTRIBUTES[name][2]} for one in said]}
