"""A thermal latent diffusion with random weights that reacts to all that it is told."""

from pathlib import Path

import torch

from models.thermal.latent.autoencoder import AutoencoderConfig, new_autoencoder
from models.thermal.latent.captions import copy_captions
from models.thermal.latent.network import LatentConfig, ShapeConfig, new_latent_unet, read_config, save_latent
from models.visible.autoencoder import new_vae, save_autoencoder
from models.visible.text import IdentityText, id_token, new_text, save_text
from models.visible.tokenizer import corpus, new_tokenizer
from tests.models.diffusion.tiny import wake

SHAPE = ShapeConfig(widths=(16, 32), heads=(1, 2), attend=(False, True), groups=8, hidden=16)


def write_part(folder: Path, side: int) -> Path:
    """Write a part for pictures of `side` px below `folder`, and return where."""
    torch.manual_seed(0)
    save_autoencoder(new_vae(8, (1, 1, 1, 1)), folder / "visible")
    unet = wake(new_latent_unet(SHAPE, 16, 12, side // 8, LatentConfig()))
    save_latent(unet, new_autoencoder(AutoencoderConfig(width=8)), folder / "visible", LatentConfig(), folder / "part")
    return folder / "part"


def write_reader(folder: Path) -> Path:
    """Write what reads captions, as wide as `SHAPE` attends, below `folder`, and return where."""
    torch.manual_seed(0)
    tokenizer = new_tokenizer(corpus(20, seed=0), 600, 40)
    special = (int(tokenizer.bos_token_id or 0), int(tokenizer.eos_token_id or 0))
    save_text(
        IdentityText(new_text(len(tokenizer), SHAPE.hidden, 1, 2, 40, special), id_token(tokenizer)), folder / "encoder"
    )
    tokenizer.save_pretrained(str(folder / "tokenizer"))
    return folder


def read_captions(part: Path, reader: Path) -> None:
    """Make captions a condition of the part at `part`."""
    copy_captions(reader, part / "text")
    config = read_config(part).model_copy(update={"captions": True})
    (part / "thermal.json").write_text(config.model_dump_json())
