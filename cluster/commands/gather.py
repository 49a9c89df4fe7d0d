"""`thermapair gather`: a data set on disk into shards that `train`, `measure` and `evaluate` read."""

from typing import Any

import click

from cluster.commands import options


@click.command("gather")
@click.option(
    "--layout",
    required=True,
    type=click.Choice(["facesynthetics", "tfake", "sejong", "charlotte", "plain"]),
    help="How the data set lies on disk; plain for any other, with --set columns.",
)
@click.option("--images", required=True, metavar="URI", help="Folder of the data set.")
@options.out
@click.option(
    "--size", default=128, show_default=True, type=click.IntRange(32, 1024), help="Side of the rows in pixels."
)
@click.option("--crop", default="whole", show_default=True, type=click.Choice(["whole", "face"]),
              help="Whole pictures padded to squares, or squares around the landmarks.")  # fmt: skip
@click.option("--condition", default="", metavar="NAME", help="Condition of the rows where the data set says none.")
@click.option(
    "--bundle", default="", metavar="NAME|FILE", help="Find the classes of pictures without a mask by its parser."
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many rows.")
@click.option("--local", is_flag=True, help="In this process, without Ray.")
@options.profile
@options.overrides
def command(
    layout: str,
    images: str,
    out: str,
    size: int,
    crop: str,
    condition: str,
    bundle: str,
    limit: int | None,
    local: bool,
    profile: str,
    overrides: tuple[str, ...],
) -> None:
    """Read pictures, temperature, masks and landmarks of a data set into shards.

    What is wrong with a file is said, and the file left out. The same command resumes. --set takes thermal (T-FAKE's
    folder), for plain columns.visible, columns.thermal, columns.mask, columns.landmarks, unit and standard, and values of
    the profile as profile.KEY.
    """
    from models.config import apply_edit
    from pipelines import gather

    job: dict[str, Any] = {"layout": layout, "images": images, "size": size, "crop": crop, "condition": condition}
    job["limit"] = limit
    for edit in overrides:
        if not edit.startswith("profile."):
            apply_edit(job, edit)
    where = [edit.removeprefix("profile.") for edit in overrides if edit.startswith("profile.")]
    click.echo(str(gather.run(job, out, bundle=bundle, profile=profile, overrides=where, local=local)))
