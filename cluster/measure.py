"""`thermapair measure`: what the models of a bundle do, measured, and written to their cards on request."""

import click

from cluster import options


@click.group("measure")
def command() -> None:
    """Measure the models of a bundle."""


@command.command("captions")
@options.bundle
@options.profile
@click.option("--count", default=1000, show_default=True, type=click.IntRange(min=2), help="Attribute sets to caption.")
@click.option("--card", is_flag=True, help="Write the result to the card beside the weights.")
def captions(bundle: str, profile: str, count: int, card: bool) -> None:
    """How often captions state what was asked and differ from each other, and how fast they are written."""
    from models.bundle import fetch, load_bundle, seal
    from models.card import update_metrics
    from pipelines.captions import measure
    from pipelines.profile import load_profile
    from pipelines.session import ray_session

    chosen, where = load_bundle(bundle), load_profile(profile)
    with ray_session(where.ray):
        found = measure(chosen, where.captions, count)
    for name, value in found.items():
        click.echo(f"{name:20} {value:.4g}")
    if card:
        folder = fetch(chosen.captions, chosen)
        update_metrics(folder, f"vLLM, {count} attribute sets", found)
        seal(folder)
