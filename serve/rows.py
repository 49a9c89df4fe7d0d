"""The rows of a request: what stages take, and rows of the record out of what they return, as the jobs' plans make them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from models.attributes import ATTRIBUTES
from models.captions.reading import AMBIGUOUS, read_attributes
from models.columns import Columns
from models.visible.smirk import check_smirk
from pipelines.config.captions import GIVEN, NONE
from pipelines.config.generate import OF_PEOPLE
from pipelines.config.job import GenerateJob
from pipelines.config.profile import Limits
from pipelines.config.thermalize import ThermalizeJob
from pipelines.config.translate import TranslateJob
from pipelines.pictures.open import BadPicture
from pipelines.pictures.square import make_square
from pipelines.pictures.thermal import open_frames
from pipelines.plan import generate, thermalize, translate
from pipelines.plan.people.identities import Identity, Reference, check_embedding, people_table
from pipelines.plan.people.sampling import sample_people
from pipelines.plan.photos import file_name
from pipelines.plan.samples import sample_schema, samples_of
from pipelines.rows.ids import hash_id
from pipelines.rows.record import pairs_of
from serve.http import codecs
from serve.http.answers import Thermal, Translation
from serve.http.problems import ProblemError
from serve.http.requests import PairsRequest
from serve.pairs_request import ResolvedRequest


def person_of(request: PairsRequest, embedding: Sequence[float] | None, reference: Reference | None) -> Identity:
    """Return whose pairs are wanted: of `embedding` [512] if there is one, else drawn from `reference` by the seed.

    Of a person who exists no words are drawn: what is not given or estimated stays unsaid.
    """
    given = {name: word for name, word in request.attributes.items() if ATTRIBUTES[name][0] == "identity"}
    # The person: an embedding that was sent or found, else the first that the seed draws.
    if embedding is not None:
        vector = check_embedding(embedding, "embedding")
        name = hashlib.sha256(vector.tobytes()).hexdigest()[:12]
    elif reference is not None:
        ((name, vector),) = sample_people(reference, 1, 0.0, request.seed)
    else:
        raise ProblemError(
            "not-in-bundle",
            "this bundle has no distribution to draw people from",
            "Send an embedding, or a picture with one face.",
        )
    # What the reference reads off an embedding; what was asked for goes before it.
    estimated = reference.words(vector) if reference else {}
    return Identity(
        request.identity_id or name,
        vector,
        given,
        estimated,
        sampled=embedding is None,
        reference=b"" if request.reference is None else codecs.from_base64(request.reference, 0),
        crop=b"" if request.crop is None else codecs.from_base64(request.crop, 0),
        smirk=None if request.smirk is None else check_smirk(request.smirk, "request"),
    )


def sample_table(request: PairsRequest, resolved: ResolvedRequest[GenerateJob], person: Identity) -> pa.Table:
    """Return the samples as the plan of a job would hold them; a given caption says their attributes."""
    rows = samples_of(resolved.job, person)
    if request.caption is not None:
        stated = {name: word for name, word in read_attributes(request.caption).items() if word != AMBIGUOUS}
        sources = {name: GIVEN if name in stated else NONE for name in ATTRIBUTES}
        columns = {"attributes": json.dumps(stated), "attributes_source": json.dumps(sources)}
        rows = [{**row, **columns} for row in rows]
    return pa.Table.from_pylist(rows, schema=sample_schema(resolved.job))


def check_reference(person: Identity, limits: Limits) -> None:
    """Raise a ProblemError where the reference or the crop of a person is no picture that is taken."""
    for picture in (person.reference, person.crop):
        if picture:
            codecs.open_picture(picture, 0, limits)


def sample_columns(
    table: pa.Table, person: Identity, captions: list[str], sources: list[str], size: int, given: Sequence[str] = ()
) -> Columns:
    """Return the samples with their captions as the columns that the chain takes.

    size: of the pictures. given: the chain's; what it has of people is there also where this request has none, as requests of
    one chain share batches.
    """
    said = pa.table({"caption": captions, "caption_source": sources})
    people = people_table([person], [name for name in OF_PEOPLE if name in given])
    return generate.columns_of(table, people, said, partition=0, size=size)


def rows_to_invent(given: Sequence[Mapping[str, str]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return people of one view each as rows of `SAMPLE_SCHEMA`: words that are `given`, and any for the other attributes."""
    return [
        {
            "identity_id": str(number),
            "view": 0,
            "draw": 0,
            "seed": seed,
            "attributes": json.dumps({name: words.get(name, known[0]) for name, (_, _, known) in ATTRIBUTES.items()}),
            "attributes_source": json.dumps({name: GIVEN if name in words else "asked" for name in ATTRIBUTES}),
        }
        for number, (words, seed) in enumerate(zip(given, seeds, strict=True))
    ]


def photo_columns(files: Sequence[bytes], size: int, limits: Limits) -> Columns:
    """Return encoded pictures as the columns that the chain takes, as squares of `size`; ids are digests of the files.

    Raises:
        ProblemError: a picture is not taken; the message says which and why.
    """
    rows, pictures = list[dict[str, str]](), list[thermalize.Photo]()
    for number, data in enumerate(files):
        square, box = make_square(codecs.open_picture(data, number, limits), size)
        pictures.append(thermalize.Photo("", square, box=box))
        name = hash_id("picture", hashlib.sha256(data).hexdigest())
        rows.append({"sample_id": name, "picture": str(number), "name": str(number), "person": ""})
    return thermalize.columns_of(rows, pictures, size, has_classes=False, partition=0)


def frame_columns(
    files: Sequence[bytes], job: TranslateJob, grey: tuple[float, float], seed: int, limits: Limits
) -> Columns:
    """Return encoded thermal pictures as the columns that a translator takes: a row for every picture and draw.

    grey: degrees for which grey levels 0 and 255 are taken. Ids are digests of the files and the seed.

    Raises:
        ProblemError: a picture is not taken; the message says which and why.
    """
    rows, frames = list[dict[str, Any]](), list[translate.Frame]()
    for number, data in enumerate(files):
        try:
            (frame,) = open_frames(data, file_name(data), job.unit, 1, codecs.max_pixels(limits))
            square = translate.square_frame(frame, job, grey)
        except BadPicture as error:
            raise codecs.picture_problem(error, number) from None
        name = hash_id("thermal", hashlib.sha256(data).hexdigest(), seed)
        own = {"sample_id": name, "picture": str(number), "name": str(number), "person": ""}
        rows += [translate.row_of(own, 0, draw) for draw in range(job.samples)]
        frames += [square] * job.samples
    return translate.columns_of(rows, frames, job.size, partition=0)


def translations(resolved: ResolvedRequest[TranslateJob], rows: Columns) -> list[dict[str, Any]]:
    """Return finished translations as rows of an answer: what it has of the record."""
    names = [name for name in Translation.model_fields if name != "picture"]
    return [
        {"picture": number // resolved.job.samples, **{name: pair[name] for name in names}}
        for number in range(len(rows["sample_id"]))
        for pair in pairs_of(resolved.record, rows, number)
    ]


def records(resolved: ResolvedRequest[GenerateJob], rows: Columns) -> tuple[list[dict], list[dict]]:
    """Return (pairs, rejects) of finished rows as rows of the record, pictures encoded."""

    def to_record(chosen: np.ndarray) -> list[dict[str, Any]]:
        return [pair for row in chosen for pair in pairs_of(resolved.record, rows, int(row))]

    accepted, rejected = rows["final"] & (rows["reject"] == ""), rows["reject"] != ""
    return to_record(np.flatnonzero(accepted)), to_record(np.flatnonzero(rejected))


def thermals(resolved: ResolvedRequest[ThermalizeJob], rows: Columns) -> list[dict[str, Any]]:
    """Return finished pictures as rows of an answer, one for every picture and layer: what it has of the record."""
    names = [name for name in Thermal.model_fields if name != "picture"]
    return [
        {"picture": number, **{name: pair[name] for name in names}}
        for number in range(len(rows["sample_id"]))
        for pair in pairs_of(resolved.record, rows, number)
    ]
