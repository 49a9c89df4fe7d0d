"""Ways of telling a U-Net face and text: what each knows of, and what an adapter adds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.evaluation.faceclip import training
from models.evaluation.faceclip.ways import PLAIN, WAYS, Told, Way, tell
from models.visible.faceclip.tokenizer import PREFIX, tokenize
from tests.models.visible.faceclip.small import CONFIG, small_faceclip

CROPS = np.random.default_rng(0).integers(0, 255, (2, 112, 112, 3), dtype=np.uint8)
TEXTS = ["a woman with a hat", "a man"]
BOTH, NONE = np.ones(2, bool), np.zeros(2, bool)
ENCODER = small_faceclip()


def told(way: Way, crops: np.ndarray = CROPS, texts: list[str] = TEXTS, has_face: np.ndarray = BOTH) -> Told:
    return tell(way, ENCODER, crops, texts, has_face)


def apart(one: Told, other: Told) -> float:
    return float((one.embeds - other.embeds).abs().max())


def test_the_first_way_is_the_encoder_itself() -> None:
    ids = tokenize([PREFIX + text for text in TEXTS])
    faces = torch.from_numpy(CROPS).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        embeds, pooled = ENCODER(faces, ids, torch.from_numpy(BOTH))
    found = told("FaceCLIP")
    assert torch.equal(found.embeds, embeds) and torch.equal(found.pooled, pooled)


@pytest.mark.parametrize("way", WAYS)
def test_tokens_know_of_the_face_where_the_way_says_so(way: Way) -> None:
    other = told(way, crops=255 - CROPS)
    assert (apart(told(way), other) > 1e-3) == (way not in PLAIN)
    assert apart(told(way), told(way, texts=["a child", "a man"])) > 1e-3
    assert float((told(way).identity - other.identity).abs().max()) > 1e-3
    assert torch.allclose(told(way).identity.norm(dim=-1), torch.ones(2))
    assert not told(way, has_face=NONE).identity.any()


def test_what_is_taken_away_is_gone() -> None:
    full, alone = told("FaceCLIP"), told("L alone")
    width = CONFIG.l.width
    assert torch.equal(alone.embeds[..., :width], full.embeds[..., :width])
    assert not alone.embeds[..., width:].any() and not alone.pooled.any()
    # Without the id token the pooled vector of the text tower knows of no face; without the fuser it does.
    same = {way: torch.equal(told(way).pooled, told(way, crops=255 - CROPS).pooled) for way in WAYS}
    assert same["no id token"] and not same["no fuser"] and not same["FaceCLIP"]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Callable[[Way], training.Trained]:
    monkeypatch.setattr(training, "load_encoder", lambda folder: ENCODER)

    def build(way: Way) -> training.Trained:
        torch.manual_seed(0)
        shape = {"widths": (16, 32), "heads": (1, 2), "blocks": (1, 1)}
        model = training.build(training.Config(encoder="here", way=way, size=32, shape=shape))
        assert isinstance(model, training.Trained)
        return model

    return build


def test_all_ways_have_one_unet_and_the_adapter_learns_beside_it(
    build: Callable[[Way], training.Trained], tmp_path: Path
) -> None:
    plain, adapter = build("text alone"), build("adapter")
    assert plain.state_dict().keys() == build("FaceCLIP").state_dict().keys()
    added = adapter.state_dict().keys() - plain.state_dict().keys()
    assert added and all(name.split(".")[0] in ("projection", "adapter") for name in added)
    # All may begin with one U-Net, as their training does.
    torch.nn.init.normal_(plain.unet.conv_out.weight)
    plain.unet.save_pretrained(str(tmp_path / "unet"))
    training.begin(adapter, tmp_path)
    assert all(torch.equal(value, plain.unet.state_dict()[name]) for name, value in adapter.unet.state_dict().items())
    # A step's loss reaches the adapter.
    rng = np.random.default_rng(0)
    channels = adapter.unet.config.in_channels
    batch = {
        "latents": rng.standard_normal((2, channels, 4, 4), np.float32),
        "weight": np.ones((2, 4, 4), np.float32),
        "crop": CROPS,
        "attributes": np.array(['{"hair_colour": "black"}'] * 2, object),
        "draw": np.array([3, 4]),
    }
    torch.nn.init.normal_(adapter.unet.conv_out.weight)
    value, _ = training.loss(adapter, batch, training.Config(encoder="here", way="adapter", size=32), 0)
    value.backward()  # type: ignore[no-untyped-call]
    assert adapter.adapter.layers[0].to_v.weight.grad.abs().max() > 0


def test_what_is_drawn_follows_from_the_rows_name_and_face(
    build: Callable[[Way], training.Trained], tmp_path: Path
) -> None:
    model = build("FaceCLIP").eval()
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    config = training.Config(encoder="here", size=32)

    def draw(crops: np.ndarray, names: list[str], guidance: float = 2.0) -> np.ndarray:
        return training.draw_pictures(model, config, crops, TEXTS[: len(crops)], names, 2, guidance)

    both = draw(CROPS, ["a", "b"])
    assert both.shape == (2, 32, 32, 3) and both.dtype == np.uint8
    assert np.abs(draw(CROPS[:1], ["a"]).astype(int) - both[:1]).max() <= 1
    assert not np.array_equal(draw(CROPS[:1], ["c"])[0], both[0])
    assert not np.array_equal(draw(CROPS, ["a", "b"], 1.0), both)
