"""`thermapair bench`: how fast this machine is."""

import click

from cluster.commands import options


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
