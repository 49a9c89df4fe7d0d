"""A decoder that is trained against a critic: who learns from what, and what it is listened to for."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from models.tasks import vae
from models.unet import UNetConfig, build_unet
from models.visible.critic import Critic, adversarial_losses, feature_loss
from models.weights.store import ROOT


def pictures(count: int, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_neither_side_learns_from_the_others_loss() -> None:
    torch.manual_seed(0)
    critic = Critic(8)
    made = pictures(2).requires_grad_()
    maker, judged = adversarial_losses(critic, made, pictures(2).flip(0))
    maker.backward(retain_graph=True)
    assert made.grad is not None
    assert made.grad.abs().sum() > 0
    assert all(p.grad is None for p in critic.parameters())
    own = made.grad.clone()
    judged.backward()
    assert torch.equal(made.grad, own)
    assert all(p.grad is not None for p in critic.parameters())


def test_the_losses_are_hinges_of_the_scores() -> None:
    torch.manual_seed(0)
    critic = Critic(8).eval()  # spectral norms stand still
    made, true = 3 * pictures(2), 5 * pictures(2).flip(0)
    maker, judged = adversarial_losses(critic, made, true)
    scores, aims = critic(made), critic(true)
    assert scores.shape == (2, 1, 3, 3)
    assert maker.item() == pytest.approx(-scores.mean().item(), rel=1e-5)
    assert judged.item() == pytest.approx(
        0.5 * (torch.clamp(1 - aims, min=0).mean() + torch.clamp(1 + scores, min=0).mean()).item(), rel=1e-5
    )


def test_a_critic_tells_smeared_pictures_from_sharp_ones() -> None:
    torch.manual_seed(0)
    critic = Critic(8)
    sharp = pictures(4, 16)
    smeared = F.interpolate(F.avg_pool2d(sharp, 4), scale_factor=4.0, mode="bilinear")
    optimizer = torch.optim.Adam(critic.parameters(), 5e-3, (0.5, 0.99))
    for _ in range(40):
        _, judged = adversarial_losses(critic, smeared, sharp)
        optimizer.zero_grad()
        judged.backward()
        optimizer.step()
    assert critic(sharp).mean() - critic(smeared).mean() > 0.5
    # And what it would have the maker do takes the picture away from the smear.
    made = smeared.clone().requires_grad_()
    adversarial_losses(critic, made, sharp)[0].backward()
    assert made.grad is not None
    assert critic(smeared - 0.05 * made.grad.sign()).mean() > critic(smeared).mean()


def test_features_are_compared_by_direction_at_three_levels() -> None:
    torch.manual_seed(0)
    parser = build_unet({"classes": 3, "width": 8, "blocks": (1, 1, 1, 1), "activation": "none"}).eval()
    assert isinstance(parser.config, UNetConfig)
    made, true = pictures(2), pictures(2).flip(0)
    assert feature_loss(parser, made, made).item() == pytest.approx(0, abs=1e-6)
    expected = 0.0
    with torch.no_grad():
        for one, aim in list(zip(parser.encoder(made), parser.encoder(true), strict=True))[:3]:
            a, b = one.double().numpy(), aim.double().numpy()
            a, b = (x / np.maximum(np.sqrt((x**2).sum(axis=1, keepdims=True)), 1e-12) for x in (a, b))
            expected += float(((a - b) ** 2).sum(axis=1).mean())
    assert feature_loss(parser, made, true).item() == pytest.approx(expected, rel=1e-4)


def test_the_task_adds_what_critic_and_features_say_and_goes_on_from_a_part() -> None:
    values = {"size": 32, "crop": 32, "bf16": False, "adversarial": 0.5, "adversarial_from": 3, "perceptual": 1.0}
    config = vae.Config(**values, blocks=(4, 4, 3, 1))
    model = vae.build(config)
    vae.begin(model, ROOT / "models/starter/visible/vae")
    shown = ((pictures(4).permute(0, 2, 3, 1) + 1) * 127).to(torch.uint8).numpy()
    rows = {"visible": shown, "classes": np.ones((4, 32, 32), np.uint8), "draw": np.arange(4)}
    silent, metrics = vae.loss(model, rows, config, 2)
    heard, _ = vae.loss(model, rows, config, 3)
    assert {"features", "critic"} <= set(metrics)
    assert silent.item() != heard.item()
    parts = metrics["l1"] + config.detail * metrics["detail"] + metrics["features"] + metrics["critic"]
    assert silent.item() == pytest.approx(parts, rel=1e-4)
    with pytest.raises(ValidationError, match="multiple of 32"):
        vae.Config(perceptual=1, crop=40)
