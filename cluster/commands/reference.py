"""`thermapair reference`: the distribution that a bundle draws people from when none are given."""

import click

from cluster.commands import options


@click.command("reference")
@options.data("Pictures of the world, as `thermapair world` writes them.")
@click.option("--faces", required=True, metavar="DIR", help="The faces part: an insightface pack.")
@click.option("--count", type=click.IntRange(min=1), help="Only the first so many pictures.")
def command(data: str, faces: str, count: int | None) -> None:
    """Fit the distribution of a recogniser's embeddings and write it beside the recogniser."""
    from pipelines import reference

    reference.run(data, faces, count=count)
