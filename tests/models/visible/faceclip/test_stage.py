"""FaceCLIP-SDXL as a visible stage: diffusers' own pipeline draws the same, and the person's picture counts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file

from models.diffusion.lora import FILE as LORA_FILE
from models.diffusion.sample import NamedNoise
from models.errors import EnvironmentFault, UserError
from models.faces.decode import Detections
from models.visible.autoencoder import decode, new_vae, save_autoencoder
from models.visible.faceclip import stage as module
from models.visible.faceclip.faces import TEMPLATE, align_faces, no_face, to_faces
from models.visible.faceclip.files import save_encoder
from models.visible.faceclip.settings import NEGATIVE, Options, Settings, columns
from models.visible.faceclip.stage import Stage
from models.visible.faceclip.tokenizer import PREFIX, count_cut, tokenize
from pipelines.run.faults import survivors
from tests.models.diffusion.tiny import wake

from .small import CONFIG, small_faceclip

FOUND = Detections(np.array([[2.0, 2, 30, 30]]), np.ones(1), TEMPLATE[None] * (32 / 112))
SETTINGS = Settings(steps=2, guidance=3.0)


def small_unet(width: int = 40) -> UNet2DConditionModel:
    """A U-Net of SDXL's form for the small encoder's embeddings."""
    return UNet2DConditionModel(
        sample_size=4,
        in_channels=12,
        out_channels=12,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=(1, 2),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        cross_attention_dim=width,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8,
    )


class Faces:
    """A pack that finds one face in every picture, none in those that are bright and two in those that are dark."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.asked = 0

    def find(self, pictures: list[np.ndarray], sizes: Any, batch: int) -> list[Detections]:
        self.asked += len(pictures)
        none = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))
        two = Detections(*(np.concatenate([values, values]) for values in (FOUND.boxes, FOUND.scores, FOUND.points)))
        return [none if picture.min() > 200 else two if picture.max() < 50 else FOUND for picture in pictures]


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a part with random weights."""
    folder = tmp_path_factory.mktemp("faceclip")
    write_part(folder)
    return folder


def write_part(folder: Path) -> None:
    """Write a part with random weights, which draws pictures of 32 pixels."""
    torch.manual_seed(0)
    save_encoder(small_faceclip().state_dict(), CONFIG, folder / "encoder")
    unet = small_unet()
    wake(unet)
    unet.save_pretrained(str(folder / "unet"))
    save_autoencoder(new_vae(8, (1, 1, 1, 1)), folder / "vae")
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="leading", steps_offset=1
    )
    scheduler.save_pretrained(str(folder / "scheduler"))


@pytest.fixture
def stage(part: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(module, "Pack", Faces)
    return Stage({"model": part, "faces": part}, Options())


def rows(count: int = 3) -> dict[str, np.ndarray]:
    """Rows of one person twice, and of nobody."""
    reference = np.zeros((count, 32, 32, 3), np.uint8)
    reference[:2] = np.random.default_rng(0).integers(0, 255, (32, 32, 3))
    return {
        "caption": np.array([f"a woman with {k} hats" for k in range(count)], object),
        "noise_id": np.array([f"row-{k}" for k in range(count)], object),
        "reference": reference,
    }


@torch.inference_mode()
def test_diffusers_pipeline_draws_the_same(stage: Stage) -> None:
    given = {name: values[:1] for name, values in rows().items()}
    found = stage(given, SETTINGS, 1)["visible"]
    crop = to_faces(align_faces(list(given["reference"]), FOUND.points))
    ids, away = tokenize([PREFIX + str(given["caption"][0])]), tokenize([SETTINGS.negative])
    embeds, pooled = stage.encoder(crop, ids, torch.tensor([True]))
    negative, negative_pooled = stage.encoder(no_face(1), away, torch.tensor([False]))
    scheduler = EulerDiscreteScheduler.from_pretrained(str(stage.scheduler))
    pipe = StableDiffusionXLPipeline(stage.vae, None, None, None, None, stage.unet, scheduler, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.stack([torch.randn(12, 4, 4, generator=one) for one in NamedNoise(["row-0"], "visible")(0)])
    latents = pipe(
        prompt_embeds=embeds,
        pooled_prompt_embeds=pooled,
        negative_prompt_embeds=negative,
        negative_pooled_prompt_embeds=negative_pooled,
        latents=noise,
        height=32,
        width=32,
        num_inference_steps=2,
        guidance_scale=3.0,
        output_type="latent",
    ).images
    wanted = decode(stage.vae, latents).numpy()
    assert found.shape == wanted.shape == (1, 32, 32, 3)
    assert np.abs(found.astype(int) - wanted).max() <= 1 and wanted.std() > 1


def test_the_persons_picture_the_caption_and_the_negative_count(stage: Stage) -> None:
    given = rows()
    made = stage(given, SETTINGS, 2)
    assert stage.pack.asked == 1  # type: ignore[attr-defined]  # once for a person's rows
    assert made["caption_cut"].tolist() == [0, 0, 0]
    alone = stage({name: values[2:] for name, values in given.items()}, SETTINGS, 2)["visible"]
    assert np.array_equal(alone[0], made["visible"][2])
    changed = {**given, "reference": np.where(given["reference"] > 0, 255 - given["reference"], 0).astype(np.uint8)}
    other = stage(changed, SETTINGS, 2)["visible"]
    same = (other == made["visible"]).reshape(3, -1).all(axis=1)
    assert same.tolist() == [False, False, True]
    # Nobody is shown where the column is not there.
    words = {name: given[name] for name in ("caption", "noise_id")}
    assert np.array_equal(stage(words, SETTINGS, 2)["visible"][2], made["visible"][2])
    for settings in (SETTINGS.model_copy(update={"negative": "a hat"}), SETTINGS.model_copy(update={"guidance": 1.0})):
        assert not np.array_equal(stage(given, settings, 2)["visible"], made["visible"])


def test_a_lora_is_fused_and_guidance_acts_within_its_interval(stage: Stage, part: Path, tmp_path: Path) -> None:
    layer, given = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", rows(1)
    out, inner = stage.unet.get_submodule(layer).weight.shape
    factors = {"A": torch.full((2, inner), 0.3), "B": torch.linspace(-1, 1, 2 * out).view(out, 2)}
    save_file({f"unet.{layer}.lora_{name}.weight": one for name, one in factors.items()}, str(tmp_path / LORA_FILE))
    fused = Stage({"model": part, "faces": part, "lora": tmp_path}, Options())
    few = Settings(steps=1, guidance=1.0, scheduler="lcm")
    assert not np.array_equal(fused(given, few, 1)["visible"], stage(given, few, 1)["visible"])
    # Of three steps guidance acts in all, none or the first.
    three = SETTINGS.model_copy(update={"steps": 3})
    intervals: tuple[dict[str, Any], ...] = (
        {}, {"guidance": 1.0}, {"guidance_interval": (0.0, 0.0)}, {"guidance_interval": (0.5, 1.0)},
    )  # fmt: skip
    guided, alone, nowhere, early = (stage(given, three.model_copy(update=one), 1)["visible"] for one in intervals)
    assert np.array_equal(nowhere, alone)
    assert not np.array_equal(early, alone) and not np.array_equal(early, guided)


def test_what_a_lora_is_asked_for_without_one_is_refused() -> None:
    with pytest.raises(UserError, match="options.lora_scale: the part has no LoRA"):
        columns(Options(lora_scale=0.5), Settings(), {})
    assert columns(Options(), Settings(portrait=True), {}).reads == ("caption", "noise_id", "reference")


def test_refused_faces_are_named_each_by_its_row_and_the_others_drawn(stage: Stage) -> None:
    given, rng = rows(5), np.random.default_rng(1)
    given["reference"][1] = rng.integers(201, 255, (32, 32, 3))
    given["reference"][3] = 90
    given["reference"][4] = rng.integers(0, 40, (32, 32, 3))
    made, found, reasons = survivors(
        lambda few: stage(few, SETTINGS, 2), {**given, "sample_id": given["noise_id"]}, "visible"
    )
    assert found.tolist() == [0, 2] and reasons[0] == reasons[2] == ""
    assert reasons[1].startswith("reference: no face was found; give a photograph with one")
    assert reasons[3].startswith("reference: a picture in grey, sepia or a palette")
    assert reasons[4].startswith("reference: 2 faces were found")
    alone = stage({name: values[:1] for name, values in given.items()}, SETTINGS, 2)["visible"]
    assert np.array_equal(made["visible"][0], alone[0])


def test_a_crop_is_read_as_a_crop_though_it_is_the_reference_as_well(stage: Stage) -> None:
    bright = np.random.default_rng(1).integers(201, 255, (1, 448, 448, 3), dtype=np.uint8)
    given = {**{name: values[:1] for name, values in rows().items()}, "crop": bright}
    alone = stage({name: given[name] for name in ("caption", "noise_id", "crop")}, SETTINGS, 1)["visible"]
    assert stage.pack.asked == 0  # type: ignore[attr-defined]
    # In which as a reference no face is found.
    assert np.array_equal(stage({**given, "reference": bright}, SETTINGS, 1)["visible"], alone)
    assert stage.pack.asked == 1  # type: ignore[attr-defined]


def test_the_negative_is_encoded_once_and_only_where_it_guides(stage: Stage) -> None:
    encoded = list[int]()
    stage.encoder.face_clip_l.register_forward_hook(lambda _, given, out: encoded.append(len(given[1])))
    given = rows()
    stage(given, SETTINGS, 2)
    assert encoded == [2, 1, 2]
    stage(given, SETTINGS, 2)
    assert encoded[3:] == [2, 2]
    stage(given, SETTINGS.model_copy(update={"negative": "a hat"}), 2)
    stage(given, SETTINGS.model_copy(update={"guidance": 1.0}), 2)
    assert encoded[5:] == [2, 1, 2, 2, 2]


def test_a_negative_that_would_be_cut_is_refused() -> None:
    assert count_cut([NEGATIVE]).tolist() == [0]
    with pytest.raises(
        UserError, match="negative: 82 tokens with start and end, and the encoder reads 77; shorten it by 5"
    ):
        columns(Options(), Settings(negative="man " * 80), {})
    columns(Options(), Settings(negative="man " * 75), {})


def test_a_unet_of_another_encoder_is_refused(part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Pack", Faces)
    small_unet(width=48).save_pretrained(str(tmp_path / "unet"))
    with pytest.raises(EnvironmentFault, match="cross_attention_dim 48 instead of 40"):
        Stage({"model": part, "faces": part, "unet": tmp_path / "unet"}, Options())
