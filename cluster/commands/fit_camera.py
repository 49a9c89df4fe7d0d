"""`thermapair fit-camera`: what a user's thermal camera does, from its frames."""

from pathlib import Path

import click

from cluster.commands import options


@click.command("fit-camera")
@options.images("Folder of frames: 16-bit or float, or 8-bit grey.")
@click.option(
    "--out", required=True, metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Domain file."
)
@click.option("--name", default="", metavar="NAME", help="Name of the domain.  [default: the file's]")
@click.option(
    "--unit", default="centikelvin", show_default=True, metavar="NAME", help="Of frames that are not 8-bit grey."
)
def command(images: str, out: Path, name: str, unit: str) -> None:
    """Estimate noise, blur, range and AGC of a camera into a domain file.

    `thermapair world --domain FILE` then renders people as that camera sees them. Faces are not needed in the frames;
    sharp edges and smooth places are.
    """
    from models.errors import UserError
    from models.temperature import UNITS
    from pipelines import fit_camera

    if unit not in UNITS:
        raise UserError(f"--unit {unit}: known are {', '.join(UNITS)}")
    click.echo(str(fit_camera.run(images, out, name=name, unit=unit)))
    click.echo(out)
