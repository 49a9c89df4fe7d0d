"""A job with a prompt becomes the job that would make the same without: its attributes, conditions and words written out.

_plan/prompt.json   the prompt and its reading; a run that goes on reads it there and asks no model again
"""

import json
from contextlib import nullcontext

from models.attributes import ATTRIBUTES
from models.errors import EnvironmentFault, UserError
from pipelines.captions.read import Reading, ask_reading, explains, parse_reading, read_by_words
from pipelines.captions.writers import open_writers
from pipelines.config.captions import CHAT, DESCRIBE, PARSE, vllm_options, writer_of
from pipelines.config.chain import known_conditions
from pipelines.config.job import GenerateJob
from pipelines.config.request import Request, check_request
from pipelines.run.session import ray_session
from pipelines.storage.uri import Storage

FILE = "_plan/prompt.json"


def resolve_prompt(request: Request, out: Storage) -> tuple[Request, Reading | None]:
    """Return the request of the job that a prompt means, and its reading; any other request as it is, and None.

    Raises:
        UserError: the prompt names a condition that the thermal part does not know.
        EnvironmentFault: the language model's engine does not start.
    """
    if request.job.captions.mode != PARSE:
        return request, None
    reading = _read_again(out, request.job.prompt) or _read_prompt(request)
    return check_request(apply_reading(request.job, reading), request.bundle, request.profile), reading


def save_reading(out: Storage, prompt: str, reading: Reading) -> None:
    """Keep what `prompt` was read as in `out`, once. The caller holds the output."""
    out.create(
        FILE, (json.dumps({"prompt": prompt, "reading": reading.model_dump(mode="json")}, indent=1) + "\n").encode()
    )


def apply_reading(job: GenerateJob, reading: Reading) -> GenerateJob:
    """Return `job` with what its prompt says. Words that the job itself names, and what its views say win over
    the prompt's."""
    named = job.views.attributes
    of_person = {name: words[0] for name, words in reading.attributes.items() if ATTRIBUTES[name][0] == "identity"}
    of_view = {name: words for name, words in reading.attributes.items() if name not in of_person}
    of_view = {name: words for name, words in of_view.items() if name not in job.views.said_words}  # angles win
    sampled = job.identities.source == "reference"
    update = {
        "prompt": "",
        "captions": job.captions.model_copy(update={"mode": DESCRIBE, "also": reading.also or job.captions.also}),
        "identities": job.identities.model_copy(
            update={"words": {**of_person, **job.identities.words} if sampled else {}}
        ),
        "views": job.views.model_copy(update={"attributes": {**of_view, **named}}),
        "conditions": reading.conditions or job.conditions,
    }
    return job.model_copy(update=update)


def _read_again(out: Storage, prompt: str) -> Reading | None:
    """Return what `out` says that `prompt` was read as; None where it has not been read."""
    if not out.exists(FILE):
        return None
    try:
        kept = json.loads(out.read(FILE))
        reading = Reading.model_validate(kept["reading"])
        return reading if kept["prompt"] == prompt else None
    except (ValueError, KeyError, TypeError):
        raise EnvironmentFault(f"{out.shown(FILE)} is damaged. Choose another --out.") from None


def _read_prompt(request: Request) -> Reading:
    """Read a job's prompt: by the tables, and what they leave by the language model, on an engine of its own or a server."""
    job, bundle = request.job, request.bundle
    if not job.prompt.strip():
        raise UserError("prompt: nothing is asked for.")
    conditions = known_conditions(request.chain) or ()
    part = writer_of(bundle, job.captions.backend, job.parts)
    reads = part is None or vllm_options(part).read
    writers = (
        None if explains(job.prompt, conditions) or not reads else open_writers(job, bundle, request.profile.captions)
    )
    if writers is None:
        return read_by_words(job.prompt, conditions)
    # A server needs no Ray.
    with nullcontext() if job.captions.backend == CHAT else ray_session(request.profile.ray), writers as pool:
        for attempt in range(pool.spec.options.attempts):
            (written,) = pool.collect(pool.submit([ask_reading(job.prompt, conditions, attempt)]))
            reading = parse_reading(written.text, job.prompt, conditions)
            if reading is not None:
                return reading
    return read_by_words(job.prompt, conditions)
