"""`thermapair measure`: what the models of a bundle do, measured, and written to their cards on request."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cluster.commands import options

if TYPE_CHECKING:
    from models.weights.bundle import Bundle
    from pipelines.evaluation.bundle import Told


@click.group("measure")
def command() -> None:
    """Measure the models of a bundle."""


@command.command("captions")
@options.bundle
@options.profile
@options.overrides
@click.option("--count", default=1000, show_default=True, type=click.IntRange(min=2), help="Attribute sets to caption.")
@options.card
def captions(bundle: str, profile: str, overrides: tuple[str, ...], count: int, card: bool) -> None:
    """How often captions state what was asked and differ from each other, and how fast they are written."""
    from models.config import sort_edits
    from models.stages import CAPTIONS
    from models.weights.bundle import Bundle, load_bundle
    from pipelines.captions.measure import measure
    from pipelines.config.profile import Profile, load_profile
    from pipelines.evaluation.bundle import write_card
    from pipelines.run.session import ray_session

    # The caption model on an engine of its own, as the profile says.
    edits = sort_edits(overrides, {"bundle": Bundle, "profile": Profile})
    chosen, where = load_bundle(bundle, edits["bundle"]), load_profile(profile, edits["profile"])
    with ray_session(where.ray):
        metrics = measure(chosen, where.captions, count)
    _show(metrics)
    if card:
        write_card(chosen.main(CAPTIONS), f"vLLM, {count} attribute sets", metrics)


@command.command("thermal")
@options.bundle
@options.overrides
@options.rows_to_fit("Warm and cold pictures to fit the baselines to.")
@options.rows_to_measure("Warm and cold pictures of people nobody was trained on.")
@click.option(
    "--told",
    type=click.Choice(["condition", "room", "air", "nothing"]),
    default="condition",
    show_default=True,
    help="What a thermalizer that takes rooms is told of each picture: its word; air, sun and wind; the air; or nothing.",
)
@click.option("--draws", default=8, show_default=True, type=click.IntRange(1, 64), help="Of a thermalizer that draws.")
@options.card
def thermal(
    bundle: str, overrides: tuple[str, ...], training: str, test: str, told: "Told", draws: int, card: bool
) -> None:
    """Errors of the thermalizer in kelvin, beside its baselines, with true and with parsed classes."""
    from pipelines.evaluation.bundle import measure_thermalizer

    _show(measure_thermalizer(_load_bundle(bundle, overrides), training, test, told=told, draws=draws, card=card))


@command.command("parser")
@options.bundle
@options.overrides
@options.rows_to_measure()
@options.card
def parser(bundle: str, overrides: tuple[str, ...], test: str, card: bool) -> None:
    """Intersection over union of the parser's classes."""
    from pipelines.evaluation.bundle import measure_parser

    _show(measure_parser(_load_bundle(bundle, overrides), test, card=card))


@command.command("faces")
@options.data("Shards of `thermapair world`, of people nobody trained on.")
@options.weights("models/starter/faces", "Folder of a face pack, or of a recogniser alone.")
@options.limit("Only the first N pictures.", least=2)
@click.option("--card", metavar="NAME", default="", help="Write the result to the card beside the weights, as NAME.")
def faces(data: str, weights: Path, limit: int | None, card: str) -> None:
    """How well faces are found and people told apart, in colour and in grey."""
    from pipelines.evaluation.faces import measure_faces

    _show(measure_faces(data, weights, source=card, limit=limit))


@command.command("landmarks")
@options.bundle
@options.overrides
@options.rows_to_measure()
@click.option(
    "--calibrate", metavar="URI", help="First fit margin, variances and threshold to these (validation) pictures."
)
@click.option("--standard", default="70", show_default=True, type=click.Choice(["70", "478"]), help="Which landmarker.")
@click.option("--frames", default=40, show_default=True, type=click.IntRange(min=0), help="Crowded frames to search.")
@options.limit("Only the first N pictures.", least=2)
@options.card
def landmarks(
    bundle: str,
    overrides: tuple[str, ...],
    test: str,
    calibrate: str | None,
    standard: str,
    frames: int,
    limit: int | None,
    card: bool,
) -> None:
    """Errors of the landmarks on visible and thermal pictures, how honest their variances are, and faces found in frames."""
    from pipelines.evaluation.landmarks import measure_landmarks

    chosen = _load_bundle(bundle, overrides)
    metrics = measure_landmarks(
        chosen, test, calibration=calibrate, standard=int(standard), frames=frames, limit=limit, card=card
    )
    _show(metrics)


@command.command("points")
@options.rows_to_measure()
@click.option("--predictions", required=True, metavar="URI", help="Folder of landmark files, one a row.")
@click.option(
    "--standard",
    default="70",
    show_default=True,
    type=click.Choice(["5", "68", "70", "72", "478"]),
    help="Points a file.",
)
@click.option(
    "--high-px",
    type=click.FloatRange(min=0, min_open=True),
    help="High: faces at least so many pixels tall; without it as `evaluate tfake` has it.",
)
@click.option(
    "--side-deg",
    type=click.FloatRange(min=0, min_open=True),
    help="Side: yaw of at least so many degrees; likewise.",
)
def points(test: str, predictions: str, standard: str, **limits: float | None) -> None:
    """Errors of any landmarker's points by T-FAKE's subsets, read from files named by the rows' pair_id or name."""
    from pipelines.evaluation.points import measure_points, render_figures

    click.echo(render_figures(measure_points(test, predictions, int(standard), **limits)))


@command.command("adapters")
@options.bundle
@options.overrides
@options.rows_to_fit("Pictures whose points the affine baseline is fitted to.")
@options.rows_to_measure()
@options.card
def adapters(bundle: str, overrides: tuple[str, ...], training: str, test: str, card: bool) -> None:
    """Errors of the conversions between landmark standards, on true and on predicted points, beside simpler ones."""
    from pipelines.evaluation.adapters import measure_adapters

    chosen = _load_bundle(bundle, overrides)
    for name, metrics in measure_adapters(chosen, training, test, card=card).items():
        click.echo(name + "".join(f"  {key} {value:.4f}" for key, value in metrics.items()))


@command.command("translation")
@options.bundle
@options.overrides
@options.rows_to_measure("Thermal and visible pictures of `thermapair world`, of people nobody trained on.")
@options.weights("models/starter-judge", "Folder of the judges.")
@click.option("--draws", default=1, show_default=True, type=click.IntRange(1, 64), help="Translations of each picture.")
@options.limit("Only the first N pictures.", least=2)
def translation(
    bundle: str, overrides: tuple[str, ...], test: str, weights: Path, draws: int, limit: int | None
) -> None:
    """Whether translations show who is shown: beside the raw thermal picture and the true visible one, by the judges."""
    from pipelines.evaluation.translation import measure_translation

    for name, metrics in measure_translation(
        _load_bundle(bundle, overrides), test, weights, draws=draws, limit=limit
    ).items():
        click.echo(name)
        _show(metrics)


@command.command("judges")
@options.rows_to_measure("Pictures of `thermapair world` that judges never saw.")
@options.weights("models/starter-judge", "Folder of the judges.")
@options.card
def judges(test: str, weights: Path, card: bool) -> None:
    """What the judges of attributes, pose and classes reach on true renders at 128 and 64 px, with 95 % intervals."""
    from pipelines.evaluation.judges import measure

    for side, found in measure(test, weights, card=card).items():
        for name, metrics in found.items():
            click.echo(f"{name}, {side} px")
            _show(metrics)


def _load_bundle(bundle: str, overrides: Sequence[str]) -> "Bundle":
    """Return a bundle with the edits of --set."""
    from models.config import sort_edits
    from models.weights.bundle import Bundle, load_bundle

    return load_bundle(bundle, sort_edits(overrides, {"bundle": Bundle})["bundle"])


def _show(metrics: dict[str, float]) -> None:
    for name, value in metrics.items():
        click.echo(f"{name:28} {value:.4g}")
