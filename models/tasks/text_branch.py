"""Train a text branch: how captions reach a visible model whose own encoder knows the identity's prompt alone.

python -m cluster train text_branch --data URI --validation URI --out DIR

U-Net, text encoders and autoencoder are frozen. The prompt is the identity's, as the stage has it with `captions: false`;
the caption goes to the branch (`models.visible.text_branch`).
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.captions.grammar import write_caption
from models.card import Card
from models.columns import Columns
from models.config import parse_json
from models.diffusion.cross_attention import Branch
from models.diffusion.process import DiscreteProcess
from models.diffusion.schedulers import Scheduler, load_scheduler
from models.errors import UserError
from models.tasks import Place, visible
from models.visible import cache
from models.visible.model import UNET_FOLDERS, VisibleModel, load_visible
from models.visible.text import PROMPT
from models.visible.text_branch import FILE, TextBranch, new_text_branch, read_config, save_text_branch
from models.weights.networks import device_of, load_network

SUMMARY = """Lets captions reach {visible}, whose own prompt stays the identity's: `to_k` and `to_v` for every cross-attention
of its U-Net, on what {encoder} reads ({windows} x {length} tokens). Name its folder as `text_branch` among the weights
of the visible part; `text_scale` says how much it counts."""
LIMITS = (
    """It belongs to this U-Net and this text encoder alone. It understands words as its training rows have them."""
)

COLUMNS = ("identity_id", "view", "visible", "classes", "landmarks_70", "attributes")
HEAD_COLUMNS = ("domain", "gap", "world_identity")
"""What a U-Net that is shown the head needs besides: rows of the world, whose heads are known."""


class Config(visible.RowsConfig):
    steps: int = Field(1500, gt=0)
    batch: int = Field(32, gt=0)
    lr: float = Field(2e-3, gt=0)
    warmup: int = Field(50, ge=0)
    ema: float = Field(0.99, ge=0, lt=1)
    model: Place = Field("models/starter/visible", description="folder of the visible model, which stays as it is")
    vae: Place = Field("", description="folder of the autoencoder; by default the visible model's")
    encoder: Place = Field(
        "", description="folder with encoder/ and tokenizer/ of a CLIP text model; by default the visible model's reads"
    )
    windows: int = Field(1, gt=0, description="how many times the encoder's length of a caption is read")


class Trained(nn.Module):
    """The branch, which learns, beside what does not: that is no submodule, so that nobody saves, averages or moves it."""

    def __init__(self, words: TextBranch, frozen: VisibleModel, scheduler: Scheduler) -> None:
        super().__init__()
        self.branch: Branch = words.branch
        self.scheduler = scheduler
        self._frozen = (words, frozen, DiscreteProcess.of(scheduler))

    def frozen(self) -> tuple[TextBranch, VisibleModel, DiscreteProcess]:
        """Return branch, visible model and process, on the device of what learns."""
        words, frozen, process = self._frozen
        device = device_of(self.branch)
        if device_of(frozen) != device:
            frozen.to(device)
            words.text.to(device)
        return words, frozen, process


def columns(config: Config) -> tuple[str, ...]:
    """Return the columns of the rows: a U-Net that is shown the head needs rows whose heads are known."""
    return COLUMNS + (HEAD_COLUMNS if _shows_head(config) else ())


def _shows_head(config: Config) -> bool:
    """Whether the U-Net takes the folded head beside the latents, by its configuration alone."""
    places = [cache.from_root(config.model) / name / "config.json" for name in UNET_FOLDERS]
    shape: dict[str, int] = next((parse_json(place.read_text()) for place in places if place.is_file()), {})
    return bool(shape.get("in_channels", 0) > shape.get("out_channels", 0))


def weights(config: Config) -> list[Path]:
    """Return the folders that the branch is trained beside."""
    return [cache.from_root(path) for path in (config.model, config.vae, config.encoder, config.faces) if path]


def build(config: Config) -> nn.Module:
    """Return a fresh branch, which adds zero, on the frozen visible model."""
    part = load_visible({"model": cache.from_root(config.model)})
    if not torch.cuda.is_available():  # the backward pass of fused attention costs more on CPUs
        part.unet.set_attn_processor(AttnProcessor())
    encoder = cache.from_root(config.encoder) if config.encoder else None
    words = new_text_branch(part.unet, (part.text.text, part.tokenizer), encoder, config.windows)
    frozen = VisibleModel(part.unet, part.text, part.tokenizer).eval()
    return Trained(words, frozen, load_scheduler(part.scheduler))


def prepare(rows: Columns, config: Config) -> Columns:
    """Return what `loss` needs of decoded rows; see `visible.prepare_rows`."""
    reader = cache.head_reader(config.model) if _shows_head(config) else None
    return visible.prepare_rows(rows, config.model_copy(update={"vae": _vae(config)}), "identity_id", reader)


def _vae(config: Config) -> str:
    return config.vae or f"{config.model}/vae"


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the visible model's own loss, on the identity's prompt and the branch; logged as `visible.loss` does."""
    assert isinstance(model, Trained)
    drawn = visible.draw_rows(batch, config, model.frozen()[2])
    errors = _errors(model, drawn)
    return errors.mean(), visible.by_time(errors, drawn.timesteps)


def _errors(model: Trained, drawn: visible.Drawn) -> Tensor:
    """Return the weighted squared error of what the U-Net predicts per row, float32 [B]."""
    words, frozen, process = model.frozen()
    # Without identity there is no prompt either; the branch reads the empty text there.
    texts = ["" if text is None else PROMPT for text in drawn.captions]
    contexts = words.encode([text or "" for text in drawn.captions])
    with _plain_attention(device_of(model)):
        return visible.prediction_error(frozen, process, drawn, texts, contexts)


@contextlib.contextmanager
def _plain_attention(device: torch.device) -> Iterator[None]:
    """Attend without the fused kernel on CPUs, whose backward pass costs more."""
    with sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext():
        yield


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the training error on fixed draws, and how much worse it gets with another row's caption (`text_gain`) and
    without the branch (`branch_gain`)."""
    assert isinstance(model, Trained)
    errors: dict[str, list[Tensor]] = {"own": [], "other": [], "none": []}
    # The same draws with their own caption, with another row's, and without the branch.
    for decoded in rows:
        drawn = visible.draw_validation(prepare(decoded, config), decoded["row"])
        half = len(drawn.captions) // 2
        other = replace(drawn, captions=drawn.captions[half:] + drawn.captions[:half])
        errors["own"].append(_errors(model, drawn))
        errors["other"].append(_errors(model, other))
        model.branch.scale = 0.0
        errors["none"].append(_errors(model, drawn))
        model.branch.scale = 1.0
    # How much worse the other two are.
    mean = {name: torch.cat(found).mean().item() for name, found in errors.items()}
    gains = {"text_gain": mean["other"] / mean["own"] - 1, "branch_gain": mean["none"] / mean["own"] - 1}
    return {"score": -mean["own"], "error": mean["own"], **gains}


def pictures(model: nn.Module, rows: Columns, config: Config) -> np.ndarray:
    """Return a sheet uint8: eight pictures, and below each what the model makes of its embedding and, by the branch, caption."""
    assert isinstance(model, Trained)
    words, frozen, _ = model.frozen()
    few = {name: values[:8] for name, values in rows.items()}
    batch = prepare(few, config)
    captions = [write_caption(json.loads(str(text)), 0) for text in batch["attributes"]]
    read = words.encode(captions), words.encode([""] * len(captions))
    vae = cache.autoencoder(_vae(config))
    return visible.draw_sheet(frozen, model.scheduler, vae, few["visible"], batch, [PROMPT] * len(captions), read)


def begin(model: nn.Module, folder: Path) -> None:
    """Fill the branch from the folder of another. Raises UserError for one that reads otherwise."""
    assert isinstance(model, Trained)
    words, config = model.frozen()[0], read_config(folder)
    if config != words.config:
        raise UserError(f"{folder}: its branch reads {config}, this training {words.config}")
    branch = load_network(folder / FILE, lambda _: Branch(config.width, words.branch.inner))
    model.branch.load_state_dict(branch.state_dict())


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the branch with its encoder, where it has its own, and the card."""
    assert isinstance(model, Trained)
    words = model.frozen()[0]
    save_text_branch(words, folder, cache.from_root(config.encoder) if config.encoder else None)
    summary = SUMMARY.format(
        visible=config.model,
        encoder=config.encoder or "the visible model's text encoder",
        windows=config.windows,
        length=words.text.config.max_position_embeddings,
    )
    facts = {"title": "Text branch of a visible model", "summary": summary, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
