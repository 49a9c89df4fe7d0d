"""The plan and the chain of an output, from its recipe: what `thermapair inspect` looks at."""

from models.errors import UserError
from pipelines.config import generate, thermalize
from pipelines.config.chain import ChainSpec
from pipelines.config.recipe import chain_of
from pipelines.config.thermalize import ThermalizeJob
from pipelines.plan.pieces import read_pieces, read_recipe, read_run
from pipelines.plan.thermalize import ThermalizePlan
from pipelines.storage.uri import Storage


def read_chain(out: Storage) -> ChainSpec:
    """Return the stages that the run in `out` was made by, with what its source brings.

    Raises:
        UserError: there is no run, or it is no chain of stages. EnvironmentFault: small files of its weights are gone.
    """
    recipe, bundle = read_recipe(out)
    if recipe.kind == "generate":
        return chain_of(recipe, bundle, generate.BRINGS)
    if recipe.kind == "thermalize":
        found = chain_of(recipe, bundle, thermalize.given_columns(masked=False))
        masked = bool(recipe.source["masks"]) or _lacks(found, "classes")
        return chain_of(recipe, bundle, thermalize.given_columns(masked))
    raise UserError(f"{out.uri} is the output of `thermapair {recipe.kind}`, which is no chain of stages.")


def _lacks(chain: ChainSpec, column: str) -> bool:
    """Whether stages read a column that none of them writes, so that it came with what was read."""
    return any(column in link.flow.reads for link in chain.links) and not any(
        column in link.flow.writes for link in chain.links
    )


def read_thermalize_plan(out: Storage) -> ThermalizePlan:
    """Return the plan of a thermalize run in `out`, with the recipe that it was made from. Raises what `read_chain` raises."""
    recipe, bundle = read_recipe(out)
    job, pieces = ThermalizeJob.model_validate(read_run(out)["job"]), read_pieces(out)
    if not pieces.found:
        raise UserError(f"{out.uri} has no whole plan yet: the command that began it was stopped. Run it again.")
    return ThermalizePlan(out, job, bundle, recipe, read_chain(out), pieces)
