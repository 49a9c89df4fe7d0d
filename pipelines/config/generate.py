"""The chain of a generate job: what its plan brings, what a pair needs, and what it has where the bundle can make it."""

from models.errors import UserError
from models.stages import CAPTIONS
from models.weights.bundle import Bundle
from pipelines.config.chain import ChainSpec, resolve_chain
from pipelines.config.job import GenerateJob

BRINGS = ("sample_id", "identity_id", "view", "draw", "seed", "attributes", "attributes_source", "caption", "caption_source",
          "embedding", "partition", "attempt", "noise_id")  # fmt: skip
"""Columns that the plan brings to the chain."""
WANTED = ("visible", "thermal", "scores")
OPTIONAL = ("classes", "bbox", "landmarks_70", "landmarks_478")
"""Columns that pairs have to have, and those that they have where the bundle can make them."""


def chain_for(job: GenerateJob, bundle: Bundle) -> ChainSpec:
    """Return the stages of a generate job. Raises what `resolve_chain` raises; imports neither torch nor diffusers."""
    settings = {**job.settings, "gates": job.gates.model_dump()}
    if "gates" in job.settings:
        raise UserError("settings.gates: the gates have a section of their own, gates.")
    parts = {stage: name for stage, name in job.parts.items() if stage != CAPTIONS}  # written before the chain runs
    return resolve_chain(
        bundle, given=BRINGS, wanted=WANTED, optional=OPTIONAL, layers=job.layers, parts=parts, settings=settings
    )
