"""`thermapair landmarks`: landmarks on folders of pictures."""

from typing import Any

import click

from cluster.commands import options

FORMATS = ("pts", "coco", "yolo")


@click.group("landmarks")
def command() -> None:
    """Find face landmarks in pictures."""


@command.command("find")
@options.images("Folder of visible or thermal pictures.")
@options.out
@options.bundle
@options.overrides
@click.option(
    "--format",
    "formats",
    default="pts",
    show_default=True,
    metavar="NAMES",
    callback=options.split_names,
    help="Any of pts,coco,yolo.",
)
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
@options.unit("", "Without it they give contrast alone.")
@click.option(
    "--threshold", type=float, help="Mean variance below which a window is a face, instead of the trained one."
)
@click.option(
    "--min-face",
    type=click.FloatRange(min=0, min_open=True),
    help="Smallest face to look for: pixels, or up to 1 a share of the picture's shorter side.  [default: 0.1]",
)
@click.option(
    "--finest", type=int, help="Finest level of the pyramid instead: 0 is full size, -2 finds faces of half the window."
)
@click.option("--most", "--top-k", "most", type=click.IntRange(min=1), help="At most so many faces a picture.")
@click.option(
    "--search",
    default="own",
    show_default=True,
    type=click.Choice(["own", "published"]),
    help="published: that of the authors' package, its best window or, with --multi, all that do not overlap.",
)
@click.option("--multi", is_flag=True, help="Of --search published: several faces a picture.")
@click.option(
    "--uncertainty-factor", type=float, help="Of --multi: faces nearly as sure as the surest, by this factor."
)
@click.option("--upsample-factor", type=float, help="Of --search published: enlarge pictures first.")
def find(
    formats: list[str],
    standard: str,
    unit: str,
    search: str,
    multi: bool,
    uncertainty_factor: float | None,
    upsample_factor: float | None,
    **values: Any,
) -> None:
    """Write the landmarks of every face: 300-W .pts, COCO keypoints, YOLO-face lines."""
    from models.errors import UserError
    from models.landmarks.detect import Search
    from models.landmarks.published import PublishedSearch
    from models.temperature import parse_unit
    from pipelines import landmarks

    # What is asked for, checked before anything heavy is done.
    if unknown := set(formats) - set(FORMATS):
        raise UserError(f"--format {sorted(unknown)[0]}: known are {', '.join(FORMATS)}")
    values["unit"] = parse_unit(unit) if unit else None
    # Which search: each has options of its own, and those of the other are refused.
    if search == "published" and values["min_face"] is not None:
        raise UserError("--min-face is of our own search; with --search published say --finest or --upsample-factor")
    if search == "published":
        values["published"] = PublishedSearch(
            Search(finest=values["finest"] or 0),
            multi=multi,
            uncertainty_factor=uncertainty_factor,
            top_k=values["most"],
            upsample_factor=upsample_factor or 1.0,
        )
    elif multi or uncertainty_factor or upsample_factor:
        raise UserError("--multi, --uncertainty-factor and --upsample-factor go with --search published")
    counts = landmarks.find(formats=formats, standard=int(standard), **values)  # type: ignore[arg-type]
    click.echo(", ".join(f"{value} {name}" for name, value in counts.items()) + f": {values['out']}")
