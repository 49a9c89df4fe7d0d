"""A generate job resolved: its chain of stages, the parts that it runs, the size of its partitions, and its recipe."""

from math import gcd, prod

import numpy as np

from models.columns import COLUMNS
from models.errors import UserError
from models.stages import CAPTIONS, import_settings
from models.visible.angles import ANGLES
from models.weights.bundle import Bundle, Part, licence_of, small_files
from pipelines.config.captions import writer_of
from pipelines.config.chain import ChainSpec, chain_spec, resolve_chain
from pipelines.config.job import GenerateJob
from pipelines.config.recipe import PARTITION_BYTES, Recipe, caption_recipe, stage_recipes
from pipelines.config.views import Views
from pipelines.storage.address import resolve_uri

BRINGS = ("sample_id", "identity_id", "view", "draw", "seed", "attributes", "attributes_source", "caption", "caption_source",
          "embedding", "partition", "attempt", "noise_id")  # fmt: skip
"""Columns that the plan brings to the chain."""
POSE = "pose_asked"
"""Column that the plan brings as well where the job's views name angles."""
LATENT_CHANNELS = 16
"""No autoencoder of pictures in use has more."""
OF_PEOPLE = ("reference", "crop", "smirk")
"""Columns that people may come with: the plan brings those that a stage looks at."""
TERMS = {"picture_licence": "licence", "consent": "consent"}
"""Columns that go with people's pictures wherever a stage looks at those, the licence of the pictures and the consent of the
people, and what a file of people calls them, as `embed --crop` writes it."""
WANTED = ("visible", "thermal", "scores")
OPTIONAL = ("classes", "bbox", "landmarks_70", "landmarks_478")
"""Columns that pairs have to have, and those that they have where the bundle can make them."""
BLOCKS = 8
"""Partitions that an object store should hold at once."""
CHUNK_SAMPLES = 4096
"""Samples whose captions share a file, at most."""


def chain_for(job: GenerateJob, bundle: Bundle) -> ChainSpec:
    """Return the stages of a generate job. Raises what `resolve_chain` raises; imports neither torch nor diffusers."""
    settings = {**job.settings, "gates": job.gates.model_dump()}
    if "gates" in job.settings:
        raise UserError("settings.gates: the gates have a section of their own, gates.")
    parts = {stage: name for stage, name in job.parts.items() if stage != CAPTIONS}  # written before the chain runs
    given = source_columns(job.views)
    chain = resolve_chain(
        bundle, given=given, wanted=WANTED, optional=OPTIONAL, layers=job.layers, parts=parts, settings=settings
    )
    check_views(job.views, chain)
    return over_source(chain, job.views)


def source_columns(views: Views) -> tuple[str, ...]:
    """Return the columns that the plan of a job with these views brings to any chain."""
    return (*BRINGS, POSE) if views.in_degrees else BRINGS


def over_source(chain: ChainSpec, views: Views) -> ChainSpec:
    """Return the chain over all that the plan of a job with these views brings: with what its stages look at of people."""
    looked = {name for link in chain.links for name in (*link.flow.reads, *link.flow.reads_if_there)}
    of_people = (*(name for name in OF_PEOPLE if name in looked), *(TERMS if looked & {"reference", "crop"} else ()))
    return chain_spec(chain.links, (*source_columns(views), *of_people))


def check_views(views: Views, chain: ChainSpec) -> None:
    """Raise a UserError where views name angles and the part that draws the picture takes none."""
    link = chain.link("visible")
    takes_pose = getattr(import_settings(link.package), "takes_pose", lambda files: False)
    if views.in_degrees and not takes_pose(small_files(link.part, link.folder)):
        name = next(name for name in ANGLES if views.says(name))
        raise UserError(
            f"views.{name}: part {link.name} ({link.part.kind}) is shown no head, so it takes no angles. Ask in words: "
            "views.attributes.pose."
        )


def recipe_for(job: GenerateJob, bundle: Bundle, chain: ChainSpec) -> Recipe:
    """Return everything that may change a byte of what the job makes."""
    writer = writer_of(bundle, job.captions.backend, job.parts)
    return Recipe(
        kind="generate",
        seed=job.seed,
        source={
            "identities": job.identities.model_dump(mode="json", exclude=_unsaid(job)) | {"source": _address(job)},
            "views": job.views.model_dump(mode="json"),
        },
        size=bundle.size,
        layers=job.layers,
        stages=stage_recipes(chain),
        captions=caption_recipe(writer, bundle.folder, job.captions),
        encoding=job.encoding.model_dump(mode="json"),
        partition=identities_per_partition(job, bundle, chain),
        chunk=CHUNK_SAMPLES,
        licence=licence_of(parts_in_use(job, bundle, chain).values()),
    )


def _unsaid(job: GenerateJob) -> set[str]:
    """Return the fields of `identities` that change nobody: how many, and words and a way of sampling where nothing is said."""
    silent = {"words": not job.identities.words, "sampling": job.identities.sampling == "rejection"}
    return {"count", *(name for name, one in silent.items() if one)}


def _address(job: GenerateJob) -> str:
    """Return where people come from, a file by its whole path: the same file is the same source."""
    source = job.identities.source
    return source if source == "reference" else resolve_uri(source)


def parts_in_use(job: GenerateJob, bundle: Bundle, chain: ChainSpec) -> dict[str, Part]:
    """Return the parts that the job runs by name: of captions if a model writes them, and of its chain."""
    writer = writer_of(bundle, job.captions.backend, job.parts)
    names = [name for name, part in bundle.parts.items() if part is writer]
    return {name: bundle.parts[name] for name in names} | {link.name: link.part for link in chain.links}


def identities_per_partition(job: GenerateJob, bundle: Bundle, chain: ChainSpec) -> int:
    """Return how many whole people a partition holds.

    As many as `partition_samples` and `PARTITION_BYTES` of columns, attempts included, allow, at least one, and if possible so
    that the samples fill the first stage's batches.
    """
    # As many people as fit.
    each = job.views.per_identity * job.views.draws
    count = max(1, min(job.partition_samples // each, PARTITION_BYTES // (sample_bytes(job, bundle, chain) * each)))
    # Rounded down to a number whose samples fill whole batches, where that leaves anybody.
    batch = chain.links[0].part.batch
    full = batch // gcd(batch, each)
    return count // full * full or count


def pair_bytes(job: GenerateJob, bundle: Bundle) -> int:
    """Return about how many bytes a row takes on disk: 29 KB were measured where this says 31, of the starter at 128 px.

    A pixel takes 0.4 bytes as JPEG (2 as PNG), 0.95 of the thermal picture and 0.1 of classes and mask; the rest of a row 7,000.
    """
    visible = 0.4 if job.encoding.visible == "jpeg" else 2.0
    return round(bundle.size**2 * (visible + 1.05)) + 7000


def sample_bytes(job: GenerateJob, bundle: Bundle, chain: ChainSpec) -> int:
    """Return the bytes of one sample's columns in a block, uncompressed, its failed attempts among them."""
    sizes = {"S": bundle.size, "S/8": bundle.size // 8, "L": LATENT_CHANNELS, "stages": len(chain.links)}
    layers, total = len(job.layers), 0
    for name in (*chain.given, *chain.tracked):
        column = COLUMNS[name]
        if column.dtype not in ("text", "bytes"):
            values = prod(sizes[side] if isinstance(side, str) else side for side in column.shape)
            total += np.dtype(column.dtype).itemsize * values * (layers if column.per == "layer" else 1)
    return total * job.gates.attempts
