"""A recogniser of torch, given as a safetensors file and the class that it was saved from: trained on, and written as ONNX."""

import importlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.errors import EnvironmentFault, UserError
from models.faces.align import CROP
from models.faces.inputs import RECOGNISER_SCALE, scales_itself
from models.faces.onnx_file import export_recogniser
from models.faces.recogniser import EMBEDDING
from models.weights.networks import load_strictly

AGREEMENT = 1e-4
"""How far the ONNX file's unit embeddings may be from torch's."""
TAKES = f"aligned RGB crops [B, 3, {CROP}, {CROP}], (x - 127.5) / 127.5, and gives embeddings [B, {EMBEDDING}]"


class TorchRecogniser(nn.Module):
    """Aligned crops float32 [B, 3, 112, 112] in [0, 255] -> embeddings float32 [B, 512], not of length one.

    The network computes as it does in use, also while it is trained: the statistics of batch norms stay, for those of two
    cameras differ, and nothing is dropped out.
    """

    def __init__(self, path: Path, name: str, options: Mapping[str, Any]) -> None:
        """Read the weights at `path` into what `name` (package.module:Class, or a function) makes of `options`.

        Raises UserError for what cannot be imported or called, is no network, has other weights than the file, gives no
        [B, 512] with a gradient, or cannot be written as ONNX.
        """
        super().__init__()
        self.path, self.name = path, name
        self.network = _make(name, options)
        _load(self.network, path, name)
        # In single precision and as in use, then tried before a run begins.
        self.network.float()
        self.train(False)
        self._check_output()
        self._check_export()

    def train(self, mode: bool = True) -> "TorchRecogniser":
        """Stay as in use, whatever `mode` says."""
        return super().train(False)

    def forward(self, crops: Tensor) -> Tensor:
        embeddings: Tensor = self.network((crops - 127.5) / RECOGNISER_SCALE)
        return embeddings

    def save(self, path: Path) -> None:
        """Write the network with its weights as they are now as an ONNX file of insightface's kind, in single precision."""
        export_recogniser(self.network, path, half=False)

    def original_file(self, folder: Path) -> Path:
        """Write the network as ONNX below `folder` and return that file: a gallery's pack holds no torch."""
        path = folder / "original" / f"{self.path.stem}.onnx"
        self.save(path)
        return path

    @torch.enable_grad()
    def _check_output(self) -> None:
        """Raise a UserError unless two crops become two embeddings that a gradient flows back from."""
        try:
            found = self(_crops(2))
        except Exception as error:  # whatever a foreign forward raises
            raise UserError(
                f"{self.name} does not take crops ({_first_line(error)}): name one that takes {TAKES}"
            ) from None
        if not isinstance(found, Tensor) or tuple(found.shape) != (2, EMBEDDING):
            what = list(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise UserError(
                f"{self.name} makes {what} of 2 crops: name one that takes {TAKES} alone; a class of yours around it may pick "
                "them out of what it gives"
            )
        if not found.requires_grad:
            raise UserError(
                f"{self.name} cannot be trained: no gradient flows from its embeddings to a weight (all are frozen, or its "
                "forward runs under no_grad)"
            )

    @torch.no_grad()
    def _check_export(self) -> None:
        """Raise a UserError unless the network becomes an ONNX file that gives what torch gives, also of other batches."""
        # Written and run as a user's session would, in another batch than it was traced with.
        crops = _crops(3)
        with tempfile.TemporaryDirectory(prefix="recogniser-") as folder:
            path = Path(folder) / "trial.onnx"
            try:
                self.save(path)
                session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
                blob = ((crops - 127.5) / RECOGNISER_SCALE).numpy()
                given = session.run(None, {session.get_inputs()[0].name: blob})[0]
            except Exception as error:  # the exporter's and the runtime's share no base class
                raise UserError(f"{self.name} cannot be written as an ONNX file: {_first_line(error)}") from None
            # Insightface tells by the graph's first operations whether to feed it raw pixels.
            if scales_itself(path):
                raise UserError(
                    f"{self.name} shifts and scales its input itself, which an ONNX file of insightface's kind must say by raw "
                    f"pixels: name one that takes {TAKES}"
                )
        # A trace keeps one way of a forward that decides by its input, which shows in another input's embeddings.
        off = float(np.abs(_unit(given) - _unit(self(crops).numpy())).max())
        if not off <= AGREEMENT:
            raise UserError(
                f"{self.name} as an ONNX file gives other embeddings than in torch (unit vectors differ by {off:.2g}, allowed is "
                f"{AGREEMENT:g}): its forward decides by what it is given, and a trace keeps one way"
            )


def _make(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Return the network that `name` (package.module:Class) makes of `options`. Raises UserError with the way out."""
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise UserError(f"recogniser_class={name}: write package.module:Class")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        network = found(**options)
    except ImportError as error:
        raise UserError(
            f"recogniser_class={name} cannot be imported ({error}): install it, or put its folder on PYTHONPATH, wherever "
            "training runs"
        ) from None
    except AttributeError as error:
        raise UserError(f"recogniser_class={name}: {_first_line(error)}") from None
    except TypeError as error:
        raise UserError(
            f"recogniser_class={name} cannot be made ({_first_line(error)}): --set recogniser_options.NAME=VALUE gives what it "
            "is called with"
        ) from None
    if not isinstance(network, nn.Module):
        raise UserError(f"recogniser_class={name} makes a {type(network).__name__}, and no torch.nn.Module")
    return network


def _load(network: nn.Module, path: Path, name: str) -> None:
    """Fill `network` from a safetensors file, every name and shape alike. Raises UserError that lists what differs."""
    try:
        load_strictly(network, load_file(path), path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is no readable safetensors file: {error}") from None
    except EnvironmentFault as error:
        raise UserError(f"{error} {name} has other weights: name the class that the file was saved from") from None


def _crops(count: int) -> Tensor:
    """Return crops float32 [count, 3, 112, 112] of noise, the same every time."""
    return 255 * torch.rand(count, 3, CROP, CROP, generator=torch.Generator().manual_seed(0))


def _unit(embeddings: np.ndarray) -> np.ndarray:
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def _first_line(error: Exception) -> str:
    """Return what an error says, shortly."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
