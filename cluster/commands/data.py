"""`thermapair data`: what a data set on disk holds."""

import click

from cluster.commands import options


@click.group("data")
def command() -> None:
    """Look at data sets before they are gathered."""


@command.command("check")
@click.argument("uri")
@click.option("--layout", type=click.Choice(options.LAYOUTS), help="How it lies on disk.  [default: found out]")
@click.option(
    "--protocol", default="", metavar="NAME", help="Of mcxface: the folder of lists, where there are several."
)
@options.rows_per_person("As gather takes them.")
@click.option("--sample", default=24, show_default=True, type=click.IntRange(min=1), help="Rows to open.")
@click.option("--picture", default="", metavar="FILE", help="Also write a PNG of some rows.")
@click.option(
    "--registration", is_flag=True, help="Also look for the face in both halves of these rows: how far apart?"
)
@click.option("--missing", default="", metavar="FILE", help="Also write a CSV of all that is missing, row by row.")
def check(
    uri: str,
    layout: str | None,
    protocol: str,
    rows_per_person: int | None,
    sample: int,
    picture: str,
    registration: bool,
    missing: str,
) -> None:
    """Say what the folder URI holds: rows, pairs, people, splits, sizes, temperatures, what is missing, and what to do with it.

    Exits with 2 where it is of no known layout, or of another than the one named.
    """
    from pipelines.check_data import check_data

    found = check_data(
        uri,
        layout,  # type: ignore[arg-type]
        protocol=protocol,
        rows_per_person=rows_per_person,
        sample=sample,
        picture=picture,
        registration=registration,
        missing=missing,
    )
    click.echo(str(found))
