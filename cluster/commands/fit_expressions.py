"""`thermapair fit-expressions`: what SMIRK's numbers are of an expression in words."""

import click


@click.command("fit-expressions")
@click.option(
    "--data",
    required=True,
    metavar="FILE",
    help="Parquet with a column smirk (55 numbers) and the expression, as a column expression or in attributes.",
)
@click.option("--adapter", required=True, metavar="DIR", help="The expression adapter's weights, which get the map.")
def command(data: str, adapter: str) -> None:
    """Fit the map by which words move an expression adapter, and write it beside the adapter.

    Prints the error on pairs that were left out, and that of their mean, which knows no expression: a map of use is well
    below it.
    """
    from pipelines import fit_expressions

    found = fit_expressions.run(data, adapter)
    click.echo(f"{found.pairs} pairs of {len(found.names)} expressions, beside faces at rest")
    click.echo(f"error {found.error:.4g} on pairs that were left out; {found.error_of_mean:.4g} of their mean")
