"""The samples of people: every picture of them that is to be made, with its id, seed and words.

A sample is (identity, view, draw). Ids and seeds hash the job's seed and those, never the configuration: a larger job starts
with the same samples.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from models.attributes import ATTRIBUTES
from models.columns import COLUMNS
from models.seeds import seed_of
from pipelines.config.generate import POSE
from pipelines.config.job import GenerateJob
from pipelines.plan.attributes import Vocabulary, draw_words
from pipelines.plan.people.identities import Identity
from pipelines.plan.views import draw_poses
from pipelines.rows.ids import hash_id
from pipelines.rows.schema import arrow_type

EXPRESSION = "expression"
SAMPLE_SCHEMA = pa.schema(
    {
        "sample_id": pa.string(),
        "identity_id": pa.string(),
        "view": pa.int32(),
        "draw": pa.int32(),
        "seed": pa.int64(),
        "attributes": pa.string(),
        "attributes_source": pa.string(),
    }
)


def sample_id(seed: int, identity: str, view: int, draw: int) -> str:
    """Return the id of one visible picture: 20 hex digits."""
    return hash_id("sample", seed, identity, view, draw)


def sample_schema(job: GenerateJob) -> pa.Schema:
    """Return the schema of a job's samples: `pose_asked` beside `SAMPLE_SCHEMA` where its views name angles."""
    return SAMPLE_SCHEMA.append(pa.field(POSE, arrow_type(COLUMNS[POSE]))) if job.views.in_degrees else SAMPLE_SCHEMA


def sample_rows(job: GenerateJob, people: Sequence[Identity], vocabulary: Vocabulary) -> pa.Table:
    """Return the samples of some people as rows of `sample_schema`. vocabulary: of the job's words.

    Who comes with an expression in numbers (`Identity.smirk`) has no word of one, whatever the job says.
    """
    schema = sample_schema(job)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    draws = range(job.views.draws)
    # A row for every view and draw, those of a person together.
    places = [(view, draw) for view in range(job.views.per_identity) for draw in draws]
    words = draw_words(job.seed, people, job.views.per_identity, vocabulary)
    poses, said = draw_poses(job.seed, people, job.views)
    for person, words_of, pose, own in zip(people, words, poses, said, strict=True):
        for word, more in zip(words_of, own, strict=True):
            word.update(more)
            if person.smirk is not None:  # numbers go before words: no caption or head may say something else
                word.pop(EXPRESSION, None)
        sources = _sources(tuple(words_of[0]), tuple(person.given), tuple(person.estimated))
        columns["sample_id"] += [sample_id(job.seed, person.id, view, draw) for view, draw in places]
        columns["seed"] += [seed_of(job.seed, person.id, view, draw) for view, draw in places]
        columns["attributes"] += [text for words in words_of for text in [json.dumps(words)] * len(draws)]
        columns["attributes_source"] += [sources] * len(places)
        columns["identity_id"] += [person.id] * len(places)
        if POSE in columns:
            columns[POSE] += [pose[view] for view, _ in places]
    columns["view"], columns["draw"] = map(list, zip(*places * len(people)))
    return pa.table(columns, schema=schema)


@lru_cache(64)
def _sources(names: tuple[str, ...], given: tuple[str, ...], estimated: tuple[str, ...]) -> str:
    """Return (JSON) where the word of each attribute comes from: given with the person, estimated, asked for by the job, none.

    names: of the attributes that have a word.
    """
    where = {name: "given" if name in given else "estimated" if name in estimated else "asked" for name in names}
    return json.dumps({name: where.get(name, "none") for name in ATTRIBUTES})


def samples_of(job: GenerateJob, person: Identity) -> list[dict[str, Any]]:
    """Return the samples of one person as rows of `sample_schema`."""
    return list(sample_rows(job, [person], Vocabulary(job.views.attributes)).to_pylist())
