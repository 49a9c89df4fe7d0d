"""`thermapair world`: render procedural people with their true geometry and temperature."""

from typing import Any

import click

from cluster.commands import options
from cluster.submission.working_dir import RayCommand


@click.command("world", cls=RayCommand)
@click.option("--domain", required=True, metavar="NAME|FILE", help="How the people are seen: name or YAML file.")
@click.option(
    "--split", required=True, help="Group of people to render: recogniser, generator, validation, test or judges."
)
@click.option("--count", required=True, type=click.IntRange(min=1), help="Pictures, all conditions together.")
@options.out
@options.size
@click.option("--views", default=4, show_default=True, type=click.IntRange(min=1), help="Views of a person.")
@options.conditions("warm, cold or warm,cold: a row each.", default="warm")
@click.option(
    "--layout",
    default="record",
    show_default=True,
    type=click.Choice(["record", "facesynthetics", "tfake", "sejong", "charlotte"]),
    help="Shards with all ground truth, or files as a data set of this name has them.",
)
@options.profile
@options.overrides
def command(**values: Any) -> None:
    """Render pictures of the synthetic world into shards, with ground truth.

    Repeating the command resumes; asking for more keeps what is there. --set takes gap, first and partition,
    and values of the profile as profile.KEY.
    """
    from pipelines import world

    storage = world.run(**values)
    click.echo(f"{values['count']} pictures of {values['domain']} are in {storage.uri}")
