"""`thermapair embed`: a folder of face pictures becomes a Parquet file of identities, one row a picture.

A picture that cannot be taken keeps its row, with the reason and without an embedding.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ray.data import ActorPoolStrategy, Dataset

from models.columns import Columns
from models.config import check, sort_edits
from models.errors import EnvironmentFault, UserError
from models.faces.align import portrait
from models.temperature import Numbers, UnitName
from models.visible.faceclip.faces import BadFace, cut_in_colour
from models.weights.bundle import Bundle, load_bundle
from pipelines.config.persons import person_of
from pipelines.config.photographs import warn_of_photographs
from pipelines.config.profile import Profile, load_profile
from pipelines.pictures.codecs import encode_jpeg
from pipelines.pictures.faces import find_faces
from pipelines.pictures.open import BadPicture, open_pages
from pipelines.pictures.thermal_faces import load_thermal_faces, open_thermal
from pipelines.plan.embed import EmbedJob, EmbedPlan, list_pictures, write_embed_plan
from pipelines.plan.people.identities import RECOGNISER, recogniser_of, unit
from pipelines.rows.encode import encode_parquet
from pipelines.run.driver import Job, run_job
from pipelines.run.graph import numbers
from pipelines.run.progress import SECONDS
from pipelines.storage.commits import Commit, commit, read_shard, write_shard
from pipelines.storage.errors import own_reason
from pipelines.storage.uri import Storage

OUTLIER = 0.2
"""Cosine to the person's other pictures (the median) below which a picture is left out of the average. A recogniser gives
pictures of one person 0.4 and more, of two people 0 on average and rarely 0.2."""
AVERAGED = "averaged"
"""The kind of reason of a picture whose embedding is part of another row of the same person."""
OUTLIER_KIND = "outlier"
"""The kind of reason of a picture that is unlike the others of its person."""
LISTED = 8
"""Names of a list that the summary says."""
FACE_SCHEMA = pa.schema(
    [
        ("picture", pa.string()),
        ("identity_id", pa.string()),
        ("reason", pa.string()),
        ("faces", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("detection_score", pa.float32()),
        ("bbox", pa.list_(pa.float32(), 4)),
        ("keypoints", pa.list_(pa.float32(), 10)),
        ("embedding", pa.list_(pa.float32(), 512)),
    ]
)
"""`picture` is the path below the folder, with `#1` and so on for further pages, and the identity's id, unless something says
who it shows; `reason` is empty for a picture with one face."""


REFERENCE = pa.field("reference", pa.binary())
"""Written as well where it is asked for: the face as a JPEG, cut as FFHQ's."""
CROP = pa.field("crop", pa.binary())
"""Likewise: the face as a JPEG, aligned as ArcFace does it, of 448 pixels."""
TOLD = (pa.field("consent", pa.string()), pa.field("licence", pa.string()))
"""What goes with a crop wherever the file goes: consent of the people, licence of the pictures; null where not said."""
AGREEMENT, SPACE = pa.field("agreement", pa.float32()), pa.field("space", pa.string())
"""What the file has beside `FACE_SCHEMA`: the median cosine to the person's other pictures, null where there is none, and the
recogniser's digest, which says whose embeddings they are however the file is copied."""


@dataclass(frozen=True)
class Summary:
    """What became of the pictures: how many gave an embedding, and how many did not, by kind of reason."""

    pictures: int
    embedded: int
    reasons: dict[str, int]
    ignored: int
    """Files whose name is not a picture's."""
    people: int = 0
    """How many people the embedded pictures show, where something says so."""
    outliers: tuple[str, ...] = ()
    """Pictures that were left out of their person's average."""
    split: tuple[str, ...] = ()
    """People whose pictures show no one whom two of them agree on."""

    def __str__(self) -> str:
        whose = f", of {self.people} people" if self.people else ""
        lines = [f"{self.embedded} of {self.pictures} pictures embedded{whose}"]
        lines += [f"  {count} not: {kind}" for kind, count in sorted(self.reasons.items())]
        lines += [f"  outliers: {_list(self.outliers)}"] if self.outliers else []
        lines += [
            f"  no two pictures agree, and nothing says which is right: {_list(self.split)}. Look at them"
        ] * bool(self.split)
        lines += [f"  {self.ignored} other files ignored"] if self.ignored else []
        return "\n".join(lines)


def run(
    images: str,
    out: str,
    *,
    person: str = "",
    outlier: float = OUTLIER,
    reference: bool = False,
    crop: bool = False,
    consent: str = "",
    licence: str = "",
    modality: str = "visible",
    unit: UnitName | Numbers | None = None,
    bundle: str = "starter",
    profile: str = "laptop",
    overrides: Sequence[str] = (),
) -> Summary:
    """Embed every picture below the folder `images` and write the Parquet file `out`.

    Beside it, in `OUT.run`, lies what a run needs to go on: stopped, it resumes; pictures that were added extend it.
    person: who a picture shows, `folder:LEVEL` or `pattern:REGEX`; pictures of one person become one identity.
    outlier: cosine to the person's other pictures below which a picture is left out of it. reference: also write each face as
    a picture of the bundle's size, cut as FFHQ's (the column `reference`), for a bundle with a reference adapter.
    crop: also write each face as FaceCLIP reads it (the column `crop`), with `consent` and `licence`. modality: `thermal` for
    thermal pictures, whose faces the bundle's landmarker finds and its recogniser `thermal` embeds; unit: of those of more than
    8 bits. overrides: `key.key=value` edits of the profile or the bundle.

    Raises:
        UserError: `person` is neither, the bundle has no recogniser for thermal faces, the folder is missing or holds no
            picture, or pictures that were embedded have changed or gone.
        EnvironmentFault, Interrupted: the run stopped; the same call resumes it.
    """
    # The files with their edits.
    edits = sort_edits(overrides, {"profile": Profile, "bundle": Bundle})
    models, where = load_bundle(bundle, edits["bundle"]), load_profile(profile, edits["profile"])
    asked = {"person": person, "reference": reference, "crop": crop, "consent": consent, "licence": licence}
    asked |= {"modality": modality, "unit": unit}
    job = check(EmbedJob, {"images": Storage(images).uri, **asked}, "embed")
    storage = Storage(f"{out}.run")
    warn_of_photographs(models, job.images)
    # What the driver runs.
    work = Job(
        plan=lambda: write_embed_plan(job, models, storage),
        graph=lambda plan, missing, run: embed_pictures(plan, missing, where).iter_rows(),
        finish=lambda plan, commits: _finish(plan, commits, out, models, outlier),
    )
    return run_job(work, storage, where)


def _finish(plan: EmbedPlan, commits: dict[int, Commit], out: str, bundle: Bundle, outlier: float) -> Summary:
    """Write the rows of all partitions into one file, whose metadata name the recogniser, and say what came of them."""
    tables = [read_shard(plan.out, partition, record.file) for partition, record in commits.items()]
    table = pa.concat_tables(tables).sort_by("picture")
    split: list[str] = []
    if plan.job.person:
        table, split = _average_people(table, plan.job.person, outlier)
    else:
        table = table.append_column(AGREEMENT, pa.nulls(len(table), AGREEMENT.type))
    space = recogniser_of(bundle)
    table = table.append_column(SPACE, pa.array([space] * len(table), SPACE.type))
    _write_people(table, out, {"bundle": bundle.name, RECOGNISER: space})
    reasons = Counter(reason.split(":")[0] for reason in table["reason"].to_pylist() if reason)
    averaged, ignored = reasons.pop(AVERAGED, 0), list_pictures(Storage(plan.job.images), plan.job.modality)[1]
    embedded = len(table) - reasons.total()
    people = embedded - averaged if plan.job.person else 0
    outliers = [row["picture"] for row in table.select(["picture", "reason"]).to_pylist() if _is_outlier(row["reason"])]
    return Summary(len(table), embedded, dict(reasons), ignored, people, tuple(outliers), tuple(split))


def embed_pictures(plan: EmbedPlan, missing: list[int], profile: Profile) -> Dataset:
    """Return the job as one chain; its rows are counts of the partitions as they are committed."""
    group = profile.assign(["faces"])[0]
    return numbers(missing, profile.writer.tasks).map_batches(
        PhotoEmbedder,
        fn_constructor_args=(plan, missing, group.threads),
        batch_size=1,
        compute=ActorPoolStrategy(min_size=group.actors[0], max_size=group.actors[1]),
        num_cpus=group.cpus,
        num_gpus=group.gpus,
        **group.selector,
    )


def schema_of(job: EmbedJob) -> pa.Schema:
    """Return the schema of a job's rows: with the columns `reference` and `crop` where they are asked for."""
    further = [*([REFERENCE] if job.reference else []), *((CROP, *TOLD) if job.crop else ())]
    return pa.schema([*FACE_SCHEMA, *further])


class PhotoEmbedder:
    """Partition numbers in, counts out: reads, decodes, detects, aligns, embeds, writes and commits a partition."""

    def __init__(self, plan: EmbedPlan, missing: Sequence[int], threads: int) -> None:
        self.plan, self.missing, self.source = plan, missing, Storage(plan.job.images)
        self.batch, self.stage = plan.link.batch(0), _load_stage(plan, threads)

    def __call__(self, batch: Columns) -> Columns:
        partition, began = self.missing[int(batch["id"][0])], time.monotonic()
        # The rows of the partition, written and committed.
        table = self.table(self.plan.sample_table(partition)["picture"].to_pylist())
        content = encode_parquet(table)
        name, digest = write_shard(self.plan.out, "data", partition, content)
        refused = sum(bool(reason) for reason in table["reason"].to_pylist())
        commit(self.plan.out, partition, Commit(name, len(table), digest, len(content), {"rejected": refused}))
        # What the driver is told.
        samples = self.plan.rows(partition)
        counts: dict[str, float] = {"partition": partition, "samples": samples, "rejected": refused}
        counts[f"{SECONDS}faces"] = time.monotonic() - began
        return {name: np.array([value]) for name, value in counts.items()}

    def table(self, names: Sequence[str]) -> pa.Table:
        """Return rows of `FACE_SCHEMA`, one for each page of each picture."""
        # A row for every page, whatever becomes of it, and the faces of those that can be opened.
        rows = [page for name in names for page in self._open(name)]
        good = [(row, picture) for row, picture in rows if picture is not None]
        for (row, picture), seen in zip(good, find_faces(self.stage, [picture for _, picture in good], self.batch)):
            row |= seen
            if not row["reason"]:
                row |= self._pictures(picture, np.reshape(row["keypoints"], (5, 2)))
        return pa.Table.from_pylist([row for row, _ in rows], schema=schema_of(self.plan.job))

    def _pictures(self, picture: np.ndarray, points: np.ndarray) -> dict[str, Any]:
        """Return the pictures of a face that the job asks for, and what goes with them; a reason where it has no such crop."""
        job, kept = self.plan.job, dict[str, Any]()
        if job.reference:
            kept["reference"] = encode_jpeg(portrait(picture, points, self.plan.recipe.size))
        if job.crop:
            try:
                crop = encode_jpeg(cut_in_colour(picture, points))
            except BadFace as error:
                return {"reason": f"no colour: {error}", "embedding": None}
            kept |= {"crop": crop, "consent": job.consent or None, "licence": job.licence or None}
        return kept

    def _open(self, name: str) -> list[tuple[dict, np.ndarray | None]]:
        """Return the row of each page of a picture (`NAME`, `NAME#1`, ...), and its pixels unless the row has a reason."""
        row: dict = {"picture": name, "identity_id": name, "reason": "", "faces": 0}
        try:
            content, job = self.source.read(name), self.plan.job
            pages = open_pages(content, name) if job.modality == "visible" else open_thermal(content, name, job.unit)
        except BadPicture as error:
            return [(row | {"reason": str(error)}, None)]
        except (OSError, EnvironmentFault) as error:
            return [(row | {"reason": own_reason(error)}, None)]
        except UserError as error:  # values that are no picture
            return [(row | {"reason": f"no picture: {error}"}, None)]
        names = [name, *(f"{name}#{page}" for page in range(1, len(pages)))]
        return [(row | {"picture": own, "identity_id": own}, page) for own, page in zip(names, pages, strict=True)]


def _load_stage(plan: EmbedPlan, threads: int) -> Any:
    """Return what finds and embeds the faces of a plan's pictures."""
    if plan.finder is None:
        return plan.link.load(threads)
    return load_thermal_faces((plan.link, plan.finder), threads)


def _average_people(table: pa.Table, person: str, outlier: float = OUTLIER) -> tuple[pa.Table, list[str]]:
    """Return the rows of pictures with those of one person averaged, and the people of whom no two pictures agree.

    The first of a person's rows has the mean of the embeddings at length one, the others a reason. A picture whose median
    cosine to the person's others (`agreement`) is below `outlier` is none of them, unless all are.
    """
    of = dict[str, list[dict[str, Any]]]()
    rows = table.to_pylist()
    for row in rows:
        who = person_of(person, row["picture"])
        row["identity_id"] = who or row["picture"]
        if row["reason"]:
            continue
        if not who:
            row |= {"reason": f"no person: {person} does not say who it shows", "embedding": None}
            continue
        of.setdefault(who, []).append(row)
    split = [who for who, pictures in of.items() if not _average(pictures, outlier)]
    return pa.Table.from_pylist(rows, schema=table.schema.append(AGREEMENT)), split


def _average(pictures: list[dict[str, Any]], outlier: float) -> bool:
    """Average the rows of one person in place; returns whether any two of several agree."""
    vectors = np.array([row["embedding"] for row in pictures], np.float32)
    kept = np.ones(len(pictures), bool)
    if len(pictures) > 1:
        # Each picture against the others: one that shows somebody else is like none of them.
        cosines = vectors @ vectors.T
        others = [np.delete(cosines[row], row) for row in range(len(pictures))]
        agreement = np.array([np.median(one) for one in others])
        kept = agreement >= outlier
        for row, value in zip(pictures, agreement):
            row["agreement"] = float(value)
    agree = bool(kept.any())
    kept = kept if agree else ~kept
    first = pictures[int(np.argmax(kept))]
    for row, keep in zip(pictures, kept):
        if not keep:
            said = f"{OUTLIER_KIND}: cosine {row['agreement']:.2f} to the others of {row['identity_id']}, below {outlier:g}"
            row |= {"reason": said, "embedding": None}
        elif row is not first:
            row |= {"reason": f"{AVERAGED}: into the row of {first['picture']}", "embedding": None}
    first["embedding"] = unit(np.mean(vectors[kept], axis=0))
    return agree


def _is_outlier(reason: str) -> bool:
    return reason.startswith(f"{OUTLIER_KIND}:")


def _list(names: Sequence[str]) -> str:
    """Return the first names of a list that may be long."""
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _write_people(table: pa.Table, out: str, facts: dict[str, str]) -> None:
    """Write `table` whole or not at all; its metadata `facts` name the recogniser that the embeddings belong to."""
    folder, _, name = (out if "://" in out else str(Path(out).absolute())).rpartition("/")
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(facts), sink)
    Storage(folder).write(name, sink.getvalue().to_pybytes())
