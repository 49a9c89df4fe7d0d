"""`thermapair thermalize`: visible pictures in, the same faces in thermal out."""

import click

from cluster import options


@click.command("thermalize")
@click.option(
    "--images", required=True, metavar="URI", help="Folder of pictures, or of Parquet files with a picture column."
)
@click.option(
    "--masks", default="", metavar="URI", help="Folder of class pictures NAME_seg.png; else the parser finds them."
)
@click.option("--condition", default="warm,cold", show_default=True, metavar="NAMES", help="Conditions of the bundle.")
@click.option(
    "--size", type=click.IntRange(32, 2048), help="Side in pixels, a multiple of 32.  [default: the bundle's]"
)
@click.option(
    "--layout",
    type=click.Choice(["record", "tfake"]),
    default="record",
    show_default=True,
    help="A data set of pairs in Parquet, or T-FAKE's CONDITION/NAME_thermal.png.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N pictures.")
@options.out
@options.bundle
@options.profile
@options.overrides
def command(
    images: str,
    masks: str,
    condition: str,
    size: int | None,
    layout: str,
    limit: int | None,
    out: str,
    bundle: str,
    profile: str,
    overrides: tuple[str, ...],
) -> None:
    """Predict what a thermal camera would see of pictures of faces.

    The same command resumes a run that was stopped. A picture that cannot be taken is rejected with its reason.
    """
    from pipelines import thermalize

    conditions = [name.strip() for name in condition.split(",")]
    summary = thermalize.run(
        images,
        out,
        masks=masks,
        conditions=conditions,
        size=size,
        layout=layout,
        bundle=bundle,
        profile=profile,
        limit=limit,
        overrides=overrides,
    )
    click.echo(str(summary))
