"""`thermapair train`: one training task through the one loop."""

from pathlib import Path
from typing import Any

import click

from cluster.commands import options
from cluster.submission.working_dir import RayCommand


@click.command("train", cls=RayCommand)
@click.argument("task", required=False)
@click.option(
    "--job",
    "job_file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with task, data, validation, config (the task's values) and limit; flags take the place of what it says.",
)
@click.option("--bundle", default="", metavar="NAME|FILE", help="Begin with the weights of this bundle's part.")
@click.option(
    "--data",
    metavar="URI[,URI]",
    help="Rows to train on: what world, gather, generate or thermalize made; the captioner needs none.",
)
@options.reader
@click.option(
    "--validation",
    metavar="URI",
    help="Shards to validate on, or none.  [default: none; with --reader the same data set]",
)
@click.option(
    "--split", metavar="NAME", help="Train on the rows of this split: train, validation, test or all.  [default: train]"
)
@click.option(
    "--validation-split", metavar="NAME", help="Validate on the rows of this split: as --split.  [default: validation]"
)
@options.out
@options.profile
@options.overrides
@options.local
@options.threads("Threads of each worker instead of the profile's.")
@options.limit("Use only the first N rows of the data.")
@click.option("--export", metavar="URI", help="Folder of the trained part and its card.  [default: OUT/export]")
@click.option("--checkpoint-seconds", type=float, help="Time between checkpoints.  [default: 180]")
@click.option("--fresh", is_flag=True, help="Start again instead of resuming from the last checkpoint in --out.")
def command(published: options.Published, **values: Any) -> None:
    """Train TASK: a module of models/tasks (or the one that --job names).

    Repeating the command resumes from the last checkpoint. --set takes the task's own values (steps, batch, lr, ...),
    values of the profile as profile.KEY, and of the bundle as bundle.KEY.
    """
    from pipelines import train

    if any(published):
        values["data"] = options.gather_first(values["data"] or "", published, values["out"])
        values["validation"] = values["validation"] or values["data"]
    if values["validation"] == "none":
        values["validation"] = None
    card = train.run(**values)
    click.echo(f"trained {card.task}: {values['export'] or values['out'] + '/export'}")
