"""From a request for pairs to the rows that stages take, and back to rows of the record: the jobs' own plan in small."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pipelines.record import pairs_of
from pydantic import ValidationError

from models.attributes import ATTRIBUTES
from models.captions.reading import AMBIGUOUS, read
from models.config import digest_of
from models.weights.bundle import Bundle
from pipelines.config.job import GenerateJob
from pipelines.config.profile import Limits
from pipelines.plan.identities import Identity, Reference, checked, sampled, table_of
from pipelines.plan.samples import SCHEMA, columns_of, samples_of
from pipelines.run.chain import Columns
from serve.problems import ProblemError, of_validation
from serve.schemas import PairsRequest

GIVEN = "given"
"""Who wrote a caption that came with the request."""


def job_of(request: PairsRequest, defaults: GenerateJob, limits: Limits) -> GenerateJob:
    """Return the request as a job of one person; what it leaves open is as in `defaults`.

    Raises:
        ProblemError: it asks for more than `limits`, or for words that are not in the vocabulary.
    """
    gates, sampling = request.gates or defaults.gates, defaults.sampling
    steps = request.steps or sampling.steps
    within("views", request.views, limits.views)
    within("steps", steps, limits.steps)
    within("gates.attempts", gates.attempts, limits.attempts)
    try:
        return GenerateJob.model_validate(
            {
                "name": "serve",
                "seed": request.seed,
                "identities": {"source": "reference", "count": 1},
                "views": {"per_identity": request.views, "attributes": request.attributes},
                "conditions": request.conditions,
                "captions": request.captions or defaults.captions,
                "sampling": {
                    "steps": steps,
                    "guidance": sampling.guidance if request.guidance is None else request.guidance,
                },
                "gates": gates,
                "encoding": {"visible": request.encoding},
            }
        )
    except ValidationError as error:
        raise of_validation(error) from None


def within(name: str, value: float, limit: float) -> None:
    """Raise a ProblemError if `value` is over the service's limit for `name`."""
    if value > limit:
        raise ProblemError(
            "over-limit", f"{name} is {value}, at most {limit} are taken", "Ask for less, or in several requests."
        )


def person_of(request: PairsRequest, embedding: Sequence[float] | None, reference: Reference | None) -> Identity:
    """Return whose pairs are wanted: of `embedding` [512] if there is one, else drawn from `reference` by the seed."""
    given = {name: word for name, word in request.attributes.items() if ATTRIBUTES[name][0] == "identity"}
    if embedding is None:
        if reference is None:
            raise ProblemError(
                "not-in-bundle",
                "this bundle has no distribution to draw people from",
                "Send an embedding, or a picture with one face.",
            )
        ((name, vector),) = sampled(reference, 1, 0.0, request.seed)
    else:
        vector = checked(embedding, "embedding")
        name = hashlib.sha256(vector.tobytes()).hexdigest()[:12]
    words = reference.words(vector) if reference else {}
    return Identity(request.identity_id or name, vector, given, words)


def samples(request: PairsRequest, job: GenerateJob, person: Identity) -> pa.Table:
    """Return the samples of the request as the plan of a job would hold them; a given caption says their attributes."""
    table = pa.Table.from_pylist(list(samples_of(job, person)), schema=SCHEMA)
    if request.caption is None:
        return table
    stated = {name: word for name, word in read(request.caption).items() if word != AMBIGUOUS}
    column = pa.array([json.dumps(stated)] * len(table), pa.string())
    return table.set_column(table.schema.get_field_index("attributes"), "attributes", column)


def columns(table: pa.Table, person: Identity, captions: list[str], sources: list[str]) -> Columns:
    """Return the samples with their captions as the columns that the chain takes."""
    return columns_of(table, table_of([person]), pa.table({"caption": captions, "caption_source": sources}), 0)


def records(job: GenerateJob, bundle: Bundle, digest: str, rows: Columns) -> tuple[list[dict], list[dict]]:
    """Return (pairs, rejects) of finished rows as rows of the record; `digest` is the bundle's."""
    run = digest_of(job.model_dump(exclude={"description"}), digest)

    def made(chosen: np.ndarray) -> list[dict[str, Any]]:
        return [pair for row in chosen for pair in pairs_of(job, bundle, run, rows, int(row))]

    return made(np.flatnonzero(rows["final"] & (rows["reject"] == ""))), made(np.flatnonzero(rows["reject"] != ""))
