"""The data-set card: `README.md` at the top of an output, which `datasets.load_dataset` and the hub's viewer read."""

import yaml

from pipelines.plan.samples import Plan

RECORD = """\
| column | what it is |
|---|---|
| `pair_id`, `sample_id`, `identity_id` | hashes of the job's seed, person, view, draw (and condition): the same in every run |
| `view`, `draw`, `condition`, `split` | which view of the person, which picture of it, `warm` or `cold`; the split is by person |
| `seed`, `attempt` | what the noise came from; attempt 1 and above were drawn again after the gates |
| `caption`, `caption_source` | what the picture was asked to show, and who wrote it |
| `attributes` | JSON: `asked`, `estimated` (from the embedding), `given` (with the person) |
| `embedding` | 512 values of length one, the identity asked for |
| `visible` | the picture |
| `thermal`, `thermal_kind` | 16-bit PNG in centikelvin: degrees Celsius = value / 100 - 273.15; `predicted` by a network |
| `thermal_clipped`, `valid` | share of the person at an end of the thermal scale; mask of values that mean something |
| `classes` | the 19 FaceSynthetics classes by pixel, from the parser |
| `bbox`, `keypoints` | of the face found, in pixels, pixel centres at .5 |
| `landmarks_70`, `landmarks_478` | x, y in pixels of visible and thermal alike; empty when the bundle has no landmarker |
| `variance_*_visible`, `variance_*_thermal` | pixels squared, of each point as that picture alone shows it |
| `seen_*_visible`, `seen_*_thermal` | whether the point's pixel shows the face or what covers it |
| `pose` | yaw, pitch, roll in degrees, from the 70 landmarks |
| `scores`, `reject` | what the gates measured (JSON); why a row lies under `rejects/` |
| `licence`, `provenance` | the strictest licence of the models; run, job, bundle, partition (JSON) |
"""

READING = """\
```python
from datasets import load_dataset
import numpy as np

pairs = load_dataset("{out}", split="train")
celsius = np.asarray(pairs[0]["thermal"], dtype=np.float32) / 100 - 273.15
```
"""


def card(plan: Plan, pairs: int, rejects: bool) -> str:
    """Return the card of a finished run."""
    job, bundle = plan.job, plan.bundle
    configs = [{"config_name": "default", "data_files": "data/*.parquet", "default": True}]
    if rejects:
        configs.append({"config_name": "rejects", "data_files": "rejects/*.parquet"})
    front = {
        "pretty_name": f"{job.name} ({bundle.name})",
        "license": "other",
        "license_name": bundle.licence,
        "tags": ["thermal", "faces", "synthetic", "paired"],
        "configs": configs,
    }
    parts = "\n".join(
        f"| {name} | {part.kind} | `{part.weights}` | {part.licence} |" for name, part in bundle.parts().items()
    )
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
            f"# {job.name}: paired visible and thermal faces",
            f"{pairs} pairs, {bundle.size} x {bundle.size} pixels, conditions {', '.join(job.conditions)}. "
            "Every face is synthetic. Temperatures are predicted by a network, not measured.",
            job.description,
            "![samples](report/contact.png)",
            "## Reading it",
            READING.format(out=plan.out.uri.rstrip("/").rsplit("/", 1)[-1]),
            "Files named in `_commits/` are the data set; `rejects/` holds samples and attempts that failed the gates.",
            "## One row is one pair",
            RECORD,
            "## Models",
            f"Bundle `{bundle.name}`. {bundle.description}\n\n| stage | kind | weights | licence |\n|---|---|---|---|\n{parts}",
            f"Run digest `{plan.digest}`; bundle, job and every launch are in `_plan/`.",
            "",
        ]
    )
