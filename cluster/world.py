"""`thermapair world`: render procedural people with their true geometry and temperature."""

import click

from cluster import options


@click.command("world")
@click.option(
    "--domain", required=True, metavar="NAME|FILE", help="Where and how the people are seen: a name or a YAML file."
)
@click.option("--split", required=True, help="Whose identities: recogniser, generator, validation, test or judges.")
@click.option("--count", required=True, type=click.IntRange(min=1), help="Pictures.")
@options.out
@click.option(
    "--size", default=128, show_default=True, type=click.IntRange(32, 1024), help="Side of a picture in pixels."
)
@options.profile
@options.overrides
def command(domain: str, split: str, count: int, out: str, size: int, profile: str, overrides: tuple[str, ...]) -> None:
    """Render pictures of the synthetic world into shards, with ground truth. Repeating the command resumes."""
    from pipelines import world

    world.run(domain, split, count, out, size=size, profile=profile, overrides=overrides)
