"""`thermapair clean`: files of a data set that no commit names."""

import click

from cluster.commands import options


@click.command("clean")
@options.out
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
def command(out: str, dry_run: bool) -> None:
    """Remove what interrupted runs left behind: shards that no commit record names."""
    from pipelines.run import clean

    clean.run(out, dry_run=dry_run)
