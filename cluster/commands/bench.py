"""`thermapair bench`: how fast this machine is."""

from typing import TYPE_CHECKING

import click

from cluster.commands import options

if TYPE_CHECKING:
    from models.published.speed import Speed


@click.group("bench")
def command() -> None:
    """Measure this machine for `thermapair plan`."""


@command.command("stages")
@options.bundle
@options.profile
@options.job("What to measure: a name or a YAML file.", default="pairs")
@options.overrides
@click.option("--samples", default=32, show_default=True, type=click.IntRange(min=1), help="How many to make.")
@click.option("--out", default="rates.json", show_default=True, metavar="FILE", help="Where to write the rates.")
def stages(bundle: str, profile: str, job: str, overrides: tuple[str, ...], samples: int, out: str) -> None:
    """Make some samples in this process and write what each stage took, with the name of the hardware, to a file."""
    from pipelines.config.request import load_request
    from pipelines.estimate.bench import run

    rates = run(load_request(bundle, profile, job, overrides), samples, out)
    total = sum(rates.seconds.values())
    for stage, seconds in rates.seconds.items():
        click.echo(f"{stage:10} {1000 * seconds:10.2f} ms a sample  {seconds / total:4.0%}")
    click.echo(f"{rates.hardware}, by the {rates.clock}'s clock: {out}")


@command.command("networks")
@click.option(
    "--only", multiple=True, metavar="NAME", help="A network; may be repeated. Default: all but the large ones."
)
@click.option("--side", type=click.IntRange(min=32), help="Of pictures, in pixels.  [default: 512; 64 without a GPU]")
@click.option("--batch", type=click.IntRange(min=1), help="Largest tried.  [default: 64; 4 without a GPU]")
@click.option("--count", is_flag=True, help="Only count parameters, operations and memory; nothing is computed.")
@click.option("--out", metavar="FILE", help="Write the figures to a JSON file, too.")
def networks(only: tuple[str, ...], side: int | None, batch: int | None, count: bool, out: str | None) -> None:
    """Run networks of published shapes with random weights: rows a second, share of the device's peak, memory, best batch."""
    import json
    from dataclasses import asdict
    from pathlib import Path

    import torch

    from models.errors import UserError
    from models.published import shapes, speed
    from pipelines.run.provenance import hardware

    # Which networks, and pictures of what size: a processor could not hold or would not end the published ones.
    names = only or tuple(name for name in shapes.NETWORKS if count or name not in shapes.LARGE)
    if unknown := [name for name in names if name not in shapes.NETWORKS]:
        raise UserError(f"--only {unknown[0]}: there are {', '.join(shapes.NETWORKS)}.")
    gpu = torch.cuda.is_available()
    side = side or (512 if gpu or count else 64)
    if side % 32:
        raise UserError(f"--side {side}: it must be a multiple of 32.")
    # Counted alone, or run as well; each is told as soon as it is known, for the largest take minutes.
    if count:
        for name in names:
            (parameters, flop), (weights, row) = (f(shapes.NETWORKS[name], side) for f in (speed.count, speed.held))
            click.echo(
                f"{name:20} {parameters / 1e9:7.3f} G parameters {weights / 1e9:7.2f} GB {flop / 1e12:9.3f} TFLOP "
                f"and {row / 1e9:7.3f} GB a row of {side} px"
            )
        return
    click.echo(
        f"{hardware()}; pictures of {side} px" + ("" if gpu else "; no GPU here: these are figures of a processor")
    )
    found = []
    for one in speed.measure({name: shapes.NETWORKS[name] for name in names}, side, batch or (64 if gpu else 4)):
        found.append(asdict(one))
        click.echo(_tell(one))
    if out:
        Path(out).write_text(json.dumps({"hardware": hardware(), "side": side, "networks": found}, indent=1) + "\n")


def _tell(one: "Speed") -> str:
    """Return the lines of a network."""
    memory = "" if one.mb is None else f", {one.mb / 1024:.1f} GB, {one.actors} to a GPU"
    lines = [
        f"{one.network} ({one.parameters / 1e6:.1f} M, {one.tflop:.3g} TFLOP a row, {one.dtype}): "
        f"{one.rows_per_second:.4g} rows/s in batches of {one.rows}, {one.tflops:.3g} TFLOP/s, "
        f"{one.share:.0%} of a matrix product's{memory}"
    ]
    lines += [f"    {use}: {rate:.4g} pictures/s" for use, rate in one.pictures.items() if use]
    return "\n".join(lines)
