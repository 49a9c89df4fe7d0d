"""`thermapair train`: one training task through the one loop."""

import click

from cluster import options


@click.command("train")
@click.argument("task")
@click.option(
    "--data", metavar="URI", help="Shards to train on, as `thermapair world` writes them; the captioner needs none."
)
@click.option("--validation", metavar="URI", help="Shards to validate on.")
@options.out
@options.profile
@options.overrides
@click.option("--local", is_flag=True, help="Train in this process, without Ray.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of each worker instead of the profile's.")
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first N rows of the data.")
@click.option("--export", metavar="URI", help="Folder of the trained part and its card.  [default: OUT/export]")
@click.option("--checkpoint-seconds", default=180.0, show_default=True, help="Time between checkpoints.")
@click.option("--fresh", is_flag=True, help="Start again instead of resuming from the last checkpoint in --out.")
def command(
    task: str,
    data: str | None,
    validation: str | None,
    out: str,
    profile: str,
    overrides: tuple[str, ...],
    local: bool,
    threads: int | None,
    limit: int | None,
    export: str | None,
    checkpoint_seconds: float,
    fresh: bool,
) -> None:
    """Train TASK: a module of models/tasks.

    Repeating the command resumes from the last checkpoint. --set takes the task's own values (steps, batch, lr, ...)
    and values of the profile as profile.KEY.
    """
    from pipelines import train

    train.run(
        task,
        data,
        out,
        validation=validation,
        overrides=overrides,
        profile=profile,
        local=local,
        threads=threads,
        limit=limit,
        export=export,
        checkpoint_seconds=checkpoint_seconds,
        fresh=fresh,
    )
    click.echo(f"trained {task}: {export or out + '/export'}")
