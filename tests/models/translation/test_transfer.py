"""What a translator takes over of a visible model."""

from pathlib import Path

import pytest
import torch

from models.errors import EnvironmentFault
from models.translation.network import new_unet
from models.translation.transfer import begin_with_visible
from tests.models.diffusion.tiny import wake
from tests.models.translation.tiny import BLOCK, SHAPE

PLAIN = SHAPE.model_copy(update={"block": BLOCK.model_copy(update={"mixing": "attention"})})


def test_a_translator_begins_as_the_visible_model(tmp_path: Path) -> None:
    """Windows as large as the picture are its self-attention, and neither scans nor thermal latents add anything yet."""
    torch.manual_seed(0)
    visible, own = new_unet(PLAIN, 4, 5), new_unet(SHAPE, 4, 3)
    wake(visible)
    visible.save_pretrained(tmp_path / "unet")
    assert begin_with_visible(own, tmp_path) > 50
    latents, context, time = torch.randn(2, 4, 4, 4), torch.randn(2, 3, SHAPE.hidden), torch.tensor([10, 900])
    with torch.inference_mode():
        theirs = visible(torch.cat([latents, torch.zeros(2, 5, 4, 4)], 1), time, context).sample
        ours = own(torch.cat([latents, torch.randn(2, 3, 4, 4)], 1), time, context).sample
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_model_of_no_layer_in_common_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="no U-Net of a visible model"):
        begin_with_visible(new_unet(SHAPE, 4, 3), tmp_path)
