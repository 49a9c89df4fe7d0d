"""`thermapair thermalize`: a user's visible pictures in, the same faces in thermal out.

    plan -> open -> [cut faces ->] [parser ->] thermal -> write

The machinery is generate's: a partition is the unit of commit, retry and loss; the same command resumes.
"""

from typing import Any

from pipelines.config.request import ThermalizeRequest, load_thermalize
from pipelines.plan.thermalize import ThermalizePlan, write_thermalize_plan
from pipelines.report.card import front_matter
from pipelines.run.photographs import Summary, run_on_pictures, summarise_pictures
from pipelines.run.writer import write_partition, write_thermal_files
from pipelines.storage.commits import Commit


def run(images: str, out: str, *, bundle: str = "starter", profile: str = "laptop", **values: Any) -> Summary:
    """Thermalize, or go on thermalizing, every picture of `images` into `out`; `values` are those of `load_thermalize`."""
    return thermalize(load_thermalize(images, bundle=bundle, profile=profile, **values), out)


def thermalize(request: ThermalizeRequest, out: str) -> Summary:
    """Run a thermalize job, as `run_on_pictures` says."""
    return run_on_pictures(
        request,
        out,
        write_thermalize_plan,
        _finish,
        lambda plan: write_thermal_files if plan.job.layout == "tfake" else write_partition,
    )


def _finish(plan: ThermalizePlan, commits: dict[int, Commit]) -> Summary:
    """Write manifest and card of a finished run and return what it came to."""
    summary = summarise_pictures(plan, commits, "{made} of {pictures} pictures thermalized")
    plan.out.write("README.md", _card(plan, summary).encode())
    return summary


def _card(plan: ThermalizePlan, summary: Summary) -> str:
    """Return the card of an output; in the record's layout `datasets.load_dataset` reads it."""
    if plan.job.layout == "record":
        layout = "A row of `data/` is a pair; `thermal` is 16-bit centikelvin: degrees Celsius = value / 100 - 273.15."
    else:
        layout = (
            "T-FAKE's layout: `CONDITION/NAME_thermal.png`, 16 bit, degrees Celsius = 20 + 20 * value / 65535; what is "
            "colder or warmer takes the end of the scale. Pair by name with the visible pictures."
        )
    split = (
        f"The split is by person, as `{plan.recipe.source['person']}` says who is shown."
        if plan.by_person
        else "Nothing says who is shown, so all rows are of one split, train: say it with `--person` before you hold people out."
    )
    head = front_matter(f"{plan.job.name} ({plan.bundle.name})", "", [], rows=plan.job.layout == "record")
    names = " and ".join(layer.name for layer in plan.recipe.layers)
    return (
        f"{head}\n# Thermal pictures of {summary.made} visible ones\n\n"
        f"{layout} `rejects/` holds {summary.pictures - summary.made} pictures that were not taken, with reasons.\n\n"
        f"{split}\n\n"
        f"Temperatures are predicted by the network of bundle `{plan.bundle.name}` for {names}, "
        f"not measured. Run digest `{plan.digest}`. The visible pictures keep their own licence.\n"
    )
