"""The data-set card: `README.md` at the top of an output, which `datasets.load_dataset` and the hub's viewer read."""

from typing import Any

from huggingface_hub import DatasetCardData

from models.columns import COLUMNS
from pipelines.config.generate import parts_in_use
from pipelines.plan.generate import GeneratePlan
from pipelines.rows.schema import RECORD

READING = """\
```python
from datasets import load_dataset
import numpy as np

pairs = load_dataset("{out}", split="train")
celsius = np.asarray(pairs[0]["thermal"], dtype=np.float32) / 100 - 273.15
```
"""


def card(plan: GeneratePlan, pairs: int, rejects: bool, sheet: bool) -> str:
    """Return the card of a finished run. sheet: whether there is a contact sheet to show."""
    job, bundle = plan.job, plan.bundle
    layers = ", ".join(layer.name for layer in plan.recipe.layers)
    parts = "\n".join(
        f"| {name} | {part.stage} | {part.kind} | `{one.address}` | {one.licence or part.licence} |"
        for name, part in parts_in_use(job, bundle, plan.chain).items()
        for one in part.weights.values()
    )
    return "\n".join(
        [
            front(f"{job.name} ({bundle.name})", plan.recipe.licence, ["synthetic", "paired"], rejects=rejects),
            f"# {job.name}: paired visible and thermal faces",
            f"{pairs} pairs, {bundle.size} x {bundle.size} pixels, layers {layers}. "
            "Every face is synthetic. Temperatures are predicted by a network, not measured.",
            job.description,
            *(["![samples](report/contact.png)"] if sheet else []),
            "## Reading it",
            READING.format(out=plan.out.uri.rstrip("/").rsplit("/", 1)[-1]),
            "Files named in `_commits/` are the data set; `rejects/` holds samples and attempts that failed the gates.",
            "## One row is one pair",
            columns(),
            "## Models",
            f"Bundle `{bundle.name}`. {bundle.description}\n\n"
            f"| part | stage | kind | weights | licence |\n|---|---|---|---|---|\n{parts}",
            f"Run digest `{plan.digest}`; bundle, job and every launch are in `_plan/`.",
            "",
        ]
    )


def front(name: str, licence: str, tags: list[str], *, rows: bool = True, rejects: bool = False) -> str:
    """Return the head of a card, which the hub and `datasets` read. rows: whether `data/` holds shards of rows."""
    facts: dict[str, Any] = {"pretty_name": name, "tags": ["thermal", "faces", *tags]}
    if licence:
        facts |= {"license": "other", "license_name": licence}
    configs: list[dict[str, Any]] = []
    if rows:
        configs.append({"config_name": "default", "data_files": "data/*.parquet", "default": True})
    if rejects:
        configs.append({"config_name": "rejects", "data_files": "rejects/*.parquet"})
    if configs:
        facts["configs"] = configs
    return f"---\n{DatasetCardData(**facts).to_yaml()}\n---"


def columns() -> str:
    """Return the columns of the record as a table."""
    lines = ["| column | of a | unit | what it is |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {COLUMNS[name].per} | {COLUMNS[name].unit} | {COLUMNS[name].meaning} |" for name in RECORD]
    return "\n".join(lines)
