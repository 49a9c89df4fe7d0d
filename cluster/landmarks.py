"""`thermapair landmarks`: landmarks on folders of pictures, and annotated pictures to train on."""

import click

from cluster import options

MODE = click.option(
    "--mode",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "temperature", "pixel"]),
    help="What the values of a picture are: degrees Celsius, or grey levels and counts.",
)


@click.group("landmarks")
def command() -> None:
    """Find face landmarks in pictures, or make training data of annotated ones."""


@command.command("find")
@click.option("--images", required=True, metavar="URI", help="Folder of visible or thermal pictures.")
@options.out
@options.bundle
@click.option("--format", "formats", default="pts", show_default=True, help="Any of pts,coco,yolo.")
@click.option(
    "--standard",
    default="70",
    show_default=True,
    type=click.Choice(["5", "68", "70", "72", "478"]),
    help="Points to place; those of no landmarker are converted by an adapter.",
)
@MODE
@click.option(
    "--threshold", type=float, help="Mean variance below which a window is a face, instead of the trained one."
)
@click.option("--finest", default=0, show_default=True, help="Finest level: -2 also finds faces of half the window.")
@click.option("--most", type=click.IntRange(min=1), help="At most so many faces a picture.")
def find(
    images: str,
    out: str,
    bundle: str,
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
    )
    click.echo(", ".join(f"{value} {name}" for name, value in counts.items()) + f": {out}")


@command.command("gather")
@click.option(
    "--images", required=True, metavar="DIR", help="Folder of pictures with a .pts file of 70 points beside each."
)
@options.out
@click.option(
    "--size", default=128, show_default=True, type=click.IntRange(64, 1024), help="Side of the crops in pixels."
)
@MODE
def gather(images: str, out: str, size: int, mode: str) -> None:
    """Make shards of annotated pictures, to fine-tune a landmarker on them."""
    from pipelines import landmarks

    counts = landmarks.gather(images, out, size=size, mode=mode)  # type: ignore[arg-type]
    click.echo(", ".join(f"{value} {name}" for name, value in counts.items()) + f": {out}")
