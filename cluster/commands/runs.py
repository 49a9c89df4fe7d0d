"""`thermapair runs`: the outputs below a folder."""

import click


@click.command("runs")
@click.argument("folder", metavar="FOLDER", default="out")
def command(folder: str) -> None:
    """List the runs in FOLDER (out by default; also s3://) and up to two folders below it: kind, share done, rows, GB, state."""
    from pipelines.status import read_runs, show_runs

    click.echo(show_runs(read_runs(folder)))
