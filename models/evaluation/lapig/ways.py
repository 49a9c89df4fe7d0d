"""The rows of the tables: the bundle as it is, and with one thing taken away or put in another's place."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.evaluation.lapig.recipe import Recipe
from models.stages import import_settings, package_of
from models.visible.cache import from_root
from models.visible.head import FOLDED
from models.visible.sd.stage import Heads, Stage
from models.weights.bundle import Bundle, Part, Weights, small_files

FULL, UNET = "full", "U-Net"
LATENT = "latent-diffusion"
WHY = {
    "no caption": "captions are empty; the head still turns as asked",
    "no head": "the U-Net is shown no head beside the latents",
    "no text branch": "captions go into the prompt alone, or nowhere",
    UNET: "the thermal half by a plain U-Net, in the place of latent diffusion",
    "unchained": "the thermal half encodes the visible picture anew, in the place of its latents",
}
"""Row -> what it says."""


@dataclass(frozen=True)
class Way:
    """A row: models, and what they are not shown."""

    name: str
    bundle: Bundle
    captions: bool = True
    head: bool = True


def ways(bundle: Bundle, recipe: Recipe) -> dict[str, Way]:
    """Return the rows that can be made with `bundle`, by name; the first is the bundle as it is."""
    visible, thermal = bundle.part("visible"), bundle.part("thermal")
    # The bundle as it is, and with one thing taken away of the visible half.
    found = [Way(FULL, bundle), Way("no caption", bundle, captions=False)]
    if takes_head(bundle):
        found.append(Way("no head", bundle, head=False))
    if "text_branch" in visible.weights:
        rest = {name: one for name, one in visible.weights.items() if name != "text_branch"}
        found.append(Way("no text branch", replace_part(bundle, "visible", weights=rest)))
    # The thermal half: a U-Net in the place of the diffusion, and a diffusion that is given pictures, not latents.
    if thermal.kind == LATENT:
        weights = {"model": Weights(uri=str(from_root(recipe.unet)))}
        unet = Part(stage="thermal", kind="unet", weights=weights, licence="apache-2.0", batch=thermal.batch)
        found.append(Way(UNET, put_part(bundle, "thermal", unet)))
        if visible.options.get("latents") and thermal.options.get("latents", True):
            found.append(
                Way("unchained", replace_part(bundle, "thermal", options={**thermal.options, "latents": False}))
            )
    return {way.name: way for way in found}


def takes_head(bundle: Bundle) -> bool:
    """Return whether the bundle's U-Net is shown a head beside the latents."""
    part = bundle.part("visible")
    if part.kind != LATENT or "controlnet" in part.weights:
        return False
    settings: Any = import_settings(package_of("visible", part.kind, bundle.name))
    return bool(settings.takes_pose(small_files(part, bundle.folder)))


def replace_part(bundle: Bundle, stage: str, **values: Any) -> Bundle:
    """Return the bundle with values of the part of `stage` replaced."""
    return put_part(bundle, stage, bundle.part(stage).model_copy(update=values))


def put_part(bundle: Bundle, stage: str, part: Part) -> Bundle:
    """Return the bundle with `part` in the place of the one that makes `stage`."""
    found = bundle.part_for(stage)
    name = found[0] if found else stage
    return bundle.model_copy(update={"parts": {**bundle.parts, name: part}})


class Headless(Stage):
    """The visible stage, with zeros where its U-Net is shown the head: what a tenth of its training's rows were shown."""

    def _heads(
        self,
        captions: list[str],
        embedding: Tensor,
        names: list[str],
        poses: np.ndarray | None,
        count: int,
        side: int,
        locate: bool,
    ) -> Heads:
        shown = super()._heads(captions, embedding, names, poses, count, side, locate)
        return shown._replace(folded=torch.zeros(len(names), FOLDED, side, side, device=self.device))
