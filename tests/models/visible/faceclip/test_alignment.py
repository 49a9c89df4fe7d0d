"""FaceCLIP's alignment: the losses by their formulas, what learns, and what is measured."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.card import Card
from models.columns import Columns
from models.errors import UserError
from models.faces.align import align as crop
from models.faces.align import five_points
from models.faces.pack import Pack
from models.tasks.faceclip import align, clip, face
from models.tasks.faceclip.aligned import AlignedEncoder
from models.tasks.faceclip.asking import ask, find_pictures
from models.tasks.faceclip.rows import other_views, write_captions
from models.visible.faceclip.alignment import TRAINED, contrast, pair_rows
from models.visible.faceclip.clip import Clip, ClipConfig
from models.visible.faceclip.config import FuserConfig, TextConfig, VitConfig
from models.visible.faceclip.files import HEADS, load_encoder, save_clip, save_vit
from models.visible.faceclip.retrieval import choose_in_conflict, draw_others, recall_at_one
from models.visible.faceclip.text import TextTower
from models.visible.faceclip.vit import FaceVit
from models.weights.store import ROOT

from .small import disturb

TOWERS = ClipConfig(
    l=TextConfig(width=16, heads=2, layers=1, quick_gelu=True),
    g=TextConfig(width=24, heads=2, layers=1, quick_gelu=False),
    width=16,
    depth=1,
    heads=2,
)
FUSER = FuserConfig(layers=2, dim_feedforward=16, nhead=4, points=2)
PERSON, CAPTION = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 0, 0, 1, 2])


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_the_losses_are_their_formulas(kind: str) -> None:
    tower = TextTower(TOWERS.l)
    tower.logit_bias.data.fill_(-3)
    ours, theirs = (F.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    found = float(contrast(ours, theirs, pair_rows(PERSON, CAPTION), tower, kind).detach())  # type: ignore[arg-type]
    logits = (ours @ theirs.T).double().numpy() / 0.07
    total = 0.0
    for i in range(5):
        right = [j for j in range(5) if PERSON[i] == PERSON[j] and CAPTION[i] == CAPTION[j]]
        wrong = [j for j in range(5) if PERSON[i] != PERSON[j] and CAPTION[i] != CAPTION[j]]
        if kind == "sigmoid":
            total += sum(np.log1p(np.exp(-(logits[i, j] - 3))) for j in right)
            total += sum(np.log1p(np.exp(logits[i, j] - 3)) for j in wrong)
            continue
        for scores in (np.exp(logits[i]), np.exp(logits[:, i])):
            total -= np.log(scores[right].sum() / scores[right + wrong].sum()) / 2
    assert abs(found - total / 5) < 1e-4 * total


def test_one_in_common_is_neither_alike_nor_unlike() -> None:
    positive, ignored = pair_rows(PERSON, CAPTION)
    assert positive[0].tolist() == [True, True, False, False, False]
    assert ignored[2].tolist() == [True, True, False, True, False]
    assert not (positive & ignored).any()


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_rows_that_take_no_part_change_nothing(kind: str) -> None:
    tower = TextTower(TOWERS.l)
    ours, theirs = (F.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    pairs = pair_rows(PERSON, CAPTION)
    out = torch.tensor([False, True, False, False, True])
    without = out[:, None] | out
    masked = pairs._replace(positive=pairs.positive & ~without, ignored=pairs.ignored | without)
    few = pair_rows(PERSON[~out], CAPTION[~out])
    wanted = contrast(ours[~out], theirs[~out], few, tower, kind)  # type: ignore[arg-type]
    assert torch.isclose(contrast(ours, theirs, masked, tower, kind), wanted)  # type: ignore[arg-type]
    nobody = masked._replace(positive=torch.zeros_like(without), ignored=torch.ones_like(without))
    assert contrast(ours, theirs, nobody, tower, kind) == 0  # type: ignore[arg-type]


def rows(people: int = 3, views: int = 2) -> Columns:
    """Rows of people with pictures at random and five points that are somewhere in them."""
    draw, count = np.random.default_rng(0), people * views
    words = [
        {"sex": sex, "glasses": glasses} for sex in ("man", "woman") for glasses in ("none", "glasses", "sunglasses")
    ]
    return {
        "world_identity": np.repeat(np.arange(people), views),
        "view": np.tile(np.arange(views), people),
        "visible": draw.integers(0, 255, (count, 32, 32, 3), dtype=np.uint8),
        "landmarks_70": draw.uniform(8, 24, (count, 70, 2)).astype(np.float32),
        "attributes": np.array([json.dumps(words[k % 6]) for k in range(count)]),
        "row": np.arange(count),
        "draw": np.arange(count) + 5,
    }


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> align.Config:
    """The config of an alignment that begins with towers of random weights."""
    folder = tmp_path_factory.mktemp("towers")
    torch.manual_seed(0)
    vit = VitConfig(width=16, depth=1, heads=2, out=12)
    save_vit(FaceVit(vit), vit, folder)
    save_clip(Clip(TOWERS), folder)
    return align.Config(towers=str(folder), face=str(folder), fuser=FUSER, batch=6, drop_face=0.3)


@pytest.fixture(scope="module")
def model(begun: align.Config) -> AlignedEncoder:
    built = align.build(begun)
    assert isinstance(built, AlignedEncoder)
    # Fresh samplers look at no query, and no gradient passes them.
    for branch, _ in built.branches():
        disturb(branch.fuser)
    return built


def prepared(config: align.Config) -> Columns:
    given = rows()
    return {**align.prepare(given, config), "draw": given["draw"], "row": given["row"]}


def test_it_begins_with_the_towers_that_were_trained(begun: align.Config, model: AlignedEncoder) -> None:
    own = model.clip().l.state_dict()
    state = model.encoder.face_clip_l.state_dict()
    assert all(torch.equal(state[key], value) for key, value in own.items() if "logit" not in key)
    assert model.encoder.shares_face_encoder
    with pytest.raises(UserError, match="begins with towers=DIR and face=DIR"):
        align.build(align.Config(towers=begun.towers))
    with pytest.raises(ValueError, match="nothing would be learned"):
        align.Config(identity_weight=0, text_weight=0, image_weight=0)


@pytest.mark.parametrize(("kind", "target"), [("sigmoid", "caption"), ("softmax", "prefixed")])
def test_only_the_fusion_and_its_projections_learn(
    begun: align.Config, model: AlignedEncoder, kind: str, target: str
) -> None:
    config = begun.model_copy(update={"loss": kind, "text_target": target})
    model.train().zero_grad()
    value, terms = align.loss(model, prepared(config), config, 0)
    assert torch.isfinite(value) and set(terms) == {"identity", "text", "image"} and min(terms.values()) > 0
    assert abs(float(value.detach()) - sum(terms.values())) < 1e-4 * float(value.detach())
    value.backward()
    learning = {name for name, each in model.named_parameters() if each.requires_grad}
    moved = {name for name, each in model.named_parameters() if each.grad is not None and each.grad.any()}
    frozen = ("face_encoder", "transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")
    assert not {name for name in learning if any(part in name for part in frozen)}
    for branch in ("encoder.face_clip_l.", "encoder.face_clip_g."):
        assert all(any(name.startswith(branch + part) for name in moved) for part in (*TRAINED, "logit_scale"))
        assert any(name.startswith(f"{branch}fuser.encoder.layers.0.self_attn.value_proj") for name in moved)
        assert not any(name.startswith(f"{branch}fuser.encoder.layers.1.") for name in learning)


def test_what_is_measured(begun: align.Config, model: AlignedEncoder) -> None:
    with torch.inference_mode():
        found = align.validate(model.eval(), [rows()], begun)
    assert found["pictures"] == 6 and found["score"] == found["r1_joint"]
    assert {name for name in found if name.startswith("conflict_")} == {
        f"conflict_{name}" for name in ("joint", "face", "text", "sum")
    }
    assert all(0 <= value <= 1 for name, value in found.items() if name != "pictures")


def test_a_face_alone_and_a_text_alone_are_read_by_the_head_that_learned_of_them(
    begun: align.Config, model: AlignedEncoder
) -> None:
    data = prepared(begun)
    captions = write_captions(data["attributes"], data["row"], 0.0)
    with torch.inference_mode():
        vectors, _ = ask(model.eval(), data, data["crop"], captions)
    cut = 2 * 12  # vectors of identities of both branches, then those of texts and pictures
    assert not vectors["face"][:, cut:].any() and not vectors["text"][:, :cut].any()
    assert vectors["face"][:, :cut].any() and vectors["text"][:, cut:].any() and vectors["joint"].all()
    # Their sum is a row of its own: found by either, or by both at once.
    near = {name: vectors[name] @ vectors["image"].T for name in ("face", "text")}
    found = find_pictures(vectors)
    assert np.array_equal(found["r1_sum"], recall_at_one(near["face"] + near["text"]))


def test_an_encoder_is_not_aligned_to_the_towers_of_another(
    begun: align.Config, model: AlignedEncoder, tmp_path: Path
) -> None:
    align.export(model, begun, tmp_path / "encoder", Card(title="", task="faceclip"))
    torch.manual_seed(1)
    save_clip(Clip(TOWERS), tmp_path)
    with pytest.raises(UserError, match="has other text towers than"):
        align.build(align.Config(towers=str(tmp_path), encoder=str(tmp_path / "encoder"), fuser=FUSER))
    on = align.Config(towers=begun.towers, encoder=str(tmp_path / "encoder"), fuser=FUSER)
    assert isinstance(align.build(on), AlignedEncoder)


def test_the_encoder_is_written_with_its_heads(begun: align.Config, model: AlignedEncoder, tmp_path: Path) -> None:
    towers = tmp_path / "towers"
    shutil.copytree(begun.towers, towers)
    Card(title="", task="faceclip_clip", steps=7, command="thermapair train faceclip_clip").write(towers)
    told = begun.model_copy(update={"towers": str(towers)})
    align.export(model, told, tmp_path, Card(title="", task="faceclip"))
    # The card says what made the frozen parts, too.
    assert Card.read(tmp_path).history == ["7 steps, 0 min: thermapair train faceclip_clip"]
    found = load_encoder(tmp_path)
    assert found.config == model.encoder.config and found.shares_face_encoder and (tmp_path / HEADS).is_file()
    state = model.encoder.state_dict()
    assert all(torch.allclose(value, state[key], atol=2e-3) for key, value in found.state_dict().items())


def test_the_towers_are_trained_on_captions(tmp_path: Path) -> None:
    config = clip.Config(towers=TOWERS, batch=6, loss="sigmoid")
    model = clip.build(config)
    given = rows()
    batch = {**clip.prepare(given, config), "draw": given["draw"], "row": given["row"]}
    value, terms = clip.loss(model.train(), batch, config, 0)
    value.backward()
    assert torch.isfinite(value) and set(terms) == {"l", "g"}
    assert all(torch.isfinite(each.grad).all() for each in model.parameters() if each.grad is not None)
    with torch.inference_mode():
        found = clip.validate(model.eval(), [given], config)
    assert 0 <= found["score"] <= 1 and found["pictures"] == 6
    clip.export(model, config, tmp_path, Card(title="", task="faceclip_clip"))


def test_the_face_vit_is_trained_as_a_recogniser(tmp_path: Path) -> None:
    config = face.Config(vit=VitConfig(width=16, depth=1, heads=2), classes=3, bf16=False)
    model = face.build(config)
    batch = face.prepare(rows(), config)
    value, terms = face.loss(model.train(), {**batch, "draw": np.arange(6)}, config, 0)
    value.backward()
    assert torch.isfinite(value) and "accuracy" in terms
    with pytest.raises(ValueError, match="vectors of 512"):
        face.Config(vit=VitConfig(out=64))
    face.export(model, config, tmp_path, Card(title="", task="faceclip_face"))


def test_the_face_vit_learns_a_recognisers_embeddings() -> None:
    """What it is drawn to is what the pack says of the aligned crops; a step against the gradient comes nearer."""
    faces, given = ROOT / "models/starter/faces", rows()
    config = face.Config(vit=VitConfig(width=16, depth=1, heads=2), teacher=str(faces), bf16=False)
    batch = face.prepare(given, config)
    points = five_points(np.asarray(given["landmarks_70"], np.float32).reshape(-1, 70, 2))
    wanted = Pack(faces).embed(crop(given["visible"], points))
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(batch["wanted"], wanted, atol=1e-5)
    model = face.build(config)
    before, _ = face.loss(model.train(), {**batch, "draw": np.arange(6)}, config, 0)
    before.backward()
    optimizer = torch.optim.SGD(model.embedder.parameters(), 0.5)
    optimizer.step()
    after, _ = face.loss(model, {**batch, "draw": np.arange(6)}, config, 0)
    assert float(after.detach()) < float(before.detach()) <= 2


def test_what_is_nearest_is_found() -> None:
    similarity = np.array([[0.9, 0.1, 0.0], [0.8, 0.8, 0.1], [0.5, 0.1, 0.3]])
    assert recall_at_one(similarity).tolist() == [1.0, 0.5, 0.0]
    scores = np.array([[0.5, 0.5, 0.1, 0.1], [0.9, 0.1, 0.1, 0.1], [0.1, 0.2, 0.1, 0.1]])
    assert choose_in_conflict(scores).tolist() == [0.5, 1.0, 0.0]
    person, text = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 2])
    others = draw_others(person, text, seed=0)
    assert (person[others] != person).all() and (text[others] != text).all()
    with pytest.raises(ValueError, match="two people"):
        draw_others(np.zeros(2), np.arange(2), seed=0)


def test_the_face_that_is_asked_with_is_of_another_view() -> None:
    person, view = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 0, 1, 0, 4, 7])
    assert other_views(person, view)[[0, 1, 3, 4, 5]].tolist() == [2, 2, 3, 5, 4]
    assert view[other_views(person, view)[2]] == 0
