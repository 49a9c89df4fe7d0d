"""What learns in a distillation: a copy of its teacher's U-Net."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

from models.diffusion.process import DiscreteProcess
from models.diffusion.schedulers import load_scheduler
from models.weights.networks import device_of


class Teacher(Protocol):
    """A model ready to sample, as it was loaded."""

    @property
    def unet(self) -> UNet2DConditionModel: ...

    @property
    def scheduler(self) -> Path: ...

    def networks(self) -> Sequence[nn.Module]:
        """Return all that runs on the device of what learns."""


T = TypeVar("T", bound=Teacher)


class Student(nn.Module, Generic[T]):
    """The U-Net that learns, beside its teacher, which is no submodule: nobody saves, averages or moves it."""

    def __init__(self, teacher: T) -> None:
        super().__init__()
        self.unet = copy.deepcopy(teacher.unet).requires_grad_(True)
        if not torch.cuda.is_available():  # the backward pass of fused attention costs more on CPUs
            self.unet.set_attn_processor(AttnProcessor())
        self._frozen = (teacher, DiscreteProcess.of(load_scheduler(teacher.scheduler)))

    def frozen(self) -> tuple[T, DiscreteProcess]:
        """Return teacher and process, on the device of what learns."""
        teacher, process = self._frozen
        for network in teacher.networks():
            network.to(device_of(self.unet))
        return teacher, process
