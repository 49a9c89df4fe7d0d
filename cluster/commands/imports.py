"""`thermapair import`: published checkpoints into parts of a bundle."""

from pathlib import Path
from typing import Any

import click


@click.group("import")
def command() -> None:
    """Make parts of a bundle of published checkpoints."""


def _checkpoint(flag: str, text: str) -> Any:
    return click.option(flag, metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path), help=text)


@command.command("tfake")
@_checkpoint("--warm", "Thermalizer of warm rooms, test2_weights_warm_e9.pth.")
@_checkpoint("--cold", "Thermalizer of cold rooms, test2_weights_cold_e9.pth.")
@_checkpoint("--landmarks", "Landmarker of 70 points, 70.pt.")
@_checkpoint("--dense", "Landmarker of 478 points, 478.pt.")
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Folder to write."
)
def tfake(warm: Path | None, cold: Path | None, landmarks: Path | None, dense: Path | None, out: Path) -> None:
    """Read the authors' checkpoints of T-FAKE strictly into DIR/thermal and DIR/landmarks, sealed.

    Any of the four will do, also one after the other. Nothing of a file is run: what is not tensors alone is refused. The
    licence is the authors'.
    """
    from models.errors import UserError
    from models.published import tfake

    thermal = {name: path for name, path in (("warm", warm), ("cold", cold)) if path}
    points = {number: path for number, path in ((70, landmarks), (478, dense)) if path}
    if not thermal and not points:
        raise UserError("name at least one checkpoint: --warm, --cold, --landmarks or --dense")
    for name, folder in tfake.import_checkpoints(thermal, points, out).items():  # type: ignore[arg-type]
        click.echo(f"--set {name}.weights={folder}")


@command.command("longclip")
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--tokenizer",
    required=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of CLIP's tokenizer, such as Stable Diffusion 1.5's.",
)
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Folder to write."
)
def longclip(checkpoint: Path, tokenizer: Path, out: Path) -> None:
    """Read the text side of LongCLIP's CHECKPOINT (longclip-L.pt) into DIR, sealed: the encoder of a text branch.

    Nothing of the file is run: what is not tensors alone is refused. The licence is the authors'.
    """
    from models.published.longclip import import_encoder

    click.echo(f"--set encoder={import_encoder(checkpoint, tokenizer, out)}")


@command.command("faceclip")
@_checkpoint("--encoder", "Both branches of FaceCLIP, face_clip_encoder.pt.")
@_checkpoint("--unet", "The U-Net of SDXL's shape that was trained with them, unet.pt.")
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Folder to write."
)
def faceclip(encoder: Path | None, unet: Path | None, out: Path) -> None:
    """Read the authors' checkpoints of FaceCLIP-SDXL strictly into DIR/encoder and DIR/unet, sealed.

    Weights keep their type (bfloat16). Nothing of a file is run: what is not tensors alone is refused. The licence is the
    authors', CC BY-NC 4.0. The autoencoder is SDXL's own.
    """
    from models.errors import UserError
    from models.published import faceclip

    if not encoder and not unet:
        raise UserError("name at least one checkpoint: --encoder or --unet")
    if encoder:
        equal = faceclip.import_encoder(encoder, out / "encoder")
        click.echo(f"{out / 'encoder'}: both branches hold " + ("one face ViT" if equal else "a face ViT of their own"))
    if unet:
        faceclip.import_unet(unet, out / "unet")
        click.echo(f"{out / 'unet'}")
