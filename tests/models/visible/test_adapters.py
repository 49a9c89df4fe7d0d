"""Adapters on the stage: which rows they touch, and that a row's bytes are its own; the text encoder stands aside."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.attributes import EXPRESSIONS
from models.diffusion.conditions import Conditions
from models.diffusion.lora import FILE, fuse_lora, read_lora, share_weights
from models.diffusion.reference import self_attentions
from models.errors import UserError
from models.seeds import generators
from models.visible.autoencoder import decode, encode
from models.visible.expression import BRANCH
from models.visible.expression import FILE as ADAPTER
from models.visible.model import Loaded
from models.visible.sd import stage as sd_stage
from models.visible.sd.adapters import NEUTRAL, adapt
from models.visible.sd.settings import Options, Settings, columns
from models.visible.sd.stage import Stage
from models.visible.smirk import MAP, SMIRK, ExpressionMap
from tests.models.diffusion import tiny
from tests.models.visible.test_expression import write as write_adapter

ONE = Settings(steps=1, guidance=3.0)
QUERY = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


class Text(nn.Module):
    """Stands for the text encoder: a prompt that is a function of the person alone."""

    def forward(self, ids: Tensor, embedding: Tensor | None = None) -> Tensor:
        found = torch.zeros(len(ids), 168) if embedding is None else embedding[:, :168] * 20
        return found.view(-1, 7, tiny.HIDDEN)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each adapter for one tiny U-Net, whose own stands beside them."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("model", "lora", "reference", "expression")}
    torch.manual_seed(0)
    UNETS["unet"] = tiny.new_unet()
    UNETS["vae"] = tiny.wake(tiny.new_vae())
    draw = torch.Generator().manual_seed(0)
    for name, layers in (("lora", [QUERY]), ("reference", [f"{one}.to_k" for one in self_attentions(UNETS["unet"])])):
        tensors = {}
        for layer in layers:
            out, inner = UNETS["unet"].get_submodule(layer).weight.shape
            tensors[f"unet.{layer}.lora_A.weight"] = torch.randn(2, inner, generator=draw) * 0.5
            tensors[f"unet.{layer}.lora_B.weight"] = torch.randn(out, 2, generator=draw) * 0.5
        save_file(tensors, str(folders[name] / FILE))
    write_adapter(folders["expression"], UNETS["unet"])
    (folders["model"] / "scheduler_config.json").write_text('{"_class_name": "DDIMScheduler", "clip_sample": false}')
    return folders


UNETS: dict[str, nn.Module] = {}


@pytest.fixture
def load(weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    """A function that loads the stage with adapters by name."""
    monkeypatch.setattr(sd_stage, "tokenize", lambda tokenizer, texts: torch.zeros(len(texts), 7, dtype=torch.int64))

    def load(*names: str, **options: object) -> Stage:
        parts = Loaded(share_weights(UNETS["unet"]), Text(), SimpleNamespace(), UNETS["vae"], weights["model"], None)
        monkeypatch.setattr(sd_stage, "load_visible", lambda *_: parts)
        return Stage({name: weights[name] for name in ("model", *names)}, Options(captions=False, **options))

    return load


def rows(count: int = 3, **more: np.ndarray) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    names = np.array([f"sample-{k}" for k in range(count)])
    embedding = draw.standard_normal((count, 512)).astype(np.float32)
    return {"caption": np.array(["A man."] * count), "embedding": embedding, "noise_id": names, **more}


def references() -> np.ndarray:
    """Of three people; the second has none."""
    pictures = np.random.default_rng(1).integers(1, 255, (3, 16, 16, 3), np.uint8)
    pictures[1] = 0
    return pictures


def cut(batch: dict[str, np.ndarray], wanted: list[int]) -> dict[str, np.ndarray]:
    return {name: values[wanted] for name, values in batch.items()}


def test_a_lora_is_fused_and_its_scale_counts(load, weights: dict[str, Path]) -> None:
    plain, found = load()(rows(), ONE, 2)["visible"], load("lora", lora_scale=0.7)
    fused = share_weights(UNETS["unet"])
    fuse_lora(fused, read_lora(weights["lora"]), 0.7)
    assert torch.equal(found.adapted.unet.get_submodule(QUERY).weight, fused.get_submodule(QUERY).weight)
    assert (found(rows(), ONE, 2)["visible"] != plain).any()
    assert np.array_equal(load("lora", lora_scale={"lora": 0})(rows(), ONE, 2)["visible"], plain)


@torch.inference_mode()
@pytest.mark.slow
def test_a_reference_touches_the_rows_that_have_one(load) -> None:
    stage, batch = load("reference"), rows(reference=references())
    plain = load()(rows(), ONE, 2)["visible"]
    found = stage(batch, ONE, 2)["visible"]
    assert [bool((found[row] != plain[row]).any()) for row in range(3)] == [True, False, True]
    # Alone, in a batch, in another order; another reference is another picture.
    assert np.array_equal(stage(cut(batch, [2, 1]), ONE, 2)["visible"], found[[2, 1]])
    swapped = stage(batch | {"reference": references()[::-1].copy()}, ONE, 2)["visible"]
    assert (swapped[0] != found[0]).any()
    # Without the column, or at scale 0, there is no adapter.
    assert np.array_equal(stage(rows(), ONE, 2)["visible"], plain)
    assert np.array_equal(load("reference", reference_scale=0)(batch, ONE, 2)["visible"], plain)


@torch.inference_mode()
def test_a_references_latents_are_drawn_by_the_rows_name() -> None:
    vae, pictures = UNETS["vae"], torch.from_numpy(references())
    one = encode(vae, pictures, generators(["a", "b", "c"], "reference", 0))
    assert torch.allclose(encode(vae, pictures[2:], generators(["c"], "reference", 0))[0], one[2], atol=1e-5)
    posterior = vae.encode(pictures.permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist
    drawn = torch.stack([torch.randn(one.shape[1:], generator=row) for row in generators("abc", "reference", 0)])
    wanted = (posterior.mean + posterior.std * drawn) * vae.config.scaling_factor
    assert torch.allclose(one, wanted, atol=1e-5) and not torch.allclose(one, encode(vae, pictures), atol=1e-3)
    assert decode(vae, one).shape == (3, 16, 16, 3)


def numbers() -> np.ndarray:
    """Of three rows: a face at rest, none, and one that moves."""
    values = np.random.default_rng(2).normal(0, 1, (3, SMIRK)).astype(np.float32)
    values[0], values[1] = 0, np.nan
    return values


@torch.inference_mode()
@pytest.mark.slow
def test_an_expression_touches_the_rows_that_have_one(load) -> None:
    stage, batch = load("expression", "reference"), rows(smirk=numbers())
    plain, found = load()(rows(), ONE, 2)["visible"], stage(batch, ONE, 2)["visible"]
    assert [bool((found[row] != plain[row]).any()) for row in range(3)] == [
        True,
        False,
        True,
    ]  # at rest is an expression
    assert np.array_equal(stage(cut(batch, [2, 1]), ONE, 2)["visible"], found[[2, 1]])
    assert np.array_equal(stage(batch, Settings(steps=1, guidance=3.0, expression_scale=0), 2)["visible"], plain)
    # Clamped as published: an open jaw is one, a closed one is zero.
    beyond = numbers()
    beyond[2, 52:] = -9, 9, -9
    within = beyond.copy()
    within[2, 52:] = 0, 0.2, -0.2
    same = [stage(batch | {"smirk": values}, ONE, 2)["visible"] for values in (beyond, within)]
    assert np.array_equal(*same)
    # Together with a reference, every row what it has.
    both = stage(batch | {"reference": references()}, ONE, 2)["visible"]
    assert np.array_equal(both[1], plain[1]) and (both[2] != found[2]).any()
    half = numbers()
    half[2, 3] = np.inf
    with pytest.raises(UserError, match="sample-2: smirk has values that are not finite"):
        stage(batch | {"smirk": half}, ONE, 2)


@torch.inference_mode()
def test_the_unconditional_half_reads_the_expression_of_zeros(load) -> None:
    adapted, given = load("expression").adapted, torch.from_numpy(numbers()[[0, 2]])
    given[0] += 0.5
    prompts = torch.zeros(2, 7, tiny.HIDDEN)
    cond, uncond = adapted.express(given, 0.6, Conditions(prompts), Conditions(prompts))
    tokens = adapted.expression.project(given), adapted.expression.project(torch.zeros(2, SMIRK))
    assert torch.equal(cond.extra[BRANCH], tokens[0]) and torch.equal(uncond.extra[BRANCH], tokens[1])
    assert not torch.allclose(*tokens, atol=0.1) and adapted.expression.branch.scale == 0.6
    plain = [Conditions(prompts), Conditions(prompts)]
    assert adapted.express(given, 0.0, *plain) == plain and adapted.express(None, 1.0, *plain) == plain


def write_map(folder: Path, names: list[str]) -> None:
    rng = np.random.default_rng(3)
    rows_ = [rng.normal(0, 1, SMIRK).tolist() for _ in names]
    ExpressionMap(
        names=tuple(names), weight=tuple(map(tuple, rows_)), bias=(0.0,) * SMIRK, pairs=9, error=0.1, error_of_mean=1.0
    ).save(folder / MAP)


@torch.inference_mode()
def test_words_move_the_expression_by_a_map_alone(
    load, weights: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    smile, rest = (rows() | {"caption": np.array([f"A {word} man."] * 3)} for word in ("smiling", "neutral"))
    stage = load("expression")
    assert "words do not move the expression adapter" in caplog.text
    assert np.array_equal(stage(smile, ONE, 2)["visible"], stage(rest, ONE, 2)["visible"])
    try:
        write_map(weights["expression"], ["smile"])
        with pytest.raises(UserError, match="does not know angry, disgusted"):
            load("expression")
        write_map(weights["expression"], sorted(set(EXPRESSIONS) - {NEUTRAL}))
        stage = load("expression")
        read = stage.adapted.groups(smile)[0][1]["smirk"]
        assert read.any(axis=1).all() and not stage.adapted.groups(rest)[0][1]["smirk"].any()
        given = stage.adapted.groups(smile | {"smirk": numbers()})[0][1]["smirk"]
        assert np.array_equal(given[1], read[1]) and not given[0].any()  # numbers go before words
    finally:
        (weights["expression"] / MAP).unlink(missing_ok=True)


class Files(dict):
    json = dict.__getitem__


def test_what_is_looked_at_follows_from_the_weights() -> None:
    files = {name: Files() for name in ("model", "lora", "reference", "expression")}
    published = Options(captions=False)
    assert columns(published, Settings(), files).reads_if_there == ("pose_asked", "reference", "smirk")
    assert "caption" not in columns(published, Settings(), files).reads
    assert "caption" in columns(published, Settings(), files | {"expression": Files({MAP: {}})}).reads
    assert columns(Options(reference_scale=0), Settings(), files).reads_if_there == ("pose_asked", "smirk")
    assert columns(Options(), Settings(), {"model": Files()}).reads_if_there == ("pose_asked",)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"lora_scale": {"lora_2": 0.5}}, "lora_scale: the part has no weights lora_2; it has: lora"),
     ({"lora_file": {"unet": "x"}}, "lora_file: the part has no weights unet")],
)  # fmt: skip
def test_options_of_a_lora_that_is_not_there_are_refused(options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        columns(Options(**options), Settings(), {"model": Files(), "lora": Files()})
    with pytest.raises(UserError, match="no LoRA"):
        columns(Options(**options), Settings(), {"model": Files()})


def test_an_adapter_of_another_model_is_refused(weights: dict[str, Path], tmp_path: Path) -> None:
    save_file(
        {"unet.other.lora_A.weight": torch.zeros(2, 4), "unet.other.lora_B.weight": torch.zeros(4, 2)},
        str(tmp_path / FILE),
    )
    for name in ("lora_3", "reference"):
        with pytest.raises(UserError, match="is a LoRA of another model"):
            adapt(UNETS["unet"], {name: tmp_path}, Options())
    assert (weights["expression"] / ADAPTER).is_file()
