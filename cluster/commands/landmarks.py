"""`thermapair landmarks`: landmarks on folders of pictures."""

import click

from cluster.commands import options


@click.group("landmarks")
def command() -> None:
    """Find face landmarks in pictures."""


@command.command("find")
@click.option("--images", required=True, metavar="URI", help="Folder of visible or thermal pictures.")
@options.out
@options.bundle
@options.overrides
@click.option("--format", "formats", default="pts", show_default=True, help="Any of pts,coco,yolo.")
@click.option(
    "--standard",
    default="70",
    show_default=True,
    type=click.Choice(["5", "68", "70", "72", "478"]),
    help="Points to place; those of no landmarker are converted by an adapter.",
)
@click.option(
    "--mode",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "temperature", "pixel"]),
    help="What the values of a picture are: degrees Celsius, or grey levels and counts.",
)
@click.option(
    "--threshold", type=float, help="Mean variance below which a window is a face, instead of the trained one."
)
@click.option("--finest", default=0, show_default=True, help="Finest level: -2 also finds faces of half the window.")
@click.option("--most", type=click.IntRange(min=1), help="At most so many faces a picture.")
def find(
    images: str,
    out: str,
    bundle: str,
    overrides: tuple[str, ...],
    formats: str,
    standard: str,
    mode: str,
    threshold: float | None,
    finest: int,
    most: int | None,
) -> None:
    """Write the landmarks of every face: 300-W .pts, COCO keypoints, YOLO-face lines."""
    from models.errors import UserError
    from pipelines import landmarks

    wanted = formats.split(",")
    if unknown := set(wanted) - {"pts", "coco", "yolo"}:
        raise UserError(f"--format {sorted(unknown)[0]}: known are pts, coco, yolo")
    counts = landmarks.find(
        bundle,
        images,
        out,
        formats=wanted,
        standard=int(standard),  # type: ignore[arg-type]
        mode=mode,  # type: ignore[arg-type]
        threshold=threshold,
        finest=finest,
        most=most,
        overrides=overrides,
    )
    click.echo(", ".join(f"{value} {name}" for name, value in counts.items()) + f": {out}")
