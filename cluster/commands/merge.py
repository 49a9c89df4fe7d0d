"""`thermapair merge`: finished runs as one output."""

import click

from cluster.commands import options


@click.command("merge")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@options.out
def command(runs: tuple[str, ...], out: str) -> None:
    """Copy the rows of finished runs into one output, which `train`, `export` and `datasets` read as any other.

    Runs that share a pair, or that have a person in two splits, are refused. The same command resumes.
    """
    from pipelines.outputs import merge

    click.echo(merge.run(runs, out))
