"""`thermapair world`: render procedural people with their true geometry and temperature."""

from typing import Any

import click

from cluster.commands import options


@click.command("world")
@click.option("--domain", required=True, metavar="NAME|FILE", help="How the people are seen: name or YAML file.")
@click.option(
    "--split", required=True, help="Group of people to render: recogniser, generator, validation, test or judges."
)
@click.option("--count", required=True, type=click.IntRange(min=1), help="Pictures, all conditions together.")
@options.out
@click.option("--size", default=128, show_default=True, type=click.IntRange(32, 1024), help="Side in pixels.")
@click.option("--views", default=4, show_default=True, type=click.IntRange(min=1), help="Views of a person.")
@click.option(
    "--condition", default="warm", show_default=True, metavar="NAMES", help="warm, cold or warm,cold: a row each."
)
@click.option(
    "--layout",
    default="record",
    show_default=True,
    type=click.Choice(["record", "facesynthetics", "tfake", "sejong", "charlotte"]),
    help="Shards with all ground truth, or files as a data set of this name has them.",
)
@options.profile
@options.overrides
def command(
    domain: str,
    split: str,
    count: int,
    out: str,
    size: int,
    views: int,
    condition: str,
    layout: str,
    profile: str,
    overrides: tuple[str, ...],
) -> None:
    """Render pictures of the synthetic world into shards, with ground truth.

    Repeating the command resumes; asking for more keeps what is there. --set takes gap, first and partition,
    and values of the profile as profile.KEY.
    """
    from models.config import apply_edit
    from pipelines import world

    values: dict[str, Any] = {"views": views, "conditions": condition.split(","), "layout": layout}
    for edit in overrides:
        if not edit.startswith("profile."):
            apply_edit(values, edit)
    where = [edit.removeprefix("profile.") for edit in overrides if edit.startswith("profile.")]
    storage = world.run(domain, split, count, out, size=size, profile=profile, overrides=where, **values)
    click.echo(f"{count} pictures of {domain} are in {storage.uri}")
