"""`thermapair thermalize`: visible pictures in, the same faces in thermal out."""

from typing import Any

import click

from cluster.commands import options
from cluster.submission.working_dir import RayCommand


@click.command("thermalize", cls=RayCommand)
@options.images("Folder of pictures, or of Parquet files with a picture column.")
@click.option(
    "--masks", default="", metavar="URI", help="Folder of class pictures NAME_seg.png; else the parser finds them."
)
@options.person
@options.faces("largest", "picture")
@options.margin
@options.conditions(
    "Words that the bundle's thermal part knows, or rooms in degrees Celsius where it takes them: warm,cold,22.5.",
    default="warm,cold",
)
@click.option(
    "--samples", default=1, show_default=True, metavar="K", type=int, help="Thermal pictures of each condition."
)
@options.side
@click.option(
    "--layout",
    type=click.Choice(["record", "tfake"]),
    default="record",
    show_default=True,
    help="A data set of pairs in Parquet, or T-FAKE's CONDITION/NAME_thermal.png.",
)
@options.limit("The first N pictures alone; a larger N goes on from there.")
@options.out
@options.bundle
@options.profile
@options.overrides
def command(out: str, **values: Any) -> None:
    """Predict what a thermal camera would see of pictures of faces.

    The same command resumes a run that was stopped. A picture that cannot be taken is rejected with its reason.
    """
    from pipelines.config.request import load_thermalize

    request = load_thermalize(**values)  # a wrong one is refused before Ray is imported
    from pipelines import thermalize

    click.echo(str(thermalize.thermalize(request, out)))
