"""The plan of a world job, its recipe, and which world the rows of an output show."""

from models.config import parse_json
from models.errors import EnvironmentFault, UserError
from models.synthworld.sampling.domain import digest as domain_digest
from models.synthworld.sampling.domain import load_domain
from models.weights.bundle import LICENCES
from pipelines.config.recipe import Recipe
from pipelines.config.world import WorldJob, choose_identities
from pipelines.plan.claim import claim, read_run
from pipelines.rows.schema import WORLD
from pipelines.storage.commits import MANIFEST, read_commits
from pipelines.storage.uri import Storage


def recipe_for(job: WorldJob) -> Recipe:
    """Return what decides a row: the job, its domain's file, and the columns; `count` does not."""
    source = job.model_dump(mode="json", exclude={"count", "render_batch", "partition", "size"})
    source |= {"domain_file": domain_digest(load_domain(job.domain, job.gap)), "columns": list(WORLD)}
    return Recipe(
        kind="world", source=source, size=job.size, layers=(), stages=(), encoding={}, partition=job.partition_rows,
        licence=LICENCES[0],
    )  # fmt: skip


class WorldPlan:
    """The pictures of a world job, which is its own plan: row k is a function of the job and k alone."""

    def __init__(self, out: Storage, job: WorldJob, digest: str) -> None:
        self.out, self.job, self.digest = out, job, digest

    @property
    def title(self) -> str:
        """What the run is called."""
        return f"world {self.job.domain}"

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return self.job.partitions

    @property
    def samples(self) -> int:
        """Number of pictures."""
        return self.job.count

    def rows(self, partition: int) -> int:
        """Number of pictures of `partition`."""
        return len(self.job.rows_of(partition))


def write_world_plan(job: WorldJob, out: Storage) -> WorldPlan:
    """Return the plan of a job, whose output `out` becomes.

    Raises:
        UserError: the split has no such person, the domain no thermal picture for the layout, or `out` holds another job, or
            ends in a shard that is not full and cannot grow.
    """
    # The people and pictures that are asked for must exist.
    choose_identities(job)
    thermal = load_domain(job.domain, job.gap).capture.thermal
    if thermal == "none" and job.layout not in ("record", "facesynthetics"):
        raise UserError(
            f"domain {job.domain} has no thermal picture: it fills --layout facesynthetics, not {job.layout}"
        )
    recipe = recipe_for(job)
    claim(out, recipe, None, job.model_dump(mode="json"))
    # A last partition that was short would have to become longer.
    for partition, record in read_commits(out).items():
        if partition < job.partitions and record.rows != (rows := len(job.rows_of(partition))):
            raise UserError(
                f"{out.uri} ends in a part shard ({record.rows} of {rows} rows) and cannot grow: give a count that is a "
                f"multiple of {job.partition_rows} from the start, or another --out"
            )
    return WorldPlan(out, job, recipe.digest)


def read_world(out: Storage) -> tuple[WorldJob, str] | None:
    """Return (job, digest) of the rendered rows in `out`, None for rows of another kind.

    Raises EnvironmentFault where what tells the kind is damaged, or the storage fails.
    """
    try:
        run = read_run(out)
    except EnvironmentFault:
        raise
    except UserError:  # there is no run
        return None
    if run["job"]["kind"] != "world":
        return None
    # A finished run may have grown since it was claimed.
    job = run["job"]
    try:
        job = parse_json(out.read(MANIFEST))["job"]
    except FileNotFoundError:
        pass
    except (ValueError, TypeError, KeyError):
        raise EnvironmentFault(
            f"{out.shown(MANIFEST)} is damaged. Delete it and run the same command again: it is written anew."
        ) from None
    return WorldJob.model_validate(job), str(run["digest"])
