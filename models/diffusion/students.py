"""Students of few steps: how they and their teachers predict rows of different time steps, and what lies beside their weights."""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import LCMScheduler, UNet2DConditionModel
from torch import Tensor

from models.diffusion.conditions import Conditions
from models.diffusion.consistency import Predict
from models.diffusion.names import STUDENT
from models.diffusion.schedulers import Scheduler
from models.diffusion.unet import predict


def plain(unet: UNet2DConditionModel, cond: Conditions) -> Predict:
    """Return what `unet` predicts under `cond`, without guidance."""
    return lambda noisy, timesteps: predict(unet, noisy, timesteps.to(noisy.device), cond).float()


def guided(unet: UNet2DConditionModel, cond: Conditions, uncond: Conditions, scale: float) -> Predict:
    """Return what `unet` predicts when it is guided away from `uncond`; at a scale of 1 or less `uncond` is not looked at."""
    if scale <= 1:
        return plain(unet, cond)
    both = cond.join(uncond)

    def predict_guided(noisy: Tensor, timesteps: Tensor) -> Tensor:
        twice = predict(unet, torch.cat([noisy, noisy]), timesteps.to(noisy.device).repeat(2), both).float()
        cond_pred, uncond_pred = twice.chunk(2)
        return uncond_pred + scale * (cond_pred - uncond_pred)

    return predict_guided


def save_student(schedule: Scheduler, steps: Sequence[int], folder: Path) -> None:
    """Write `scheduler/`, LCM on the teacher's `schedule`, and `student.json`: the numbers of steps that may be asked for."""
    known = inspect.signature(LCMScheduler.__init__).parameters
    config = {name: value for name, value in schedule.config.items() if name in known} | {"clip_sample": False}
    LCMScheduler(**config).save_pretrained(str(folder / "scheduler"))
    (folder / STUDENT).write_text(json.dumps({"steps": list(steps)}) + "\n")
