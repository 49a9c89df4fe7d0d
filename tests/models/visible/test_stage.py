"""The stage samples the starter's layout and Arc2Face's with the same class, and a row's bytes are its own."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from scipy.fft import dctn
from transformers import CLIPTextConfig, CLIPTextModel

from models.diffusion.guidance import Guidance
from models.errors import EnvironmentFault, UserError
from models.faces.align import CROP, TEMPLATE, align
from models.faces.metrics import unit_vectors
from models.faces.pack import embed, open_sessions
from models.translation import settings as translation
from models.visible.autoencoder import (
    COLOURS,
    LIGHTNESS,
    MEAN,
    SPREAD,
    decode,
    encode,
    load_part,
    new_vae,
)
from models.visible.faceclip import settings as faceclip
from models.visible.head import find_faces, views_of
from models.visible.model import load_visible
from models.visible.sd import stage as sd_stage
from models.visible.sd.settings import Options, Settings, columns
from models.visible.sd.stage import Stage
from models.visible.tokenizer import corpus, new_tokenizer
from models.weights.store import ROOT
from tests.models.visible.tiny import new_unet, write_visible


class Folder(dict):
    json = dict.__getitem__


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer(corpus(60, seed=1), vocabulary=700, length=77)


@pytest.fixture(scope="module")
def starter(tokenizer, tmp_path_factory):
    """Our layout with random weights."""
    folder = tmp_path_factory.mktemp("starter")
    write_visible(folder, tokenizer)
    return folder


def kl_vae(scaling_factor):
    """Stable Diffusion's autoencoder, small and untrained."""
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    shape = {"block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 4}
    return AutoencoderKL(**levels, **shape, sample_size=32, scaling_factor=scaling_factor)


@pytest.fixture(scope="module")
def published(tokenizer, tmp_path_factory):
    """Arc2Face's layout with random weights: `arc2face/`, `encoder/pytorch_model.bin` with the old key prefix, SD 1.5's rest."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("arc2face")
    new_unet(768).save_pretrained(str(folder / "arc2face"))
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=768,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    CLIPTextModel(config).save_pretrained(str(folder / "encoder"))
    weights = load_file(str(folder / "encoder" / "model.safetensors"))
    old = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in weights.items()}
    torch.save(old, folder / "encoder" / "pytorch_model.bin")
    (folder / "encoder" / "model.safetensors").unlink()
    base = folder / "stable-diffusion"
    kl_vae(0.18215).save_pretrained(str(base / "vae"))
    tokenizer.save_pretrained(str(base / "tokenizer"))
    (base / "scheduler").mkdir()
    sd15 = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
            "num_train_timesteps": 1000, "skip_prk_steps": True, "steps_offset": 1, "clip_sample": False}  # fmt: skip
    (base / "scheduler" / "scheduler_config.json").write_text(json.dumps(sd15))
    return folder, weights


def rows(count, seed=0):
    draw = np.random.default_rng(seed)
    return {
        "caption": np.array(
            [f"A man in a {word} shirt." for word in ("red", "blue", "green", "grey", "black")[:count]]
        ),
        "embedding": draw.standard_normal((count, 512)).astype(np.float32),
        "noise_id": np.array([f"sample-{k}" for k in range(count)]),
    }


def load_stage(folder, dtype="float32", **options):
    """The stage on weights: a folder, or several by name."""
    weights = folder if isinstance(folder, dict) else {"model": folder}
    return Stage(weights, Options(**options), dtype=dtype, threads=1)


@pytest.fixture(scope="module")
def stage(starter):
    """The stage on the starter's layout, which no test changes."""
    return load_stage(starter)


THREE = Settings(steps=3)


def cut(batch, wanted):
    return {name: values[wanted] for name, values in batch.items()}


@pytest.mark.slow
def test_rows_do_not_depend_on_their_batch(stage, starter):
    batch = rows(5)
    found = stage(batch, THREE, 4)
    assert set(found) == set(columns(Options(), THREE, {}).writes)
    whole = found["visible"]
    assert whole.shape == (5, 32, 32, 3) and whole.dtype == np.uint8
    assert np.array_equal(stage(cut(batch, [4, 2, 0]), THREE, 4)["visible"], whole[[4, 2, 0]])
    assert np.array_equal(load_stage(starter)(cut(batch, [3]), THREE, 4)["visible"], whole[[3]])


@pytest.mark.slow
def test_a_pose_in_degrees_goes_before_the_caption(stage):
    batch, nan = rows(3), np.nan
    batch["pose_asked"] = np.array([[60, nan, nan], [-60, nan, nan], [nan, nan, nan]], np.float32)
    whole = stage(batch, THREE, 4)["visible"]
    plain = stage({name: values for name, values in batch.items() if name != "pose_asked"}, THREE, 4)["visible"]
    assert [np.array_equal(*pair) for pair in zip(whole, plain)] == [False, False, True]
    assert np.array_equal(stage(cut(batch, [1]), THREE, 4)["visible"], whole[[1]])


@pytest.mark.slow
def test_caption_identity_and_noise_each_matter(stage):
    batch = rows(2)
    first = stage(batch, THREE, 2)["visible"]
    for name, value in (("caption", "An old woman."), ("embedding", -batch["embedding"][0]), ("noise_id", "another")):
        changed = {
            key: values.copy().astype(object) if key != "embedding" else values.copy() for key, values in batch.items()
        }
        changed[name][0] = value
        found = stage(changed, THREE, 2)["visible"]
        assert not np.array_equal(found[0], first[0]), name
        assert np.array_equal(found[1], first[1]), name


@pytest.mark.slow
def test_steps_guidance_and_size_are_the_calls(stage):
    batch = rows(2)
    first = stage(batch, THREE, 2)["visible"]
    for other in (Settings(steps=2), Settings(steps=3, guidance=5.0)):
        assert not np.array_equal(stage(batch, other, 2)["visible"], first)
    assert stage(batch, Settings(steps=1, size=64), 2)["visible"].shape == (2, 64, 64, 3)
    assert np.array_equal(stage(batch, THREE, 2)["visible"], first)


@pytest.mark.parametrize(
    ("settings", "solver"),
    [
        (Settings(steps=7, guidance=0.0), "DPMSolverMultistepScheduler"),
        (Settings(steps=3, guidance=3.5, guidance_interval=(0.1, 0.8), scheduler="tcd", eta=0.5), "TCDScheduler"),
    ],
)
def test_what_is_asked_for_reaches_the_sampler(stage, settings, solver, monkeypatch):
    asked = {}

    def note(denoise, noise, shape, scheduler, steps, **how):
        asked.update(how, steps=steps, names=noise.names, solver=type(scheduler).__name__)
        return torch.zeros(1, *shape)

    monkeypatch.setattr(sd_stage, "sample", note)
    monkeypatch.setattr(sd_stage, "denoiser", lambda unet, cond, uncond, guidance, _: asked.update(guidance=guidance))
    monkeypatch.setattr(stage, "_heads", lambda *_: sd_stage.Heads(None, None, None))  # which takes long
    stage(rows(1), settings, 1)
    guidance = Guidance(settings.guidance, settings.guidance_interval)
    said = {"steps": settings.steps, "eta": settings.eta, "guidance": guidance, "solver": solver}
    assert asked == {**said, "names": ["sample-0"], "device": torch.device("cpu")}


def test_noise_of_every_step_is_the_rows_own(stage, monkeypatch):
    """LCM draws at each step: a row is the same alone and in a batch, and another name is another picture."""
    monkeypatch.setattr(
        stage, "_heads", lambda captions, *_: sd_stage.Heads(torch.zeros(len(captions), 96, 4, 4), None, None)
    )
    batch, settings = rows(3), Settings(steps=3, guidance=1.0, scheduler="lcm")
    whole = stage(batch, settings, 2)["visible"]
    assert np.array_equal(stage(cut(batch, [2, 0]), settings, 2)["visible"], whole[[2, 0]])
    assert not np.array_equal(stage(batch | {"noise_id": batch["noise_id"][::-1]}, settings, 2)["visible"][0], whole[0])


@pytest.mark.parametrize("weights", ["scheduler", "model"])
def test_steps_that_a_scheduler_does_not_take_are_refused_before_anything_loads(weights):
    files = {weights: Folder({"scheduler/scheduler_config.json": {"_class_name": "LCMScheduler"}})}
    for settings in (Settings(steps=51), Settings(steps=60, scheduler="tcd")):
        with pytest.raises(UserError, match=r"takes 1 to 50 steps, not"):
            columns(Options(), settings, files)
    assert columns(Options(), Settings(steps=51, scheduler="euler"), files)


@pytest.mark.parametrize("settings", [Settings, faceclip.Settings, translation.Settings])
def test_an_interval_that_ends_before_it_begins_is_refused(settings):
    names = [name for name in settings.model_fields if name.endswith("_interval")]
    assert names
    for name in names:
        with pytest.raises(ValueError, match=r"ends before it begins: \[0\.8, 0\.2\]"):
            settings(**{name: (0.8, 0.2)})
        assert settings(**{name: (0.5, 0.5)})


def test_guidance_to_a_person_needs_a_recogniser():
    asked, folder = Settings(identity_guidance=0.02), Folder()
    with pytest.raises(UserError, match=r"identity_guidance: the part names no recogniser: add weights\.faces"):
        columns(Options(), asked, {"model": folder})
    assert columns(Options(), asked, {"model": folder, "faces": folder})


def test_where_no_head_is_drawn_the_detector_says_where_the_face_is(published, tmp_path, monkeypatch):
    """Arc2Face's layout: a picture in which no face is found is not moved."""
    base = published[0] / "stable-diffusion"
    where = {"model": published[0], "vae": base / "vae", "tokenizer": base, "scheduler": base}
    stage = load_stage({**where, "faces": ROOT / "models" / "starter" / "faces"}, captions=False)
    assert np.isnan(stage.find(np.zeros((2, 32, 32, 3), np.uint8))).all()
    # A pack that has none is asked for it by guidance alone.
    shutil.copy(ROOT / "models" / "starter" / "faces" / "arcface_starter.onnx", tmp_path)
    without = load_stage({**where, "faces": tmp_path}, captions=False)
    assert without(rows(1), Settings(steps=1), 1)["visible"].any()
    with pytest.raises(
        EnvironmentFault, match=r"identity_guidance: this U-Net is shown no head, so a detector .* SCRFD"
    ):
        without(rows(1), Settings(steps=1, identity_guidance=0.05), 1)
    found = np.stack([TEMPLATE * (32 / CROP), np.full((5, 2), np.nan)]).astype(np.float32)
    monkeypatch.setattr(stage, "find", lambda pictures: found)
    plain, towards = (stage(rows(2), Settings(steps=2, identity_guidance=each), 2)["visible"] for each in (0, 0.05))
    assert not np.array_equal(towards[0], plain[0]) and np.array_equal(towards[1], plain[1])


@pytest.mark.slow
def test_pictures_are_guided_to_the_person_by_the_recogniser():
    """The starter in four steps: as onnxruntime's recogniser sees them, where the drawn heads have their faces."""
    home = ROOT / "models" / "starter"
    stage = Stage({"model": home / "visible", "faces": home / "faces"}, Options())
    given, asked = rows(2), Settings(steps=4, identity_guidance=0.05, identity_interval=(0.5, 1))
    plain, towards = (stage(given, settings, 2)["visible"] for settings in (Settings(steps=4), asked))
    views = views_of([str(text) for text in given["caption"]], [str(name) for name in given["noise_id"]])
    points = find_faces(stage.parts.reader(given["embedding"]), views, plain.shape[1])
    session = open_sessions(home / "faces", threads=1)[1]
    who = unit_vectors(given["embedding"])
    before, after = ((unit_vectors(embed(session, align(one, points), 2)) * who).sum(1) for one in (plain, towards))
    assert (after > before + 0.1).all()
    # A row's neighbours do not count.
    assert np.array_equal(stage(cut(given, [1]), asked, 2)["visible"][0], towards[1])


def test_a_u_net_in_bfloat16_draws_the_same_pictures(starter, stage):
    """To a few grey levels, and not to the bit: it is the U-Net's own arithmetic that is coarse."""
    half = load_stage(starter, "bfloat16")
    assert half.parts.unet.dtype == torch.bfloat16
    found, wanted = (one(rows(2), THREE, 2)["visible"].astype(float) for one in (half, stage))
    assert 0 < np.abs(found - wanted).mean() < 0.1 * wanted.std()


def test_a_prompt_of_a_person_is_encoded_once(starter, stage, monkeypatch):
    """Three draws of one view, and one of another: two rows of prompts; a redraw has none, and all are as they were alone."""
    batch = rows(4)
    for name in ("caption", "embedding"):
        batch[name][1:3] = batch[name][0]
    monkeypatch.setattr(
        Stage, "_heads", lambda self, captions, *_: sd_stage.Heads(torch.zeros(len(captions), 96, 4, 4), None, None)
    )
    fresh, encoded = load_stage(starter), []
    real = fresh.parts.text.forward
    monkeypatch.setattr(fresh.parts.text, "forward", lambda ids, *one: encoded.append(ids) or real(ids, *one))
    whole = fresh(batch, Settings(steps=1), 4)["visible"]
    again = fresh(cut(batch, [2, 3]), Settings(steps=1), 4)["visible"]
    assert [len(ids) for ids in encoded] == [4] and len(torch.unique(encoded[0], dim=0)) == 2
    assert np.array_equal(again, whole[[2, 3]])
    # A batch of another size decides the last bits anew, and another person has another prompt.
    fresh(cut(batch, [2, 3]), Settings(steps=1), 2)
    fresh(cut(batch, [2]) | {"embedding": -batch["embedding"][[2]]}, Settings(steps=1), 4)
    assert [len(ids) for ids in encoded] == [4, 2, 4]
    alone = load_stage(starter)
    for row in (3, 1):
        assert np.array_equal(alone(cut(batch, [row]), Settings(steps=1), 4)["visible"], whole[[row]])


@pytest.mark.parametrize("options", [{"decode_batch": 1}, {"decode_batch": 2}, {"channels_last": True}])
def test_how_it_is_computed_changes_no_picture(starter, stage, options, monkeypatch):
    """Three rows in a batch of three, decoded one or two at a time, or in another order of memory: the same to a grey level."""
    monkeypatch.setattr(
        Stage, "_heads", lambda self, captions, *_: sd_stage.Heads(torch.zeros(len(captions), 96, 4, 4), None, None)
    )
    decoded = []
    real = sd_stage.decode
    monkeypatch.setattr(sd_stage, "decode", lambda vae, few: decoded.append(len(few)) or real(vae, few))
    settings = Settings(steps=2)
    whole = stage(rows(3), settings, 3)["visible"].astype(int)
    found = load_stage(starter, **options)(rows(3), settings, 3)["visible"]
    assert np.abs(found - whole).max() <= 1
    at_once = options.get("decode_batch", 3)
    assert set(decoded[1:]) == {at_once} and sum(decoded[1:]) >= 3


@pytest.mark.slow
def test_a_compiled_unet_makes_the_same_pictures(starter, stage):
    found = load_stage(starter, compile=True)(rows(2), THREE, 2)["visible"].astype(int)
    assert np.abs(found - stage(rows(2), THREE, 2)["visible"]).max() <= 2


def test_the_published_layout_runs_in_the_same_class(published):
    folder, weights = published
    base = folder / "stable-diffusion"
    # Weights of a part of their own are the part itself, or a folder with the part below it.
    where = {"model": folder, "vae": base / "vae", "tokenizer": base, "scheduler": base}
    stage, settings = load_stage(where, captions=False), Settings(steps=3, guidance=3.0)
    assert stage.parts.text.project is None
    assert stage.parts.scheduler == base / "scheduler"
    loaded = stage.parts.text.text.state_dict()
    assert all(torch.equal(loaded[key.removeprefix("text_model.")], value) for key, value in weights.items())
    batch = rows(2)
    found = stage(batch, settings, 2)["visible"]
    assert found.shape == (2, 32, 32, 3)
    batch["caption"][:] = "something else"
    assert np.array_equal(stage(batch, settings, 2)["visible"], found)
    assert "caption" not in columns(Options(captions=False), settings, {}).reads
    assert "caption" in columns(Options(), settings, {}).reads


class Hostile:
    def __reduce__(self):
        return print, ("a pickle ran code",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"embeddings.x": torch.zeros(1)}}, "lacks 20 weights"),
        (Hostile(), "print, which is code"),
        (b"", "EOF"),
    ],
)
def test_a_wrong_or_hostile_encoder_is_refused_as_the_users_without_torchs_advice(
    published, tmp_path, content, message
):
    folder = tmp_path / "encoder"
    shutil.copytree(published[0] / "encoder", folder)
    if content == b"":
        (folder / "pytorch_model.bin").write_bytes(content)
    else:
        torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=message) as caught:
        load_part(CLIPTextModel, folder)
    assert caught.value.exit_code == 2 and "weights_only" not in str(caught.value)


def test_a_wrapped_encoder_is_the_same_and_loads_in_silence(published, tmp_path, capfd):
    folder, weights = published
    shutil.copytree(folder / "encoder", tmp_path / "encoder")
    state = {f"module.text_model.{key.removeprefix('text_model.')}": value for key, value in weights.items()}
    torch.save({"epoch": 3, "model_state_dict": state}, tmp_path / "encoder" / "pytorch_model.bin")
    one, two = (load_part(CLIPTextModel, place / "encoder").state_dict() for place in (folder, tmp_path))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert capfd.readouterr() == ("", "")


def test_a_missing_part_is_named(starter):
    with pytest.raises(EnvironmentFault, match=r"no-such-vae.*config\.json"):
        load_visible({"model": starter, "vae": starter / "no-such-vae"})


def test_missing_weights_are_not_made_up(starter, tmp_path):
    shutil.copytree(starter, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "encoder" / "model.safetensors"
    weights = load_file(str(path))
    weights.pop(next(key for key in weights if key.endswith("q_proj.weight")))
    save_file(weights, str(path), metadata={"format": "pt"})
    with pytest.raises(EnvironmentFault, match=r"lacks 1 weights .*q_proj"):
        load_visible({"model": tmp_path})


def test_the_head_matters_and_follows_the_caption(starter, tmp_path):
    stage, batch, settings = load_stage(starter), cut(rows(1), [0]), Settings(steps=2, guidance=1.0)
    whole = stage(batch, settings, 1)["visible"]
    stage.parts.reader.bias[:] += 1  # another shape, all else alike
    assert not np.array_equal(stage(batch, settings, 1)["visible"], whole)
    shutil.copytree(starter, tmp_path, dirs_exist_ok=True)
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(EnvironmentFault, match=r"no head\.safetensors .* takes 108"):
        load_stage(tmp_path)


def test_bfloat16_runs(starter):
    assert load_stage(starter, dtype="bfloat16")(rows(2), Settings(steps=2), 2)["visible"].any()


def test_latents_of_a_kl_autoencoder_are_scaled_both_ways():
    torch.manual_seed(0)
    vae = kl_vae(0.5).eval()
    picture = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        mode = vae.encode(picture.permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mode()
        latents = encode(vae, picture)
        torch.testing.assert_close(latents, mode * 0.5)
        plain = ((vae.decode(mode).sample.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1)
        assert torch.equal(decode(vae, latents).float(), plain)


def test_the_starters_encoder_is_the_cosine_transform_of_blocks():
    picture = torch.randint(0, 256, (1, 24, 16, 3), dtype=torch.uint8)
    vae = new_vae(8, (1, 1, 1, 1)).eval()
    with torch.inference_mode():
        found = encode(vae, picture)[0] / vae.config.scaling_factor
    assert found.shape == (12, 3, 2)
    block = picture[0, 8:16, 8:16].numpy() / 255
    waves = [(0, wave) for wave in LIGHTNESS] + [(1, (0, 0)), (2, (0, 0))]
    for channel, (colour, wave) in enumerate(waves):
        truth = dctn(block @ np.array(COLOURS[colour]), norm="ortho")[wave] / 8
        wanted = (truth - MEAN[channel]) / SPREAD[channel] ** 0.5
        np.testing.assert_allclose(found[channel, 1, 1], wanted, atol=1e-5)
