"""`thermapair gather`: a data set on disk into shards that `train`, `measure` and `evaluate` read."""

from typing import Any

import click

from cluster.commands import options
from cluster.submission.working_dir import RayCommand


@click.command("gather", cls=RayCommand)
@click.option(
    "--layout",
    required=True,
    type=click.Choice(options.LAYOUTS),
    help="How the data set lies on disk; plain for any other, with --set columns.",
)
@options.images("Folder of the data set.")
@options.out
@options.size
@click.option("--crop", default="whole", show_default=True, type=click.Choice(["whole", "face"]),
              help="Whole pictures padded to squares, or squares around the landmarks.")  # fmt: skip
@click.option("--condition", default="", metavar="NAME", help="Condition of the rows where the data set says none.")
@click.option(
    "--bundle",
    default="",
    metavar="NAME|FILE",
    help="Find the classes of pictures in colour without a mask by its parser.",
)
@click.option(
    "--registration", is_flag=True, help="At the end look for the face in both halves of some pairs: how far apart?"
)
@options.rows_per_person("A larger N goes on from there.")
@options.limit("Only the first N rows; a larger N goes on from there.")
@options.local
@options.profile
@options.overrides
def command(
    out: str,
    bundle: str,
    local: bool,
    registration: bool,
    profile: str,
    overrides: tuple[str, ...],
    **values: Any,
) -> None:
    """Read pictures, temperature, masks and landmarks of a data set into shards.

    What is wrong with a file is said, and the file left out. The same command resumes. --set takes thermal (T-FAKE's
    folder), for plain columns.visible, columns.thermal, columns.mask, columns.landmarks, unit (a name, or unit.scale,
    unit.offset, unit.crop_rows ...) and standard, values of the bundle and, as profile.KEY, of the profile.
    """
    from pipelines import gather

    how: dict[str, Any] = {"profile": profile, "overrides": overrides, "local": local, "registration": registration}
    click.echo(str(gather.run(values, out, bundle=bundle, **how)))
