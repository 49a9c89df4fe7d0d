"""`thermapair translate`: thermal pictures in, the same faces in visible light out.

    plan -> open -> translate -> write

The machinery is generate's: a partition is the unit of commit, retry and loss; the same command resumes.
"""

from dataclasses import replace
from typing import Any

from pipelines.config.request import TranslateRequest, load_translate
from pipelines.config.translate import chain_for
from pipelines.plan.photos import list_photos
from pipelines.plan.translate import THERMAL, TranslatePlan, write_translate_plan
from pipelines.report.card import front_matter
from pipelines.report.translations import SHEET, draw_translations
from pipelines.run.kernels import settle_kernels
from pipelines.run.photographs import Summary, run_on_pictures, summarise_pictures
from pipelines.storage.commits import Commit
from pipelines.storage.uri import Storage


def run(images: str, out: str, *, bundle: str = "starter", profile: str = "laptop", **values: Any) -> Summary:
    """Translate, or go on translating, every picture of `images` into `out`; `values` are those of `load_translate`."""
    return translate(load_translate(images, bundle=bundle, profile=profile, **values), out)


def translate(request: TranslateRequest, out: str) -> Summary:
    """Run a translate job, as `run_on_pictures` says."""
    job, chain = request.job, chain_for(request.job, request.bundle)
    with settle_kernels(
        request.bundle, chain, request.profile, Storage(out), check=lambda: list_photos(job, THERMAL)
    ) as bundle:
        return run_on_pictures(replace(request, bundle=bundle), out, write_translate_plan, finish)


def finish(plan: TranslatePlan, commits: dict[int, Commit]) -> Summary:
    """Write manifest, card and picture of a finished run and return what it came to."""
    summary = summarise_pictures(plan, commits, "{made} translations of {pictures} pictures", plan.samples)
    sheet = draw_translations(plan, commits)
    if sheet is not None:
        plan.out.write(SHEET, sheet)
    plan.out.write("README.md", _card(plan, summary, sheet is not None).encode())
    return summary


def _card(plan: TranslatePlan, summary: Summary, shown: bool) -> str:
    """Return the card of an output, which `datasets.load_dataset` reads."""
    head = front_matter(f"{plan.job.name} ({plan.bundle.name})", "", [], rows=True)
    picture = f"![Thermal pictures, and what was made of them]({SHEET})\n\n" if shown else ""
    return (
        f"{head}\n# {summary.made} visible pictures of {summary.pictures} thermal ones\n\n"
        f"{picture}"
        "A row of `data/` is a pair: `visible` is made (`visible_kind` translated), `thermal` is what came. Of kind "
        "`measured` it is 16-bit centikelvin: degrees Celsius = value / 100 - 273.15. Of kind `agc` it is the 8-bit grey "
        "levels that came, which are no temperatures. `attributes_source` says of each attribute whether it was given, "
        "estimated from the thermal picture, or asked for at the population's shares because thermal cannot show it.\n\n"
        f"A translation is a picture that could be, not what the person looks like. Run digest `{plan.digest}`.\n"
    )
