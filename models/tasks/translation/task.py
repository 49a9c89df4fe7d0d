"""Train the translator: thermal latents and attributes in, visible latents out.

python -m cluster train translator --data URI --validation URI --out DIR --set autoencoder=DIR

Each attribute is told or left out anew at every visit of a row, so one network serves callers who know some of them. A share
of the rows is seen as 8-bit cameras show them, stretched over the picture's own range.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from models.card import Card
from models.columns import Columns
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.process import DiscreteProcess, row_errors
from models.diffusion.sample import NamedNoise, sample
from models.diffusion.schedulers import new_scheduler
from models.diffusion.unet import predict
from models.errors import UserError
from models.seeds import seed_of
from models.tasks.identity import cosine_to_truth, decode_clean, readable_rows, recogniser_of
from models.tasks.translation.config import Config, autoencoder_of, classifier_of
from models.tasks.translation.rows import Drawn, draw_rows, prepare, to_degrees
from models.translation.attributes import encode_words, entropy, label_words
from models.translation.network import (
    Translator,
    read_config,
    read_into,
    save_translator,
    thermal_channels,
    thermal_latents,
)
from models.translation.settings import ATTRIBUTES, LANDMARKS, RECOGNISER, VAE
from models.translation.transfer import begin_with_visible
from models.visible import cache
from models.visible.autoencoder import decode
from models.visible.critic import Critic, adversarial_losses
from models.weights.networks import device_of

COLUMNS = ("visible", "classes", "thermal", "attributes", "landmarks_70")
FOUND = ("landmarks_70",)
STAGE = "translate"
SUMMARY = """Turns a thermal face into a visible one, a draw at a time: latent diffusion beside the thermal latents, told
attributes, with {mixing} in the place of self-attention. An interpretation of arXiv 2512.21032, whose internals are not
public."""
LIMITS = """Learnt from rendered people, so of them alone. What a thermal picture cannot show (skin tone, hair colour, iris) is
what it is told, or drawn from the training's people: a translation is a picture that could be, not what the person looks like."""


def weights(config: Config) -> list[Path]:
    """Return the folders that training reads beside `init`. Raises UserError where the thermal autoencoder is not named."""
    # What belongs together is named together.
    if not config.autoencoder:
        raise UserError(
            "translator needs an autoencoder of temperatures: train thermal_vae, then --set autoencoder=DIR"
        )
    if bool(config.stage1) != config.shape.control:
        raise UserError("a control network learns on a frozen translator: name both, shape.control=true and stage1=DIR")
    if bool(config.recogniser) != bool(config.shape.identity):
        raise UserError(
            "who is shown is told by a recogniser of thermal faces: name both, shape.identity=512 and recogniser=DIR"
        )
    # Whatever is read beside `init`.
    named = [
        config.recogniser,
        config.vae,
        config.autoencoder,
        config.thermal_attributes,
        config.attributes,
        config.stage1,
        config.visible,
    ]
    named += [config.faces] if config.identity else []
    return [cache.from_root(folder) for folder in named if folder]


class Trainee(Translator):
    """A translator in training, and the critic that it is trained against."""

    def __init__(self, config: Config, visible: int, thermal: int) -> None:
        super().__init__(config.shape, visible, thermal)
        self.critic = Critic(config.critic) if config.adversarial else None


def build(config: Config) -> nn.Module:
    """Return a fresh translator for the latents of both autoencoders."""
    channels = cache.autoencoder(config.vae).config.latent_channels
    model = Trainee(config, channels, thermal_channels(autoencoder_of(config.autoencoder)))
    if not torch.cuda.is_available():  # on CPUs the backward pass of fused attention costs three times the plain one
        model.unet.set_attn_processor(AttnProcessor())
    if config.visible:
        begin_with_visible(model.unet, cache.from_root(config.visible))
    if config.stage1:
        read_into(model, cache.from_root(config.stage1), control=False)
        model.requires_grad_(False)
        assert model.guide.control is not None
        model.guide.control.requires_grad_(True)
    return model


def begin(model: nn.Module, folder: Path) -> None:
    """Fill `model` from the folder of a translator of the same shape."""
    assert isinstance(model, Translator)
    read_config(folder)
    read_into(model, folder)


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted error of the predicted velocity, plus what is read in the clean prediction of some rows.

    Logged: `noisy` and `clear`, its means over the later and the earlier half of the time steps; `attributes`, `cosine`,
    `critic`.
    """
    assert isinstance(model, Trainee)
    process = DiscreteProcess.of(new_scheduler())
    drawn = draw_rows(batch, config, process, batch["draw"])
    errors, clean = prediction_error(model, process, drawn)
    noisy = (drawn.timesteps >= 500).to(errors.device)
    metrics = {"noisy": errors[noisy].mean().item()} if noisy.any() else {}
    metrics |= {"clear": errors[~noisy].mean().item()} if (~noisy).any() else {}
    total = errors.mean()
    # What is predicted at the most noise that still lets it be read.
    chosen = readable_rows(process, drawn.timesteps, config.low_noise, config.looked_at)
    if len(chosen) and (config.identity or config.adversarial or (config.attributes and config.consistency)):
        seen, found = look_at(model, clean[chosen.to(clean.device)], drawn, chosen, config, step)
        total, metrics = total + seen, metrics | found
    return total, metrics


def look_at(
    model: Trainee, clean: Tensor, drawn: Drawn, chosen: Tensor, config: Config, step: int
) -> tuple[Tensor, dict[str, float]]:
    """Return what is said of the `chosen` rows' predicted pictures, and what to log of it. clean: their latents."""
    pictures = decode_clean(clean, config.vae)
    total, metrics = pictures.new_zeros(()), dict[str, float]()
    # The words that a classifier reads in them.
    if config.attributes and config.consistency:
        wrong = _misread(pictures, [drawn.words[k] for k in chosen.tolist()], config)
        total, metrics["attributes"] = total + config.consistency * wrong, wrong.item()
    # Who a recogniser says they show.
    if config.identity:
        true, align = drawn.latents[chosen], drawn.align[chosen]
        cosine = cosine_to_truth(pictures, true, align, recogniser_of(config.faces), config.vae)
        total, metrics["cosine"] = total + config.identity * (1 - cosine).mean(), cosine.mean().item()
    # Whether a critic takes their patches for those of true pictures, both from the decoder. It learns from the first step on.
    if model.critic is not None:
        with torch.no_grad():
            true = decode_clean(drawn.latents[chosen].to(pictures.device), config.vae)
        maker, judged = adversarial_losses(model.critic, pictures, true)
        total = total + config.adversarial * (step >= config.adversarial_from) * maker + judged
        metrics["critic"] = judged.item()
    return total, metrics


def prediction_error(model: Translator, process: DiscreteProcess, drawn: Drawn) -> tuple[Tensor, Tensor]:
    """Return the weighted squared error of each row [B], of weights of mean one, and the clean latents that are predicted."""
    device = device_of(model)
    noisy = process.add_noise(drawn.latents, drawn.noise, drawn.timesteps).to(device)
    target = process.target(drawn.latents, drawn.noise, drawn.timesteps).to(device)
    who = None if drawn.who is None else drawn.who.to(device)
    conditions = model.guide(drawn.told.to(device), drawn.thermal.to(device), who)
    timesteps = drawn.timesteps.to(device)
    prediction = predict(model.unet, noisy, timesteps, conditions)
    weight = (drawn.weight / drawn.weight.mean(dim=(1, 2, 3), keepdim=True)).to(device)
    return row_errors(prediction, target, weight), process.clean(prediction.float(), noisy, timesteps)


def _misread(pictures: Tensor, words: Sequence[dict[str, str]], config: Config) -> Tensor:
    """Return the cross-entropy of the rows' words as the visible classifier reads them, mean over rows and attributes."""
    classifier = classifier_of(config.attributes).to(pictures.device)
    labels = torch.from_numpy(label_words(words, classifier.config.words)).to(pictures.device)
    return torch.stack(list(entropy(classifier(pictures), labels).values())).mean()


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the training error on fixed draws, and its part at noisy and clear time steps."""
    assert isinstance(model, Translator)
    process = DiscreteProcess.of(new_scheduler())
    errors, steps = [], []
    for decoded in rows:
        seeds = [seed_of("validation", number) for number in decoded["row"]]
        drawn = draw_rows(prepare(decoded, config), config, process, seeds)
        errors.append(prediction_error(model, process, drawn)[0].cpu())
        steps.append(drawn.timesteps)
    error, step = torch.cat(errors), torch.cat(steps)
    halves = {"noisy": error[step >= 500], "clear": error[step < 500]}
    found = {name: values.mean().item() for name, values in halves.items() if len(values)}
    return {"score": -error.mean().item(), "error": error.mean().item(), **found}


def pictures(model: nn.Module, rows: Columns, config: Config) -> np.ndarray:
    """Return a sheet uint8: visible pictures over what is made of their thermal ones, told nothing, by eight steps."""
    assert isinstance(model, Translator)
    # Thermal latents, no words, and who it is where that is told.
    device, few = device_of(model), {name: values[:8] for name, values in rows.items()}
    celsius = torch.from_numpy(to_degrees(few["thermal"], config))
    thermal = thermal_latents(autoencoder_of(config.autoencoder), celsius).to(device)
    told, who = encode_words([{}] * len(celsius), config.shape.words).to(device), None
    if config.recogniser:
        who = torch.from_numpy(prepare(few, config)["who"][:, 0].astype(np.float32)).to(device)
    conditions = model.guide(told, thermal, who)
    # Each row's noise follows from its place on the sheet.
    latents = sample(
        denoiser(model.unet, conditions, conditions, Guidance(1.0)),
        NamedNoise([str(k) for k in range(len(celsius))], "translate"),
        (model.unet.config.out_channels, *thermal.shape[2:]),
        new_scheduler(),
        8,
        device=device,
    )
    made = decode(cache.autoencoder(config.vae), latents.cpu()).numpy()
    return np.concatenate([np.concatenate(list(line), 1) for line in (few["visible"], made)])


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the folder of the part (`models.translation.network`) and the card."""
    assert isinstance(model, Translator)
    named = {VAE: config.vae, ATTRIBUTES: config.thermal_attributes, RECOGNISER: config.recogniser}
    copied = {name: cache.from_root(source) for name, source in named.items() if source}
    if config.recogniser:
        copied[f"{LANDMARKS}/70"] = cache.from_root(config.landmarks) / "70"
    save_translator(model, autoencoder_of(config.autoencoder), copied, folder)
    block = config.shape.block
    mixing = block.mixing if block.mixing == "attention" else f"{block.mixing} and windows of {block.window}"
    facts: dict[str, Any] = {"title": "Thermal to visible", "summary": SUMMARY.format(mixing=mixing), "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
