"""Training of translator and classifiers: what rows become, what is drawn, what learns, what is exported."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.attributes import ATTRIBUTES
from models.card import Card
from models.columns import Columns
from models.diffusion.process import DiscreteProcess
from models.diffusion.schedulers import new_scheduler
from models.errors import UserError
from models.faces.align import align, five_points
from models.faces.metrics import unit_vectors
from models.faces.pack import Pack
from models.landmarks.intensity import show_thermal
from models.tasks import attributes
from models.tasks.translation import task as translator
from models.tasks.translation.rows import draw_told
from models.temperature import fill, from_grey
from models.thermal.latent.autoencoder import AutoencoderConfig, new_autoencoder, save_autoencoder
from models.translation import label_maps
from models.translation.attributes import ClassifierConfig, load_classifier
from models.translation.network import load_translator
from models.visible.autoencoder import new_vae
from models.visible.autoencoder import save_autoencoder as save_vae
from tests.models.translation.tiny import SHAPE

SIDE = 32
SMALL = {"side": 32, "widths": (8, 16), "cells": 2}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> translator.Config:
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    save_vae(new_vae(8, (1, 1, 1, 1)), folder / "visible")
    save_autoencoder(new_autoencoder(AutoencoderConfig(width=8)), folder / "thermal")
    for modality in ("visible", "thermal"):
        own = attributes.Config(network=ClassifierConfig(modality=modality, **SMALL))  # type: ignore[arg-type]
        attributes.export(attributes.build(own), own, folder / modality / "attributes", Card(title="", task=""))
    return translator.Config(
        vae=str(folder / "visible"),
        autoencoder=str(folder / "thermal"),
        attributes=str(folder / "visible" / "attributes"),
        thermal_attributes=str(folder / "thermal" / "attributes"),
        size=SIDE,
        shape=SHAPE,
        low_noise=1.0,
        looked_at=1,
    )


def rows(count: int = 4) -> Columns:
    rng = np.random.default_rng(0)
    celsius = rng.normal(30, 4, (count, SIDE, SIDE)).astype(np.float32)
    celsius[0, 3, 3] = np.nan
    words = [
        {name: known[rng.integers(len(known))] for name, (_, _, known) in ATTRIBUTES.items()} for _ in range(count)
    ]
    words[0]["pose"] = "turned left"
    return {
        "visible": rng.integers(0, 255, (count, SIDE, SIDE, 3), np.uint8),
        "classes": rng.integers(0, 19, (count, SIDE, SIDE)).astype(np.uint8),
        "thermal": celsius,
        "attributes": np.array([json.dumps(row) for row in words], object),
        "landmarks_70": rng.uniform(4, 28, (count, 70, 2)).astype(np.float32),
        "row": np.arange(count),
        "draw": np.arange(count) + 7,
    }


def test_a_mirrored_row_is_the_row_of_the_mirrored_picture(config: translator.Config) -> None:
    process = DiscreteProcess.of(new_scheduler())
    always, never = (config.model_copy(update={"flip": share, "grey": 0.5}) for share in (1.0, 0.0))
    flipped = rows()
    for name in ("visible", "classes", "thermal"):
        flipped[name] = np.ascontiguousarray(flipped[name][:, :, ::-1])
    one = translator.draw_rows(translator.prepare(rows(), config), always, process, range(4))
    other = translator.draw_rows(translator.prepare(flipped, config), never, process, range(4))
    for name in ("latents", "thermal", "weight", "noise", "timesteps"):
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=2e-3), name
    assert one.words[0]["pose"] == "turned right" and other.words[0]["pose"] == "turned left"


def test_rows_are_told_some_attributes_all_or_none(config: translator.Config) -> None:
    words = json.loads(rows()["attributes"][1])
    told = [draw_told(np.random.default_rng(k), words, config) for k in range(1000)]
    assert abs(np.mean([not row for row in told]) - config.tell_nothing) < 0.05
    assert abs(np.mean([len(row) / 15 for row in told if row]) - config.tell) < 0.03
    assert all(words[name] == word for row in told for name, word in row.items())


def test_a_share_is_seen_as_grey_levels(config: translator.Config) -> None:
    """Grey levels forget the picture's own degrees: 10 kelvin more change nothing."""
    process = DiscreteProcess.of(new_scheduler())
    grey = config.model_copy(update={"grey": 1.0})
    warmer = rows() | {"thermal": rows()["thermal"] + 10}
    one, other = (
        translator.draw_rows(translator.prepare(r, config), grey, process, range(4)) for r in (rows(), warmer)
    )
    assert torch.allclose(one.thermal, other.thermal, atol=2e-2)
    plain = translator.draw_rows(
        translator.prepare(warmer, config), config.model_copy(update={"grey": 0.0}), process, range(4)
    )
    assert not torch.allclose(plain.thermal, other.thermal, atol=0.1)


@pytest.mark.slow
def test_the_loss_falls_and_the_part_loads_again(config: translator.Config, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = translator.build(config)
    batch = rows() | translator.prepare(rows(), config)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    first = translator.loss(model, batch, config, 0)[0].item()
    for step in range(8):
        error, metrics = translator.loss(model, batch, config, step)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error.item() < 0.95 * first
    assert "attributes" in metrics and all(p.grad is not None for p in model.guide.parameters())
    with torch.inference_mode():
        assert translator.validate(model, [rows()], config)["score"] < 0
        assert translator.pictures(model, rows(), config).shape == (2 * SIDE, 4 * SIDE, 3)
    # The exported folder is a part, and a start for another training.
    translator.export(model, config, tmp_path, Card(title="", task=""))
    assert load_translator({"model": tmp_path}).attributes is not None
    again = translator.build(config)
    translator.begin(again, tmp_path)
    for one, other in zip(again.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other.half().float())


def test_what_is_read_in_the_prediction_teaches_the_denoiser(config: translator.Config) -> None:
    """The attribute loss alone has a gradient in the U-Net, and none where no classifier is named."""
    model = translator.build(config)
    batch = rows() | translator.prepare(rows(), config)

    def gradient(consistency: float) -> torch.Tensor:
        model.zero_grad()
        translator.loss(model, batch, config.model_copy(update={"consistency": consistency}), 0)[0].backward()
        found = model.unet.conv_out.weight.grad
        assert found is not None
        return found.clone()

    assert not torch.allclose(gradient(0.0), gradient(5.0), rtol=1e-3)


def test_a_critic_learns_beside_and_has_its_say_from_its_step_on(config: translator.Config, tmp_path: Path) -> None:
    against = config.model_copy(
        update={"adversarial": 0.6, "adversarial_from": 5, "critic": 8, "consistency": 0.0, "looked_at": 4}
    )
    torch.manual_seed(0)
    model = translator.build(against)
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    batch = rows() | translator.prepare(rows(), against)

    def gradients(step: int, told: translator.Config) -> tuple[torch.Tensor, torch.Tensor | None, dict[str, float]]:
        model.zero_grad()
        error, metrics = translator.loss(model, batch, told, step)
        error.backward()
        judged = model.critic.layers[0].parametrizations.weight.original.grad
        return model.unet.conv_out.weight.grad.clone(), judged, metrics

    silent, judged, metrics = gradients(4, against)
    # Before its step it learns, and the translator hears nothing of it.
    assert judged is not None and judged.abs().sum() > 0 and metrics["critic"] > 0
    unheard = gradients(4, against.model_copy(update={"adversarial": 100.0}))[0]
    assert torch.allclose(silent, unheard, rtol=1e-3, atol=1e-7)
    assert not torch.allclose(silent, gradients(5, against)[0], rtol=1e-2, atol=1e-5)
    # What is exported is the translator alone.
    translator.export(model, against, tmp_path, Card(title="", task=""))
    translator.begin(translator.build(config), tmp_path)


def test_an_autoencoder_has_to_be_named(config: translator.Config) -> None:
    with pytest.raises(UserError, match="train thermal_vae"):
        translator.weights(config.model_copy(update={"autoencoder": ""}))
    assert len(translator.weights(config)) == 4


@pytest.mark.parametrize("modality", ["visible", "thermal"])
def test_a_classifier_learns_and_knows_how_frequent_words_are(modality: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = attributes.Config(network=ClassifierConfig(modality=modality, **SMALL), offset=0.1)  # type: ignore[arg-type]
    assert attributes.columns(config) == ("attributes", modality)
    model = attributes.build(config)
    batch = rows() | attributes.prepare(rows(), config)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    first = attributes.loss(model, batch, config, 0)[0].item()
    for step in range(1, 20):
        error, _ = attributes.loss(model, batch, config, step)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error.item() < 0.8 * first
    metrics = attributes.validate(model, [rows()], config)
    assert 0 <= metrics["score"] <= 1 and "majority_glasses" in metrics
    attributes.export(model, config, tmp_path, Card(title="", task=""))
    loaded = load_classifier(tmp_path)
    seen = [json.loads(text)["skin_tone"] for text in rows()["attributes"]]
    shares = torch.tensor([seen.count(word) / 4 for word in ATTRIBUTES["skin_tone"][2]])
    assert torch.allclose(loaded.prior("skin_tone"), shares, atol=1e-3)


def test_the_second_stage_learns_its_control_network_alone(config: translator.Config, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = config.model_copy(update={"consistency": 0.0})
    begun = translator.build(first)
    torch.nn.init.normal_(
        begun.unet.conv_out.weight, std=0.1
    )  # as if it had learnt: a fresh one is zero, and so its gradient
    translator.export(begun, first, tmp_path, Card(title="", task=""))
    shape = first.shape.model_copy(update={"control": True})
    second = first.model_copy(update={"shape": shape, "stage1": str(tmp_path)})
    model = translator.build(second)
    learning = {name.partition(".")[0] for name, p in model.guide.named_parameters() if p.requires_grad}
    assert learning == {"control"} and not any(p.requires_grad for p in model.unet.parameters())
    # It begins as the first stage, and has a gradient.
    batch = rows() | translator.prepare(rows(), second)
    process = DiscreteProcess.of(new_scheduler())
    drawn = translator.draw_rows(batch, second, process, range(4))
    translator.begin(begun, tmp_path)
    for one, other in zip(
        translator.prediction_error(begun, process, drawn),
        translator.prediction_error(model, process, drawn),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    translator.loss(model, batch, second, 0)[0].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.guide.control.parameters())
    with pytest.raises(UserError, match="frozen translator"):
        translator.weights(first.model_copy(update={"shape": shape}))


def test_rows_that_say_some_attributes_alone_teach_those(tmp_path: Path) -> None:
    """As gathered data do: the others keep their weights and shares, and nothing is NaN."""
    torch.manual_seed(0)
    config = attributes.Config(network=ClassifierConfig(**SMALL))  # type: ignore[arg-type]
    few = rows() | {"attributes": np.array(['{"sex": "man"}', "{}", '{"sex": "man"}', "{}"], object)}
    model = attributes.build(config)
    total, metrics = attributes.loss(model, few | attributes.prepare(few, config), config, 0)
    total.backward()
    heads = model.classifier.heads
    assert heads["sex"].weight.grad.abs().sum() > 0 and not heads["iris"].weight.grad.any()
    assert torch.isfinite(total) and metrics["iris"] == 0
    assert model.classifier.prior("sex").tolist() == [0, 1] and len(set(model.classifier.prior("iris").tolist())) == 1
    found = attributes.validate(model, [few], config)
    assert "accuracy_sex" in found and "accuracy_iris" not in found


def test_labels_of_public_data_are_words_of_ours() -> None:
    words = {name: known for name, (_, _, known) in ATTRIBUTES.items()}
    for name, yes, no in label_maps.CELEBA.values():
        assert yes in words[name] and (not no or no in words[name])
    row = {"Male": 1, "Young": -1, "Eyeglasses": -1, "Goatee": 1, "Mustache": 1, "Gray_Hair": 1, "Black_Hair": -1}
    assert label_maps.words_of_celeba(row) == {"sex": "man", "glasses": "none", "hair_colour": "grey"}
    assert label_maps.words_of_fairface({"age": "more than 70", "gender": "Female", "race": "Indian"}) == {
        "age": "elderly",
        "sex": "woman",
    }
    assert label_maps.words_of_fairface({"age": "0-2"}) == {}
    assert set(label_maps.FAIRFACE_AGES.values()) == set(words["age"])


STARTER = Path("models/starter")


def test_rows_are_told_whom_the_thermal_picture_shows(config: translator.Config) -> None:
    """By the recogniser that is named, of the picture and of its mirror image, in a share of the visits."""
    told = translator.Config(
        **{
            **config.model_dump(),
            "shape": SHAPE.model_copy(update={"identity": 512}),
            "recogniser": str(STARTER / "faces"),
            "unknown": 0.5,
        }
    )
    given = rows(16)
    batch = translator.prepare(given, told)
    expected = Pack(STARTER / "faces").embed(
        align(np.stack([show_thermal(fill(one)) for one in given["thermal"]]), five_points(given["landmarks_70"]))
    )
    assert np.allclose(batch["who"][:, 0], unit_vectors(expected), atol=2e-3)
    assert not np.allclose(batch["who"][:, 0], batch["who"][:, 1], atol=0.02)
    drawn = translator.draw_rows(batch, told, DiscreteProcess.of(new_scheduler()), range(16))
    assert drawn.who is not None
    assert 0 < (drawn.who.norm(dim=1) == 0).sum() < 16
    assert drawn.who.norm(dim=1).max() == pytest.approx(1, abs=1e-2)


def test_rows_are_told_whom_the_visible_picture_shows(config: translator.Config) -> None:
    """In the share `true_who`, with noise no longer than `who_noise`; the others are told what the thermal one shows."""
    told = translator.Config(
        **{
            **config.model_dump(),
            "shape": SHAPE.model_copy(update={"identity": 512}),
            "recogniser": str(STARTER / "faces"),
            "faces": str(STARTER / "faces"),
            "unknown": 0.0,
            "tell_nothing": 0.0,
            "flip": 0.0,
            "true_who": 1.0,
        }
    )
    given, process = rows(16), DiscreteProcess.of(new_scheduler())
    batch = translator.prepare(given, told)
    truth = Pack(STARTER / "faces").embed(align(given["visible"], five_points(given["landmarks_70"])))
    assert np.allclose(batch["true_who"][:, 0], unit_vectors(truth), atol=2e-3)

    def who(**changed: float) -> torch.Tensor:
        found = translator.draw_rows(batch, told.model_copy(update=changed), process, range(16)).who
        assert found is not None
        return found

    true, thermal = (torch.from_numpy(batch[name][:, 0]).float() for name in ("true_who", "who"))
    assert torch.allclose(who(), true, atol=1e-3)
    assert torch.allclose(who(true_who=0.0), thermal)
    # Noise of length 0.5 leaves an angle of asin(0.5) at most, and takes every row somewhere else.
    away = (who(who_noise=0.5) * true).sum(dim=1)
    assert away.min() > 0.86 and away.mean() < 0.99 and len(set(away.tolist())) == 16
    mixed = who(true_who=0.5)
    of_visible, of_thermal = ((mixed - one).norm(dim=1) < 0.02 for one in (true, thermal))
    assert (of_visible ^ of_thermal).all() and 0 < of_visible.sum() < 16


def test_an_identity_without_a_recogniser_is_refused(config: translator.Config) -> None:
    asked = config.model_copy(update={"shape": SHAPE.model_copy(update={"identity": 512})})
    with pytest.raises(UserError, match="name both, shape.identity=512"):
        translator.weights(asked)


def test_rows_of_a_published_set_have_grey_levels_and_no_points(config: translator.Config) -> None:
    """Grey levels are degrees of the translator's scale; where no face is found the picture is one; other words are not ours."""
    given, ends = rows(), config.shape.celsius
    levels = np.random.default_rng(5).integers(0, 256, given["thermal"].shape, np.uint8)
    nobody = np.full_like(given["landmarks_70"], np.nan)
    grey = {
        **given,
        "thermal": levels,
        "landmarks_70": nobody,
        "classes": np.full_like(given["classes"], 255),
        "attributes": np.array(['{"trial": "1", "pose": "2", "beard": "none"}'] * 4, object),
    }
    found = translator.prepare(grey, config)
    known = translator.prepare({**given, "thermal": from_grey(levels, ends)}, config)
    assert np.array_equal(found["thermal"], known["thermal"]) and (found["weight"] == 1).all()
    assert np.isfinite(found["align"]).all()
    # No face of noise: the crop is the whole picture.
    assert np.allclose(found["align"][0, 0] @ [16, 16, 1], [56, 56], atol=0.01)
    model = translator.build(config)
    value, _ = translator.loss(model, found | {"draw": np.arange(4)}, config, 0)
    assert torch.isfinite(value)
    assert translator.pictures(model, grey, config).shape[2] == 3
