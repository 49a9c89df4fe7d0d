"""`thermapair inspect`: one row of a data set and whether its provenance makes it again, or the stages of a job."""

from collections.abc import Sequence

import click

from cluster.commands import options


@click.command("inspect")
@click.argument("pair_id", required=False)
@click.option("--out", metavar="URI", help="The data set: a path, file:// or s3://.")
@click.option("--picture", metavar="FILE", help="Also write a PNG of the row as stored and as made again.")
@click.option(
    "--chain", is_flag=True, help="Show the stages in place of a row: what each reads, from whom, and writes."
)
@click.option(
    "--bundle", metavar="NAME|FILE", help="With --chain: of these models, not of an output.  [default: starter]"
)
@click.option("--job", metavar="NAME|FILE", help="With --chain: of this generate job.  [default: demo]")
@click.option("--profile", metavar="NAME|FILE", help="With --chain: check that this profile fits.  [default: laptop]")
@options.overrides
def command(
    pair_id: str | None,
    out: str | None,
    picture: str | None,
    chain: bool,
    bundle: str | None,
    job: str | None,
    profile: str | None,
    overrides: tuple[str, ...],
) -> int:
    """Show one row and make it again from its provenance. Exits with 1 when it comes out differently.

    --chain shows the stages of the output OUT, from its recipe; with any of --bundle, --job, --profile and --set those that
    `thermapair generate` with the same words would run, and needs no output.
    """
    files = any((bundle, job, profile, overrides))
    # The stages of an output, or of what files and edits come to.
    if chain:
        if pair_id or picture:
            raise click.UsageError("--chain shows stages and no row: leave out PAIR_ID and --picture.")
        if not files and not out:
            raise click.UsageError("--chain needs --out OUT, or what to resolve: --bundle, --job, --set.")
        click.echo(_resolve_chain(bundle, job, profile, overrides) if files else _read_chain(str(out)))
        return 0
    # A row of an output, which has all that it takes in its recipe.
    if files:
        raise click.UsageError(
            "--bundle, --job, --profile and --set belong to --chain; a row is made again by its recipe."
        )
    if not pair_id:
        raise click.UsageError("name a PAIR_ID (column pair_id of data/*.parquet), or ask for --chain.")
    if not out:
        raise click.UsageError("a row needs the data set that it is in: --out OUT.")
    from pipelines import inspect

    remade = inspect.run(out, pair_id, picture=picture)
    return 0 if remade is None or remade.same else 1


def _resolve_chain(bundle: str | None, job: str | None, profile: str | None, overrides: Sequence[str]) -> str:
    from pipelines.config.request import load_request

    return str(load_request(bundle or "starter", profile or "laptop", job or "demo", overrides).chain)


def _read_chain(out: str) -> str:
    from pipelines.plan.chains import read_chain
    from pipelines.storage.uri import Storage

    return str(read_chain(Storage(out)))
