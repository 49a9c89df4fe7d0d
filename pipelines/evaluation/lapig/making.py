"""Pairs by a bundle's own chain, in this process: what an evaluation makes is what a job would."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.columns import Columns
from models.evaluation.lapig.ways import Headless, Way, takes_head
from models.layers import Layer
from models.stages import import_settings, parse_settings
from models.temperature import from_centikelvin
from models.weights.bundle import Bundle, fetch
from pipelines.config.chain import Link, faces_link, resolve_chain
from pipelines.run.chain import Chain

ASKED = ("sample_id", "caption", "embedding", "noise_id")
MADE = ("visible", "thermal")


class Maker:
    """Makes pairs in one way. stages: the names of its chain's stages; seconds: what each took so far."""

    def __init__(self, way: Way, layers: Sequence[Layer], threads: int) -> None:
        given = (*ASKED, "pose_asked") if takes_head(way.bundle) else ASKED
        spec = resolve_chain(way.bundle, given=given, wanted=MADE, optional=("classes",), layers=layers)
        loaded: list[Any] = [
            link.load(threads) if way.head or link.stage != "visible" else load_headless(link, threads)
            for link in spec.links
        ]
        self.chain, self.stages, self.captions = Chain(spec, spec.stages, loaded=loaded), spec.stages, way.captions
        self.given, self.seconds = given, np.zeros(len(spec.stages))

    def __call__(self, rows: Columns) -> Columns:
        """Return rows with `visible`, `celsius` float32 [N, C, S, S], maybe `classes`, of `caption`, `embedding`, `pose_asked`
        and `noise_id`. Raises ValueError for a row that a stage refuses: nothing here is drawn again."""
        count = len(rows["noise_id"])
        block = {name: rows[name] for name in self.given if name in rows}
        block |= {"sample_id": rows["noise_id"], "attempt": np.zeros(count, np.int32), "reject": _texts([""] * count)}
        if not self.captions:
            block["caption"] = _texts([""] * count)
        made = self.chain(block)
        if (refused := made["reject"] != "").any():
            raise ValueError(f"{refused.sum()} of {count} pairs were not made: {made['reject'][refused][0]}")
        self.seconds = made["seconds"].sum(axis=0)
        return made | {"celsius": from_centikelvin(made["thermal"])}


class Thermalizer:
    """The thermal stage alone, on true pictures."""

    def __init__(self, bundle: Bundle, layers: Sequence[Layer], threads: int) -> None:
        spec = resolve_chain(bundle, given=("visible", "classes", "noise_id"), wanted=("thermal",), layers=layers)
        self.link, self.stage = spec.link("thermal"), spec.link("thermal").load(threads)

    def __call__(self, rows: Columns) -> np.ndarray:
        """Return float32 [N, C, S, S] degrees Celsius."""
        given = {name: rows[name] for name in ("visible", "classes", "noise_id")}
        return from_centikelvin(self.stage(given, self.link.settings, self.link.batch(0))["thermal"])


def load_headless(link: Link, threads: int) -> Headless:
    """Return the visible stage of a link, whose U-Net is shown no head."""
    options = parse_settings(import_settings(link.package).Options, link.part.options, f"{link.name}.options")
    return Headless(fetch(link.part, link.folder), options, dtype=link.part.dtype, threads=threads)


def load_readers(bundle: Bundle, threads: int) -> tuple[Any, Any]:
    """Return the bundle's stages of faces and of landmarks, None for the second where it has none."""
    landmarks = None
    if bundle.part_for("landmarks"):
        spec = resolve_chain(bundle, given=("visible", "thermal", "bbox", "classes"), wanted=("landmarks_70",))
        landmarks = spec.link("landmarks").load(threads)
    return faces_link(bundle).load(threads), landmarks


def _texts(values: Sequence[str]) -> np.ndarray:
    return np.array(list(values), object)
