"""`thermapair translate`: thermal pictures in, the same faces in visible light out."""

from typing import Any

import click

from cluster.commands import options
from cluster.submission.working_dir import RayCommand


@click.command("translate", cls=RayCommand)
@options.images("Folder of thermal pictures, or of Parquet files with a thermal column.")
@click.option(
    "--unit",
    metavar="UNIT",
    help="Of pictures of more than 8 bits: a name, or {scale: S, offset: O}.  [default: centikelvin]",
)
@options.person
@options.faces("surest", "frame")
@options.margin
@click.option("--samples", default=1, show_default=True, metavar="K", type=int, help="Translations of each picture.")
@options.side
@options.limit("The first N pictures alone; a larger N goes on from there.")
@options.out
@options.bundle
@options.profile
@options.overrides
def command(out: str, unit: str | None, **values: Any) -> None:
    """Draw what a camera for visible light could see of thermal pictures of faces.

    Attributes that a thermal picture does not show are drawn from the population, unless given: --set
    'job.settings={translate: {attributes: {hair_colour: red}}}'. The same command resumes a run that was stopped.
    """
    from models.temperature import parse_unit
    from pipelines.config.request import load_translate

    request = load_translate(unit=None if unit is None else parse_unit(unit), **values)
    from pipelines import translate

    click.echo(str(translate.translate(request, out)))
