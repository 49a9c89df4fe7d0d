"""FaceCLIP's encoder: every equation against an independent form of it, the published names, and what has no influence."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel

from models.visible.faceclip.config import TextConfig
from models.visible.faceclip.deformable import DeformableAttention
from models.visible.faceclip.encoder import Branch, FaceClip
from models.visible.faceclip.fuser import Fuser, FusionLayer, TextLayer
from models.visible.faceclip.vit import FaceVit, resize_faces

from .small import CONFIG, disturb, small_faceclip, small_inputs

PUBLISHED = "97e88813c9d2d808463859c5d165e1ec1220b1af9c61548dadd2365cd46801b9"
"""SHA-256 of the published file's `name shape` lines, in its order."""


@pytest.fixture(scope="module")
def model() -> FaceClip:
    return small_faceclip()


def near(found: Tensor, wanted: Tensor, tolerance: float = 2e-6) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * max(1.0, float(wanted.abs().max()))


def attend(weight: Tensor, bias: Tensor | None, out: nn.Linear, heads: int) -> Callable[..., Tensor]:
    """Return torch's own attention with these weights."""
    attention = nn.MultiheadAttention(out.in_features, heads, batch_first=True).eval()
    attention.in_proj_weight.data = weight.data
    attention.in_proj_bias.data = torch.zeros(len(weight)) if bias is None else bias.data
    attention.out_proj.load_state_dict(out.state_dict())
    return lambda q, k, v, **kw: attention(q, k, v, need_weights=False, **kw)[0]


def names(model: nn.Module) -> str:
    lines = (f"{name} {tuple(value.shape)}\n" for name, value in model.state_dict().items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_names_and_shapes_are_the_published_ones_in_their_order() -> None:
    with torch.device("meta"):
        model = FaceClip()
    assert len(model.state_dict()) == 1686
    assert sum(each.numel() for each in model.parameters()) == 1_573_346_948
    assert sum(each.numel() for each in model.buffers()) == 5_124
    assert names(model) == PUBLISHED
    # At full size on no memory at all.
    embeds, pooled = model(
        torch.zeros(2, 3, 448, 448, device="meta"),
        torch.zeros(2, 77, dtype=torch.long, device="meta"),
        torch.zeros(2, dtype=torch.bool, device="meta"),
    )
    assert (embeds.shape, pooled.shape) == ((2, 77, 2048), (2, 1280))


def test_faces_are_resized_without_antialiasing() -> None:
    faces = torch.rand(2, 3, 448, 448)
    corners = faces.unfold(2, 4, 4).unfold(3, 4, 4)[..., 1:3, 1:3]
    near(resize_faces(faces, torch.float32), corners.mean((-1, -2)))
    same = torch.rand(1, 3, 112, 112)
    assert torch.equal(resize_faces(same, torch.float32), same)


def read_faces(vit: FaceVit, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Return patches and vectors as the equations say."""
    cut = faces[..., :108, :108].unfold(2, 9, 9).unfold(3, 9, 9).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    x = cut @ vit.patch_embed.proj.weight.flatten(1).T + vit.patch_embed.proj.bias + vit.pos_embed
    for block in vit.blocks:
        read = block.norm1(x)
        x = x + attend(block.attn.qkv.weight, None, block.attn.proj, block.attn.heads)(read, read, read)
        x = x + block.mlp.fc2(block.mlp.fc1(block.norm2(x)).clamp(0, 6))
    patches = F.layer_norm(x, x.shape[-1:], vit.norm.weight, vit.norm.bias, 1e-5)
    x = patches.flatten(1)
    for linear, norm in (vit.feature[:2], vit.feature[2:]):
        x = (x @ linear.weight.T - norm.running_mean) / (norm.running_var + 2e-5).sqrt() * norm.weight + norm.bias
    return patches, x


@torch.no_grad()
def test_the_face_vit(model: FaceClip) -> None:
    faces, _, _ = small_inputs()
    faces[:, :, 50:60] *= 8  # so that ReLU6 has something to cut
    found, wanted = model.face_clip_l.face_encoder(faces), read_faces(model.face_clip_l.face_encoder, faces)
    near(found.patches, wanted[0])
    near(found.vector, wanted[1])
    # The last four rows and columns are in no patch.
    faces[..., 108:, :], faces[..., 108:] = 0, 0
    assert torch.equal(model.face_clip_l.face_encoder(faces).patches, found.patches)


def clip_of(branch: Branch, text: TextConfig) -> CLIPTextModel:
    """Return transformers' CLIP with the weights of a branch's tower."""
    width = text.width
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49_408,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=text.layers,
            num_attention_heads=text.heads,
            max_position_embeddings=77,
            hidden_act="quick_gelu" if text.quick_gelu else "gelu",
            bos_token_id=49_406,
            eos_token_id=49_407,
            pad_token_id=0,
        )
    ).eval()
    state = {
        "embeddings.token_embedding.weight": branch.token_embedding.weight,
        "embeddings.position_embedding.weight": branch.positional_embedding,
        "final_layer_norm.weight": branch.ln_final.weight,
        "final_layer_norm.bias": branch.ln_final.bias,
    }
    for k, block in enumerate(branch.transformer.resblocks):
        layer = f"encoder.layers.{k}."
        for kind in ("weight", "bias"):
            thirds = getattr(block.attn, f"in_proj_{kind}").chunk(3)
            for name, third in zip("qkv", thirds, strict=True):
                state[f"{layer}self_attn.{name}_proj.{kind}"] = third
            state[f"{layer}self_attn.out_proj.{kind}"] = getattr(block.attn.out_proj, kind)
            state[f"{layer}layer_norm1.{kind}"] = getattr(block.ln_1, kind)
            state[f"{layer}layer_norm2.{kind}"] = getattr(block.ln_2, kind)
            state[f"{layer}mlp.fc1.{kind}"] = getattr(block.mlp.c_fc, kind)
            state[f"{layer}mlp.fc2.{kind}"] = getattr(block.mlp.c_proj, kind)
    clip.load_state_dict(state)
    return clip


@pytest.mark.parametrize("branch", ["l", "g"])
@torch.no_grad()
def test_the_text_towers_are_clips(model: FaceClip, branch: str) -> None:
    tower, text = getattr(model, f"face_clip_{branch}"), getattr(CONFIG, branch)
    _, ids, _ = small_inputs()
    clip, vectors = clip_of(tower, text), torch.randn(2, 12)
    plain = clip(input_ids=ids)
    found, pooled = tower.read_text(ids, vectors, torch.tensor([False, False]))
    near(found, plain.last_hidden_state)
    near(pooled, plain.pooler_output)
    # With the face's vector in the table, as a word that stands nowhere else.
    identity = tower.proj1(vectors[0] / (vectors[0] ** 2).sum().sqrt())
    clip.embeddings.token_embedding.weight[49_000] = identity
    ids[0, 4] = 49_000
    wanted = clip(input_ids=ids).last_hidden_state
    ids[0, 4] = 1014
    near(tower.read_text(ids, vectors, torch.tensor([True, False]))[0], wanted)


def fuse(layer: FusionLayer, face: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Return face and text of a fusion, head by head in float64."""
    v, l = layer.layer_norm_v(face).double(), layer.layer_norm_l(text).double()  # noqa: E741
    attn, heads = layer.attn.double(), layer.attn.heads
    ask, key, value_v, value_l = (
        each.chunk(heads, -1) for each in (attn.v_proj(v), attn.l_proj(l), attn.values_v_proj(v), attn.values_l_proj(l))
    )
    to_v, to_l = [], []
    for q, k, own, said in zip(ask, key, value_v, value_l, strict=True):
        scores = torch.einsum("bpc,btc->bpt", q, k) / q.shape[-1] ** 0.5
        to_v.append(torch.softmax(scores, 2) @ said)
        to_l.append(torch.softmax(scores, 1).transpose(1, 2) @ own)
    new_face = v + layer.gamma_v * attn.out_v_proj(torch.cat(to_v, -1))
    new_text = l + layer.gamma_l * attn.out_l_proj(torch.cat(to_l, -1))
    attn.float()
    return new_face.float(), new_text.float()


def sample(layer: DeformableAttention, query: Tensor, value: Tensor) -> Tensor:
    """Return deformable attention by scipy's interpolation, patch by patch."""
    batch, patches, width = value.shape
    values = layer.value_proj(value).view(batch, 12, 12, layer.heads, -1).numpy()
    offsets = layer.sampling_offsets(query).view(batch, patches, layer.heads, layer.points, 2).numpy()
    weights = layer.attention_weights(query).view(batch, patches, layer.heads, layer.points).softmax(-1).numpy()
    row, column = np.divmod(np.arange(patches), 12)
    out = np.zeros((batch, patches, layer.heads, width // layer.heads), np.float32)
    for b, head, point in np.ndindex(batch, layer.heads, layer.points):
        move = offsets[b, :, head, point]
        places = np.stack([row + move[:, 1], column + move[:, 0]])
        for channel in range(out.shape[-1]):
            read = map_coordinates(values[b, :, :, head, channel], places, order=1, mode="grid-constant", cval=0)
            out[b, :, head, channel] += weights[b, :, head, point] * read
    return layer.output_proj(torch.from_numpy(out.reshape(batch, patches, width)))


def read_text_layer(layer: TextLayer, text: Tensor, position: Tensor) -> Tensor:
    attention = attend(layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias, layer.self_attn.out_proj, 2)
    text = layer.norm1(text + attention(text + position, text + position, text))
    return layer.norm2(text + layer.linear2(layer.linear1(text).clamp(min=0)))


@torch.no_grad()
def test_the_fuser_layer_by_layer() -> None:
    fuser = Fuser(16, CONFIG.fuser).eval()
    disturb(fuser)
    for layer in fuser.encoder.layers:
        layer.self_attn.sampling_offsets.bias *= 8  # some points lie outside the grid
    text, face = torch.randn(2, 77, 16), torch.randn(2, 144, 16)
    text_position, face_position = torch.randn(1, 77, 16), torch.randn(1, 144, 16)
    found = fuser(text, face, text_position, face_position)
    for face_layer, text_layer, fusion in zip(
        fuser.encoder.layers, fuser.encoder.text_layers, fuser.encoder.fusion_layers, strict=True
    ):
        given = fusion(face, text)
        face, text = fuse(fusion, face, text)
        near(given[0], face)
        near(given[1], text)
        text = read_text_layer(text_layer, text, text_position)
        moved = sample(face_layer.self_attn, face + face_position, face)
        near(face_layer.self_attn(face + face_position, face), moved)
        face = face_layer.norm1(face + moved)
        face = face_layer.norm2(face + face_layer.linear2(face_layer.linear1(face).clamp(min=0)))
    near(found, text, 5e-6)


@torch.no_grad()
def test_both_branches_are_laid_together_l_first(model: FaceClip) -> None:
    faces, ids, has_face = small_inputs(3, size=150)
    found, pooled = model(faces, ids, has_face)
    assert found.shape == (3, 77, 16 + 24) and pooled.shape == (3, 24)
    small, wanted = F.interpolate(faces, (112, 112), mode="bilinear"), []
    for branch in (model.face_clip_l, model.face_clip_g):
        patches, vector = read_faces(branch.face_encoder, small)
        read, last = branch.read_text(ids, vector, has_face)
        wanted.append(
            branch.fuser(
                branch.text_embed_proj(read),
                branch.face_patch_proj(patches),
                branch.text_pos_proj(branch.positional_embedding)[None],
                branch.face_pos_proj(branch.face_encoder.pos_embed),
            )
        )
    near(found, torch.cat(wanted, -1), 5e-6)
    near(pooled, last)


@torch.no_grad()
def test_only_the_prefixs_id_of_a_row_with_a_face_stands_for_it(model: FaceClip) -> None:
    faces, ids, has_face = small_inputs(3)
    _, pooled = model(faces, ids, has_face)
    _, other = model(1 - faces, ids, has_face)
    # The pooled vector knows of the face through that word alone.
    assert (pooled != other).any(-1).tolist() == [True, True, False]
    ids[:, 4] = 320  # the caption's own `id` stays a word
    assert torch.equal(model(faces, ids, has_face)[1], model(1 - faces, ids, has_face)[1])


@torch.no_grad()
def test_neighbours_change_a_row_by_rounding_alone(model: FaceClip) -> None:
    faces, ids, has_face = small_inputs(3)
    together = model(faces, ids, has_face)
    for row in range(3):
        alone = model(faces[row : row + 1], ids[row : row + 1], has_face[row : row + 1])
        near(alone[0][0], together[0][row], 5e-6)
        near(alone[1][0], together[1][row])


def test_what_has_no_influence(model: FaceClip) -> None:
    faces, ids, has_face = small_inputs()
    embeds, pooled = model(faces, ids, has_face)
    ((embeds**2).sum() + (pooled**2).sum()).backward()
    dead = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
    last = "fuser.encoder.fusion_layers.1"
    for branch in ("face_clip_l.", "face_clip_g."):
        own = {name.removeprefix(branch) for name in dead if name.startswith(branch)}
        face_layer = {name for name in own if name.startswith("fuser.encoder.layers.1.")}
        assert len(face_layer) == 16
        assert own - face_layer == {
            *("text_projection", "logit_scale", "logit_bias", "face_encoder.mask_token"),
            *(f"fuser.enc_output{name}" for name in (".weight", ".bias", "_norm.weight", "_norm.bias")),
            f"{last}.gamma_v",
            *(f"{last}.attn.{name}.{kind}" for name in ("values_l_proj", "out_v_proj") for kind in ("weight", "bias")),
        }


@torch.no_grad()
def test_equal_vits_are_kept_once_and_run_once() -> None:
    model = small_faceclip()
    keys = list(model.state_dict())
    assert not model.share_face_encoder() and not model.shares_face_encoder
    model.face_clip_g.face_encoder.load_state_dict(model.face_clip_l.face_encoder.state_dict())
    inputs = small_inputs()
    before = model(*inputs)
    runs: list[object] = []
    model.face_clip_l.face_encoder.register_forward_hook(lambda *_: runs.append(0))
    assert model.share_face_encoder()
    after = model(*inputs)
    assert len(runs) == 1 and torch.equal(before[0], after[0]) and list(model.state_dict()) == keys


@torch.no_grad()
def test_a_kept_vit_becomes_two_when_two_are_loaded() -> None:
    model, other = small_faceclip(), small_faceclip()
    different = other.state_dict()
    equal = {k: different[k.replace("face_clip_g.face_encoder", "face_clip_l.face_encoder")].clone() for k in different}
    model.load_state_dict(equal, strict=True)
    assert model.share_face_encoder()
    model.load_state_dict(equal, strict=True)
    assert model.shares_face_encoder
    model.load_state_dict(different, strict=True)
    assert not model.shares_face_encoder
    assert all(torch.equal(value, different[key]) for key, value in model.state_dict().items())
    assert torch.equal(model(*small_inputs())[0], other(*small_inputs())[0])


@torch.no_grad()
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-5), (torch.bfloat16, 0.1)])
def test_all_is_computed_in_the_weights_type(model: FaceClip, kind: torch.dtype, tolerance: float) -> None:
    """Weights that bfloat16 can say, faces in float32."""
    state = {k: v.bfloat16() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    exact, narrow = FaceClip(CONFIG), FaceClip(CONFIG)
    exact.load_state_dict(state, strict=True)
    narrow.load_state_dict(state, strict=True)
    for wanted, found in zip(exact(*small_inputs()), narrow.to(kind)(*small_inputs())):
        assert found.dtype == kind
        near(found.float(), wanted, tolerance)


def test_frozen_towers_stay_in_evaluation(model: FaceClip) -> None:
    assert not any(module.training for module in model.modules())
    model.train()
    assert not model.face_clip_l.face_encoder.feature[1].training
    assert not any(block.training for block in model.face_clip_g.transformer.modules())
    assert model.face_clip_g.fuser.encoder.text_layers[0].training
    model.eval()


@torch.no_grad()
def test_regions_of_the_released_precision(model: FaceClip) -> None:
    inputs = small_inputs()
    exact = model(*inputs)
    kinds: dict[str, torch.dtype] = {}
    hooks = [
        module.register_forward_hook(lambda _, given, out, name=name: kinds.update({name: getattr(out, "dtype", None)}))
        for name, module in model.face_clip_l.named_modules()
    ]
    model.precision = "released"
    embeds, pooled = model(*inputs)
    model.precision = "float32"
    for hook in hooks:
        hook.remove()
    assert (embeds.dtype, pooled.dtype) == (torch.float32, torch.bfloat16)
    half, brain, full = torch.float16, torch.bfloat16, torch.float32
    wanted = {
        "face_encoder.patch_embed.proj": brain,
        "face_encoder.blocks.0.attn.qkv": half,
        "face_encoder.blocks.1.attn.proj": half,
        "face_encoder.blocks.0.mlp.fc2": half,
        "face_encoder.norm": full,
        "face_encoder.feature.0": brain,
        "proj1": brain,
        "transformer.resblocks.0.ln_1": brain,
        "transformer.resblocks.1.mlp.c_proj": brain,
        "ln_final": brain,
        "text_embed_proj": brain,
        "face_patch_proj": brain,
        "face_pos_proj": brain,
        "text_pos_proj": brain,
        "fuser.encoder.layers.0.self_attn.value_proj": full,
        "fuser.encoder.text_layers.0.linear1": full,
    }
    assert {name: kinds[name] for name in wanted} == wanted
    error = (embeds - exact[0]).pow(2).mean().sqrt() / exact[0].std()
    assert 1e-4 < error < 0.03


def test_a_trainings_autocast_stays_what_it_is(model: FaceClip) -> None:
    learner = small_faceclip().train()
    kinds = set[torch.dtype]()
    for module in learner.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _, given, out: kinds.add(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        embeds, pooled = learner(*small_inputs())
    assert kinds == {torch.bfloat16}
    (embeds.float().sum() + pooled.float().sum()).backward()
    gradient = learner.face_clip_l.fuser.encoder.layers[0].self_attn.value_proj.weight.grad
    assert gradient is not None and gradient.isfinite().all() and gradient.abs().max() > 0


def test_faces_that_are_no_floats_are_refused_at_once(model: FaceClip) -> None:
    faces, ids, has_face = small_inputs()
    with pytest.raises(TypeError, match="faces are torch.uint8; give floats in"):
        model((faces * 255).to(torch.uint8), ids, has_face)
