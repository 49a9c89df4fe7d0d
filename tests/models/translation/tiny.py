"""A translator with random weights that reacts to all that it is told."""

from pathlib import Path

import torch

from models.ssm.config import BlockConfig
from models.thermal.latent.autoencoder import AutoencoderConfig, new_autoencoder
from models.translation.attributes import AttributeClassifier, ClassifierConfig, save_classifier
from models.translation.network import Translator, TranslatorConfig, save_translator
from models.translation.settings import ATTRIBUTES, VAE
from models.visible.autoencoder import new_vae, save_autoencoder
from tests.models.diffusion.tiny import wake

BLOCK = BlockConfig(window=2, head=8, state=4)
SHAPE = TranslatorConfig(widths=(16, 32), heads=(1, 2), attend=(False, True), groups=8, hidden=16, block=BLOCK)


def write_part(folder: Path, shape: TranslatorConfig = SHAPE, **copied: Path) -> Path:
    """Write a translator and its thermal classifier below `folder`, and return where. copied: further folders of the part."""
    torch.manual_seed(0)
    save_autoencoder(new_vae(8, (1, 1, 1, 1)), folder / "visible")
    classifier = AttributeClassifier(ClassifierConfig(modality="thermal", side=32, widths=(8, 8), cells=1))
    classifier.prior("skin_tone").copy_(torch.tensor([0, 0, 0.25, 0, 0.75, 0]))
    save_classifier(classifier, folder / "attributes")
    model = Translator(shape, 12, 16)
    wake(model.unet)
    wake(model.guide)
    thermal = new_autoencoder(AutoencoderConfig(width=8))
    folders = {VAE: folder / "visible", ATTRIBUTES: folder / "attributes", **copied}
    save_translator(model, thermal, folders, folder / "part")
    return folder / "part"
