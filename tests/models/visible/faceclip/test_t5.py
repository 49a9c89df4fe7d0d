"""FaceT5's encoder: published names, T5 as transformers has it, and the fusion with plain attention of the face."""

import hashlib

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import T5Config as HfConfig
from transformers import T5EncoderModel

from models.visible.faceclip.config import FuserConfig, VitConfig
from models.visible.faceclip.t5 import FaceT5, FaceT5Config, T5Config, T5Encoder, sine_positions

from .small import disturb

CONFIG = FaceT5Config(
    vit=VitConfig(width=16, depth=1, heads=4, out=12),
    t5=T5Config(width=24, layers=2, heads=3, head=10, hidden=40, vocabulary=90, length=300),
    fuser=FuserConfig(layers=2, dim_feedforward=32, nhead=4),
)


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        state = FaceT5().state_dict()
    assert len(state) == 762
    lines = "".join(sorted(f"{name} {tuple(value.shape)}\n" for name, value in state.items()))
    assert (
        hashlib.sha256(lines.encode()).hexdigest() == "34e580f916a0e07a6d598b4e8e4fea3225bd66df49ffc5fc433fe2861e2faa87"
    )


def hf_of(encoder: T5Encoder, config: T5Config) -> T5EncoderModel:
    """Return transformers' T5 with the weights of `encoder`."""
    model = T5EncoderModel(
        HfConfig(
            vocab_size=config.vocabulary,
            d_model=config.width,
            d_kv=config.head,
            d_ff=config.hidden,
            num_layers=config.layers,
            num_heads=config.heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    ).eval()
    names = (
        ("t5_encoder.embed_tokens", "shared"),
        ("block.", "encoder.block."),
        ("self_attention_layer.self_attention.pe_encoding.", "layer.0.SelfAttention."),
        ("self_attention_layer.self_attention.W", "layer.0.SelfAttention."),
        ("self_attention_layer.self_attention.", "layer.0.SelfAttention."),
        ("self_attention_layer.", "layer.0."),
        ("ff_layer.act.", "layer.1.DenseReluDense."),
        ("ff_layer.wo", "layer.1.DenseReluDense.wo"),
        ("ff_layer.", "layer.1."),
    )
    state = {}
    for key, value in encoder.state_dict().items():
        for old, new in names:
            key = key.replace(old, new) if old in key else key
        key = {"embed_tokens.weight": "shared.weight"}.get(key, key)
        state[key if key.startswith(("encoder", "shared")) else f"encoder.{key}"] = value
    state["encoder.embed_tokens.weight"] = state["shared.weight"]
    model.load_state_dict(state)
    return model


@torch.no_grad()
def test_the_text_side_is_t5() -> None:
    encoder = T5Encoder(CONFIG.t5)
    disturb(encoder)
    ids = torch.randint(1, 90, (2, 300))  # farther than all buckets reach
    ids[1, 50:] = 0
    wanted = hf_of(encoder, CONFIG.t5)(input_ids=ids).last_hidden_state
    assert (encoder(ids) - wanted).abs().max() < 2e-5


def test_positions_are_sines_and_cosines() -> None:
    found = sine_positions(300, 24)[0].numpy()
    i = np.arange(12)
    angles = np.arange(300)[:, None] * 10_000.0 ** (-2 * i / 24)
    np.testing.assert_allclose(found[:, 0::2], np.sin(angles), atol=3e-5)
    np.testing.assert_allclose(found[:, 1::2], np.cos(angles), atol=3e-5)


@torch.no_grad()
def test_the_face_reads_itself_by_plain_attention() -> None:
    model = FaceT5(CONFIG)
    disturb(model)
    faces, ids = torch.rand(2, 3, 130, 130), torch.randint(0, 90, (2, 300))
    found = model(faces, ids)
    # The first layer's face, written out with torch's own attention.
    layer, fusion = model.fuser.encoder.layers[0], model.fuser.encoder.fusion_layers
    patches = model.face_encoder(F.interpolate(faces, (112, 112), mode="bilinear")).patches
    text, face = model.t5_encoder(ids), model.face_patch_proj(patches)
    position = model.face_pos_proj(model.face_encoder.pos_embed)
    face, text = fusion[0](face, text)
    text = model.fuser.encoder.text_layers[0](text, model.positional_embedding)
    attention = torch.nn.MultiheadAttention(24, 4, batch_first=True).eval()
    attention.load_state_dict(layer.self_attn.state_dict())
    asked = face + position
    face = layer.norm1(face + attention(asked, asked, face)[0])
    face = layer.norm2(face + layer.linear2(layer.linear1(face).clamp(min=0)))
    _, text = fusion[1](face, text)
    wanted = model.fuser.encoder.text_layers[1](text, model.positional_embedding)
    assert (found - wanted).abs().max() < 5e-6


@torch.no_grad()
def test_bfloat16_takes_float_faces_and_other_lengths_are_refused() -> None:
    model = FaceT5(CONFIG)
    disturb(model)
    faces, ids = torch.rand(1, 3, 112, 112), torch.randint(0, 90, (1, 300))
    exact, rounded = model(faces, ids), model.bfloat16()(faces, ids)
    assert rounded.dtype == torch.bfloat16
    assert (rounded - exact).pow(2).mean().sqrt() < 0.05 * exact.std()
    with pytest.raises(ValueError, match="100 ids a text, and the encoder reads 300: pad"):
        model(faces, ids[:, :100])
    with pytest.raises(TypeError, match="faces are torch.uint8"):
        model((faces * 255).to(torch.uint8), ids)
