"""The chain of an output, from its recipe."""

from models.errors import UserError
from pipelines.config import generate, thermalize, translate
from pipelines.config.chain import ChainSpec
from pipelines.config.recipe import chain_of
from pipelines.config.views import Views
from pipelines.plan.claim import read_recipe
from pipelines.storage.uri import Storage


def read_chain(out: Storage) -> ChainSpec:
    """Return the stages that the run in `out` was made by, with what its source brings.

    Raises:
        UserError: there is no run, or it is no chain of stages. EnvironmentFault: small files of its weights are gone.
    """
    recipe, bundle = read_recipe(out)
    if recipe.kind == "generate":
        views = Views.model_validate(recipe.source["views"])
        return generate.over_source(chain_of(recipe, bundle, generate.source_columns(views)), views)
    if recipe.kind == "thermalize":
        found = chain_of(recipe, bundle, thermalize.source_columns(has_classes=False))
        has_classes = bool(recipe.source["masks"]) or _lacks(found, "classes")
        chain, source = chain_of(recipe, bundle, thermalize.source_columns(has_classes)), recipe.source
        return thermalize.cut_faces(chain, bundle, source.get("faces", 0), source.get("margin", 0), recipe.size)
    if recipe.kind == "translate":
        return chain_of(recipe, bundle, translate.BRINGS)
    raise UserError(f"{out.uri} is the output of `thermapair {recipe.kind}`, which is no chain of stages.")


def _lacks(chain: ChainSpec, column: str) -> bool:
    """Whether stages read a column that none of them writes, so that it came with what was read."""
    return any(column in link.flow.reads for link in chain.links) and not any(
        column in link.flow.writes for link in chain.links
    )
