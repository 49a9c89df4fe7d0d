"""`thermapair train`: one training task through the one loop."""

import click

from cluster import options


@click.command("train")
@click.argument("task")
@click.option("--data", required=True, metavar="URI", help="Shards to train on, as `thermapair world` writes them.")
@click.option("--validation", metavar="URI", help="Shards to validate on.")
@options.out
@options.overrides
@click.option("--fresh", is_flag=True, help="Start again instead of resuming from the last checkpoint in --out.")
def command(task: str, data: str, validation: str | None, out: str, overrides: tuple[str, ...], fresh: bool) -> None:
    """Train TASK: a module of models/tasks. Repeating the command resumes from the last checkpoint."""
    from pipelines import train

    train.run(task, data, out, validation=validation, overrides=overrides, fresh=fresh)
