"""The data-set card: `README.md` at the top of an output, which `datasets.load_dataset` and the hub's viewer read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData

from models.columns import COLUMNS
from pipelines.config.generate import parts_in_use
from pipelines.plan.generate import GeneratePlan
from pipelines.report.template import load_template

TEMPLATE = Path(__file__).parent / "templates" / "card.md"


def render_card(plan: GeneratePlan, pairs: int, rejects: bool, sheet: bool) -> str:
    """Return the card of a finished run of `pairs` pairs, by `templates/card.md`.

    rejects: whether there are shards of rejects; sheet: whether there is a contact sheet to show.
    """
    title = f"{plan.job.name} ({plan.bundle.name})"
    return load_template(TEMPLATE).render(
        front_matter=front_matter(title, plan.recipe.licence, ["synthetic", "paired"], rejects=rejects),
        plan=plan,
        pairs=pairs,
        sheet=sheet,
        folder=plan.out.uri.rstrip("/").rsplit("/", 1)[-1],
        columns={name: COLUMNS[name] for name in plan.record.columns},
        parts=parts_in_use(plan.job, plan.bundle, plan.chain),
        sampled=plan.job.identities.source == "reference",
        stages=plan.chain.stages,
    )


def front_matter(
    name: str, licence: str, tags: list[str], *, rows: bool = True, rejects: bool = False, splits: Sequence[str] = ()
) -> str:
    """Return the head of a card, YAML that the hub and `datasets` read.

    rows: whether `data/` holds shards of rows. splits: those that have shards of their own, `SPLIT-...`.
    """
    facts: dict[str, Any] = {"pretty_name": name, "tags": ["thermal", "faces", *tags]}
    if licence:
        facts |= {"license": "other", "license_name": licence}
    configs: list[dict[str, Any]] = []
    if rows:
        files: Any = [{"split": split, "path": f"{split}-*.parquet"} for split in splits] or "data/*.parquet"
        configs.append({"config_name": "default", "data_files": files, "default": True})
    if rejects:
        configs.append({"config_name": "rejects", "data_files": "rejects/*.parquet"})
    if configs:
        facts["configs"] = configs
    return f"---\n{DatasetCardData(**facts).to_yaml()}\n---"
