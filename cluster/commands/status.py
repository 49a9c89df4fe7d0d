"""`thermapair status`: how far a run is."""

import click


@click.command("status")
@click.argument("out", metavar="OUT")
@click.option(
    "--price",
    type=click.FloatRange(min=0),
    help="Of an hour of what runs it: adds the cost so far; by default the profile's.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(out: str, price: float | None, as_json: bool) -> None:
    """Say how far the run in OUT is: done, rate, time to go, rejects by reason, where the time goes, who writes it.

    OUT is a path, file:// or s3://; only the output is read, so it works while the run goes on and from any machine.
    """
    from pipelines.status import read_status

    found = read_status(out, price)
    click.echo(found.to_json() if as_json else str(found))
