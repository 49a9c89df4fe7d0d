"""Captions reach a U-Net whose own prompt stays the identity's: by a branch that is trained alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from models.card import Card
from models.diffusion.process import DiscreteProcess
from models.diffusion.schedulers import new_scheduler
from models.errors import EnvironmentFault, UserError
from models.tasks import text_branch, visible
from models.visible.autoencoder import new_vae, save_autoencoder
from models.visible.model import VisibleConfig, load_visible, new_visible, save_visible
from models.visible.sd.settings import Options, Settings, columns
from models.visible.sd.stage import Stage
from models.visible.text import PROMPT, count_cut, new_text, prompts, tokenize
from models.visible.text_branch import FILE, load_text_branch, new_text_branch, save_text_branch, split_windows
from models.visible.tokenizer import corpus, new_tokenizer
from models.weights.store import ROOT, verify
from tests.models.diffusion.tiny import wake
from tests.models.elsewhere import elsewhere
from tests.models.visible.tiny import new_unet

SMALL = VisibleConfig(widths=(16, 32), heads=(1, 2), groups=8, hidden=32, text_layers=1, text_heads=2, head=False)
TWO = Settings(steps=2)
UNET = "models/starter/visible/unet/diffusion_pytorch_model.safetensors"
LONG = "A woman with long red hair and green eyes wears a blue coat and a cap. " * 12


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer(corpus(60, seed=1), vocabulary=700, length=77)


@pytest.fixture(scope="module")
def part(tokenizer, tmp_path_factory):
    """A visible part with random weights that is shown no head."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("part")
    save_autoencoder(new_vae(8, (1, 1, 1, 1)), folder / "trained")
    model = new_visible(SMALL, tokenizer, channels=12, side=4)
    wake(model.unet)
    save_visible(model, folder / "trained", folder, None)
    return folder


@pytest.fixture(scope="module")
def encoder(tokenizer, tmp_path_factory):
    """A CLIP text model of 150 positions, as wide as LongCLIP's is longer than CLIP's."""
    folder = tmp_path_factory.mktemp("long")
    torch.manual_seed(1)
    text = new_text(len(tokenizer), 24, 1, 2, 150, (tokenizer.bos_token_id, tokenizer.eos_token_id))
    text.half().save_pretrained(str(folder / "encoder"))
    tokenizer.save_pretrained(str(folder / "tokenizer"))
    return folder


def write_branch(part: Path, folder: Path, encoder: Path | None = None, windows: int = 1) -> Path:
    """Write a branch that has learnt something: seeded weights."""
    loaded = load_visible({"model": part})
    words = new_text_branch(loaded.unet, (loaded.text.text, loaded.tokenizer), encoder, windows)
    torch.manual_seed(2)
    wake(words.branch)
    save_text_branch(words, folder, encoder)
    return folder


@pytest.fixture(scope="module")
def branch(part, tmp_path_factory):
    return write_branch(part, tmp_path_factory.mktemp("branch"))


def rows(count: int = 2) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        "caption": np.array([f"A man in a {word} shirt." for word in ("red", "blue", "green")[:count]], object),
        "embedding": draw.standard_normal((count, 512)).astype(np.float32),
        "noise_id": np.array([f"sample-{k}" for k in range(count)]),
    }


def cut(batch: dict[str, np.ndarray], wanted: list[int]) -> dict[str, np.ndarray]:
    return {name: values[wanted] for name, values in batch.items()}


@pytest.fixture(scope="module")
def stage(part, branch):
    return Stage({"model": part, "text_branch": branch}, Options(captions=False))


def test_words_reach_the_picture_by_the_branch_alone(part, stage):
    batch, other = rows(), rows() | {"caption": np.array(["An old woman.", "A man in a blue shirt."], object)}
    plain = Stage({"model": part}, Options(captions=False))
    without = plain(batch, TWO, 2)["visible"]
    assert np.array_equal(plain(other, TWO, 2)["visible"], without)
    # Off, it is the part without a branch, to the bit; on, it follows the caption of its own row.
    found = stage(batch, TWO, 2)["visible"]
    assert np.array_equal(stage(batch, Settings(steps=2, text_scale=0), 2)["visible"], without)
    assert not np.array_equal(found, without)
    changed = stage(other, TWO, 2)["visible"]
    assert not np.array_equal(changed[0], found[0]) and np.array_equal(changed[1], found[1])
    assert np.array_equal(stage(batch, Settings(steps=2, text_scale=1.0), 2)["visible"], found)
    assert not np.array_equal(stage(batch, Settings(steps=2, text_scale=0.4), 2)["visible"], found)


def test_a_row_is_the_same_alone_and_in_a_batch(stage):
    batch = rows(3)
    whole = stage(batch, TWO, 2)["visible"]
    assert np.array_equal(stage(cut(batch, [2, 0]), TWO, 2)["visible"], whole[[2, 0]])


def test_the_unconditional_half_reads_the_empty_text(stage, monkeypatch):
    seen = []
    monkeypatch.setattr("models.visible.sd.stage.denoiser", lambda unet, cond, uncond, *_: seen.extend([cond, uncond]))
    monkeypatch.setattr("models.visible.sd.stage.sample", lambda *_, **__: torch.zeros(2, 12, 4, 4))
    batch = rows()
    stage(batch, TWO, 2)
    words = stage.parts.words
    torch.testing.assert_close(seen[0].extra["text_branch"], words.encode(list(batch["caption"])))
    torch.testing.assert_close(seen[1].extra["text_branch"], words.encode(["", ""]))
    # The prompt is the identity's in one half and empty in the other.
    ids = tokenize(stage.parts.tokenizer, [PROMPT] * 2)
    torch.testing.assert_close(seen[0].prompt_embeds, stage.parts.text(ids, torch.from_numpy(batch["embedding"])))


def test_which_columns_it_reads_follows_from_the_weights_and_the_scale():
    off, files = Options(captions=False), {"text_branch": {}, "model": {}}
    assert "caption" not in columns(off, TWO, {}).reads and "caption_cut" not in columns(off, TWO, {}).writes
    assert "caption" not in columns(off, Settings(text_scale=0), files).reads
    for flow in (
        columns(off, TWO, files),
        columns(Options(), Settings(text_scale=0), files),
        columns(Options(), TWO, {}),
    ):
        assert "caption" in flow.reads and flow.writes == ("visible", "caption_cut")
    with pytest.raises(UserError, match="name no text_branch"):
        columns(off, Settings(text_scale=0.5), {"model": {}})


def test_a_caption_is_read_window_by_window_and_what_is_left_is_counted(tokenizer):
    said = tokenizer(LONG, add_special_tokens=False, verbose=False)["input_ids"]
    assert len(said) > 3 * 75
    for windows in (1, 2, 3):
        ids, cut = split_windows(tokenizer, [LONG, "A man."], 77, windows)
        assert ids.shape == (2, windows, 77) and cut.tolist() == [len(said) - 75 * windows, 0]
        # Every window is framed as CLIP has it, and the words between the frames are the caption's, in order.
        assert (ids[..., 0] == tokenizer.bos_token_id).all() and (ids[..., -1] == tokenizer.eos_token_id).all()
        assert ids[0, :, 1:-1].flatten().tolist() == said[: 75 * windows]
        assert torch.equal(ids[1, 0], tokenize(tokenizer, ["A man."])[0])
        assert torch.equal(ids[1, 1:], tokenize(tokenizer, [""] * (windows - 1 or 1))[: windows - 1])


def test_what_the_prompt_leaves_out_is_counted_too(tokenizer, part, stage):
    texts = prompts(["", "A man.", LONG])
    whole = [len(tokenizer(text, verbose=False)["input_ids"]) for text in texts]
    assert count_cut(tokenizer, texts).tolist() == [0, 0, whole[2] - 77]
    batch = rows(2) | {"caption": np.array([LONG, "A man."], object)}
    asked = {"steps": 1, "guidance": 1.0}
    by_prompt = Stage({"model": part}, Options())(batch, Settings(**asked), 2)["caption_cut"]
    assert by_prompt.tolist() == [whole[2] - 77, 0] and by_prompt.dtype == np.int32
    words = len(tokenizer(LONG, add_special_tokens=False, verbose=False)["input_ids"])
    assert stage(batch, Settings(**asked), 2)["caption_cut"].tolist() == [words - 75, 0]


def test_an_encoder_of_its_own_travels_with_the_branch(part, encoder, tmp_path):
    write_branch(part, tmp_path, encoder, windows=2)
    assert {path.name for path in tmp_path.iterdir()} == {FILE, "encoder", "tokenizer"}
    loaded = load_visible({"model": part, "text_branch": tmp_path}, "float16")
    assert loaded.words is not None and loaded.words.branch.layers[0].to_k.weight.dtype == torch.float16
    contexts = load_visible({"model": part, "text_branch": tmp_path}).words.encode(["A man.", LONG])
    assert contexts.shape == (2, 300, 24) and contexts.isfinite().all()
    assert not any(p.requires_grad for p in (*loaded.words.branch.parameters(), *loaded.words.text.parameters()))
    shutil.rmtree(tmp_path / "encoder")
    with pytest.raises(EnvironmentFault, match=r"encoder has no config\.json"):
        load_visible({"model": part, "text_branch": tmp_path})


def test_a_branch_that_does_not_fit_is_refused_with_what_differs(part, branch, tokenizer, tmp_path):
    loaded = load_visible({"model": part})
    text = new_text(len(tokenizer), 24, 1, 2, 77, (0, 1))
    with pytest.raises(EnvironmentFault, match="reads 32 numbers a token, and the visible model's encoder writes 24"):
        load_text_branch(branch, loaded.unet, (text, tokenizer))
    # Another U-Net: as many cross-attentions, of other widths.
    with pytest.raises(EnvironmentFault, match=r"layers\.0\.to_k\.weight: \(32, 32\) instead of \(16, 32\)"):
        load_text_branch(branch, new_unet(32), (loaded.text.text, tokenizer))
    state = load_file(str(branch / FILE))
    save_file(state, str(tmp_path / FILE), metadata={"config": json.dumps({"width": 32, "heads": 2})})
    with pytest.raises(EnvironmentFault, match="is no branch of text: heads: Extra inputs"):
        load_text_branch(tmp_path, loaded.unet, (loaded.text.text, tokenizer))
    with pytest.raises(EnvironmentFault, match=r"nowhere.*is missing: `thermapair train text_branch`"):
        load_text_branch(tmp_path / "nowhere", loaded.unet, (loaded.text.text, tokenizer))


def prepared(count: int = 4) -> dict[str, np.ndarray]:
    """Rows as the task prepares them, whose pictures are as bright as their caption says."""
    draw = np.random.default_rng(0)
    bright = np.arange(count) % 2
    latents = draw.standard_normal((count, 12, 4, 4)) * 0.1 + (4.0 * bright - 2)[:, None, None, None]
    said = [json.dumps({"clothing_colour": ("black", "white")[k]}) for k in bright]
    return {
        "latents": latents.astype(np.float16),
        "mirrored": latents[..., ::-1].astype(np.float16),
        "mean": np.eye(count, 512, dtype=np.float16),
        "one": np.eye(count, 512, dtype=np.float16),
        "weight": np.ones((count, 4, 4), np.float16),
        "attributes": np.array(said, object),
        "draw": np.arange(count),
    }


@pytest.mark.slow
def test_training_moves_the_branch_alone_and_learns_what_captions_say(part, tmp_path):
    config = text_branch.Config(model=str(part), drop_attribute=0, drop_both=0, drop_caption=0)
    torch.manual_seed(0)
    model = text_branch.build(config)
    words, frozen, process = model.frozen()
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    assert {name.partition(".")[0] for name, _ in model.named_parameters()} == {"branch"}
    assert isinstance(process, DiscreteProcess)
    assert process.scheduler.config.prediction_type == new_scheduler().config.prediction_type
    batch, values = prepared(), []
    optimizer = torch.optim.AdamW(model.parameters(), 0.03)
    for step in range(7):
        value, _ = text_branch.loss(model, batch, config, step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.97 * values[0]
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert all(parameter.grad is None for parameter in (*frozen.parameters(), *words.text.parameters()))
    # What was learnt is written, begun with again, and read by the stage's loader.
    text_branch.export(model, config, tmp_path, Card(title="Text branch", task="text_branch"))
    again = text_branch.build(config)
    text_branch.begin(again, tmp_path)
    loaded = load_visible({"model": part, "text_branch": tmp_path})
    assert loaded.words is not None
    for name, value in model.branch.state_dict().items():
        torch.testing.assert_close(again.branch.state_dict()[name], value.half().float())
        torch.testing.assert_close(loaded.words.branch.state_dict()[name], value.half().float())
    with pytest.raises(UserError, match="reads .*windows=1.*this training .*windows=2"):
        text_branch.begin(text_branch.build(config.model_copy(update={"windows": 2})), tmp_path)
    # Half of the rows are shown what another says: that must cost something.
    model.eval()
    rows = {name: values for name, values in batch.items() if name != "draw"} | {"row": np.arange(4)}
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_branch, "prepare", lambda decoded, config: decoded)
        found = text_branch.validate(model, [{name: values[[0, 2, 1, 3]] for name, values in rows.items()}], config)
        shown = rows | {"visible": np.full((4, 32, 32, 3), 7, np.uint8)}
        seen = []
        patch.setattr(visible, "denoiser", lambda unet, cond, uncond, guidance: seen.extend([cond, uncond]))
        patch.setattr(visible, "sample", lambda *_, **__: torch.zeros(4, 12, 4, 4))
        sheet = text_branch.pictures(model, shown, config)
    assert sheet.shape == (64, 128, 3) and (sheet[:32] == 7).all()
    assert torch.equal(seen[1].extra["text_branch"], words.encode([""] * 4))
    assert not torch.equal(seen[0].extra["text_branch"], seen[1].extra["text_branch"])
    assert found["text_gain"] > 0.02 and found["branch_gain"] > 0 and model.branch.scale == 1.0


def test_rows_and_what_is_frozen_meet_the_branch_where_it_is(part):
    model = text_branch.build(text_branch.Config(model=str(part))).to("meta")
    with elsewhere():
        value, metrics = text_branch.loss(model, prepared(), text_branch.Config(model=str(part)), 0)
    assert value.is_meta and metrics


def test_rows_need_the_worlds_heads_only_where_the_unet_is_shown_them(part, tmp_path):
    assert text_branch.columns(text_branch.Config(model=str(part))) == text_branch.COLUMNS
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"in_channels": 108, "out_channels": 12}))
    assert "world_identity" in text_branch.columns(text_branch.Config(model=str(tmp_path)))


def test_the_branch_that_comes_with_the_starter_has_the_shapes_of_its_unet():
    own = safe_open(str(ROOT / "models" / "starter-text-branch" / FILE), "pt")
    unet = safe_open(str(ROOT / UNET), "pt")
    names = [name for name in unet.keys() if "attn2.to_" in name and name.endswith(("k.weight", "v.weight"))]  # noqa: SIM118
    shapes = sorted(unet.get_slice(name).get_shape() for name in names)
    assert sorted(own.get_slice(name).get_shape() for name in own.keys()) == shapes and len(shapes) == 8  # noqa: SIM118
    assert json.loads(own.metadata()["config"]) == {"encoder": "visible", "width": 192, "windows": 1}
    verify(ROOT / "models" / "starter-text-branch")
