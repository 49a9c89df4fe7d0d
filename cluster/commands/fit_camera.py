"""`thermapair fit-camera`: what a user's thermal camera does, from its frames."""

from pathlib import Path

import click

from cluster.commands import options


@click.command("fit-camera")
@options.images("Folder of frames: 16-bit, float, .npy, .csv or radiometric JPEG, or 8-bit grey.")
@click.option(
    "--out", required=True, metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Domain file."
)
@click.option("--name", default="", metavar="NAME", help="Name of the domain.  [default: the file's]")
@options.unit("centikelvin")
def command(images: str, out: Path, name: str, unit: str) -> None:
    """Estimate noise, blur, range and AGC of a camera into a domain file.

    `thermapair world --domain FILE` then renders people as that camera sees them. Faces are not needed in the frames;
    sharp edges and smooth places are.
    """
    from models.temperature import parse_unit
    from pipelines import fit_camera

    click.echo(str(fit_camera.run(images, out, name=name, unit=parse_unit(unit))))
    click.echo(out)
