"""`thermapair inspect`: one row of a data set, and whether its provenance makes it again."""

import click

from cluster import options


@click.command("inspect")
@click.argument("pair_id")
@options.out
@click.option("--picture", metavar="FILE", help="Also write a PNG of the row as stored and as made again.")
def command(pair_id: str, out: str, picture: str | None) -> None:
    """Show one row and make it again from its provenance."""
    from pipelines import inspect

    inspect.run(out, pair_id, picture=picture)
