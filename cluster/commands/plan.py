"""`thermapair plan`: what a job will take before it runs."""

import click

from cluster.commands import options


@click.command("plan")
@options.bundle
@options.profile
@options.job("What to make: a name or a YAML file.", default="pairs")
@options.overrides
@options.limit("Of the first N samples of the plan alone.")
@click.option("--rates", metavar="FILE|URI", help="Measured by `bench stages`, or an output whose run tells them.")
@click.option(
    "--actors", type=click.IntRange(min=1), help="Of each pool there is room for.  [default: the profile's most]"
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(
    bundle: str,
    profile: str,
    job: str,
    overrides: tuple[str, ...],
    limit: int | None,
    rates: str | None,
    actors: int | None,
    as_json: bool,
) -> None:
    """Say what `generate` with these words will take: hours, GPU hours, cost, storage, memory, shards, requests, and which stage
    is the slowest. Nothing is started or written.
    """
    from pipelines.config.request import load_request
    from pipelines.estimate.rates import read_rates
    from pipelines.estimate.take import estimate

    request = load_request(bundle, profile, job, overrides, limit)
    found = estimate(request, read_rates(rates) if rates else None, actors)
    click.echo(found.to_json() if as_json else str(found))
