"""`thermapair inspect`: one row of a data set, and whether its provenance makes it again."""

import click

from cluster import options


@click.command("inspect")
@click.argument("pair_id")
@options.out
@click.option("--picture", metavar="FILE", help="Also write a PNG of the row as stored and as made again.")
def command(pair_id: str, out: str, picture: str | None) -> int:
    """Show one row and make it again from its provenance. Exits with 1 when it comes out differently."""
    from pipelines import inspect

    remade = inspect.run(out, pair_id, picture=picture)
    return 0 if remade is None or remade.same else 1
