"""`thermapair measure`: what the models of a bundle do, measured, and written to their cards on request."""

from pathlib import Path

import click

from cluster.commands import options


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
    from models.card import update_metrics
    from models.stages import CAPTIONS
    from models.weights.bundle import load_bundle
    from models.weights.store import seal
    from pipelines.captions.write import measure
    from pipelines.config.profile import load_profile
    from pipelines.run.session import ray_session

    chosen, where = load_bundle(bundle), load_profile(profile)
    with ray_session(where.ray):
        found = measure(chosen, where.captions, count)
    _show(found)
    if card:
        folder = chosen.main(CAPTIONS)
        update_metrics(folder, f"vLLM, {count} attribute sets", found)
        seal(folder)


@command.command("thermal")
@options.bundle
@click.option("--training", required=True, metavar="URI", help="Warm and cold pictures to fit the baselines to.")
@click.option("--test", required=True, metavar="URI", help="Warm and cold pictures of people nobody was trained on.")
@click.option("--card", is_flag=True, help="Write the result to the card beside the weights.")
def thermal(bundle: str, training: str, test: str, card: bool) -> None:
    """Errors of the thermalizer in kelvin, beside its baselines, with true and with parsed classes."""
    from pipelines.evaluation import bundle as measure

    _show(measure.thermal(bundle, training, test, card=card))


@command.command("parser")
@options.bundle
@click.option("--test", required=True, metavar="URI", help="Pictures of people nobody was trained on.")
@click.option("--card", is_flag=True, help="Write the result to the card beside the weights.")
def parser(bundle: str, test: str, card: bool) -> None:
    """Intersection over union of the parser's classes."""
    from pipelines.evaluation import bundle as measure

    _show(measure.parser(bundle, test, card=card))


def _show(found: dict[str, float]) -> None:
    for name, value in found.items():
        click.echo(f"{name:28} {value:.4g}")


@command.command("faces")
@click.option("--data", required=True, metavar="URI", help="Shards of `thermapair world`, of people nobody trained on.")
@click.option(
    "--weights",
    default="models/starter/faces",
    show_default=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a face pack, or of a recogniser alone.",
)
@click.option("--limit", type=click.IntRange(min=2), help="Only the first so many pictures.")
@click.option("--card", metavar="NAME", default="", help="Write the result to the card beside the weights, as NAME.")
def faces(data: str, weights: Path, limit: int | None, card: str) -> None:
    """How well faces are found and people told apart, in colour and in grey."""
    from pipelines.evaluation import faces as measure_faces

    for name, value in measure_faces.run(data, weights, source=card, limit=limit).items():
        click.echo(f"{name:28} {value:.4g}")


@command.command("landmarks")
@options.bundle
@click.option("--test", required=True, metavar="URI", help="Pictures of people nobody was trained on.")
@click.option(
    "--calibrate", metavar="URI", help="First fit margin, variances and threshold to these (validation) pictures."
)
@click.option("--standard", default="70", show_default=True, type=click.Choice(["70", "478"]), help="Which landmarker.")
@click.option("--frames", default=40, show_default=True, type=click.IntRange(min=0), help="Crowded frames to search.")
@click.option("--limit", type=click.IntRange(min=2), help="Only the first so many pictures.")
@click.option("--card", is_flag=True, help="Write the result to the card beside the weights.")
def landmarks(
    bundle: str, test: str, calibrate: str | None, standard: str, frames: int, limit: int | None, card: bool
) -> None:
    """Errors of the landmarks on visible and thermal pictures, how honest their variances are, and faces found in frames."""
    from pipelines.evaluation import landmarks as measure_landmarks

    found = measure_landmarks.run(
        bundle, test, calibration=calibrate, standard=int(standard), frames=frames, limit=limit, card=card
    )
    _show(found)


@command.command("adapters")
@options.bundle
@click.option(
    "--training", required=True, metavar="URI", help="Pictures whose points the affine baseline is fitted to."
)
@click.option("--test", required=True, metavar="URI", help="Pictures of people nobody was trained on.")
@click.option("--card", is_flag=True, help="Write the results to the cards beside the weights.")
def adapters(bundle: str, training: str, test: str, card: bool) -> None:
    """Errors of the conversions between landmark standards, on true and on predicted points, beside simpler ones."""
    from pipelines.evaluation import adapters as measure_adapters

    for name, figures in measure_adapters.run(bundle, training, test, card=card).items():
        click.echo(name + "".join(f"  {key} {value:.4f}" for key, value in figures.items()))
