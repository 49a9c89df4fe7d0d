"""LongCLIP's checkpoint becomes a text encoder that computes what OpenAI's form of it computes."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cluster.cli import main
from models.published import longclip
from models.visible.text import tokenize
from models.visible.tokenizer import corpus, load_tokenizer, new_tokenizer
from models.weights.store import verify

WORDS, WIDTH, LENGTH, LAYERS = 700, 128, 30, 2


def checkpoint() -> dict[str, Tensor]:
    """A checkpoint in the published names, small, with the picture's side that is left out."""
    draw = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (WORDS, WIDTH),
        "positional_embedding": (LENGTH, WIDTH),
        "positional_embedding_res": (LENGTH, WIDTH),
        "ln_final.weight": (WIDTH,),
        "ln_final.bias": (WIDTH,),
        "text_projection": (WIDTH, 8),
        "logit_scale": (),
        "visual.transformer.resblocks.0.ln_1.weight": (WIDTH,),
    }
    for layer in range(LAYERS):
        block = f"transformer.resblocks.{layer}"
        shapes |= {f"{block}.attn.in_proj_weight": (3 * WIDTH, WIDTH), f"{block}.attn.in_proj_bias": (3 * WIDTH,)}
        sizes = {"attn.out_proj": (WIDTH, WIDTH), "mlp.c_fc": (96, WIDTH), "mlp.c_proj": (WIDTH, 96)}
        shapes |= {f"{block}.{name}.weight": size for name, size in sizes.items()}
        shapes |= {f"{block}.{name}.bias": size[:1] for name, size in sizes.items()}
        shapes |= {f"{block}.{norm}.{kind}": (WIDTH,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
    return {name: 0.2 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def written_out(state: dict[str, Tensor], ids: Tensor) -> Tensor:
    """OpenAI's forward pass with LongCLIP's two tables of positions, step by step: the last hidden state."""
    x = state["token_embedding.weight"][ids]
    first = (torch.arange(LENGTH) < 20).float()[:, None]
    x = x + state["positional_embedding"] * first + state["positional_embedding_res"] * (1 - first)
    mask = torch.full((LENGTH, LENGTH), float("-inf")).triu(1)
    for layer in range(LAYERS):
        own = {
            k.split(f"resblocks.{layer}.")[1]: v
            for k, v in state.items()
            if k.startswith(f"transformer.resblocks.{layer}.")
        }
        seen = F.layer_norm(x, (WIDTH,), own["ln_1.weight"], own["ln_1.bias"])
        packed = own["attn.in_proj_weight"], own["attn.in_proj_bias"]
        projected = own["attn.out_proj.weight"], own["attn.out_proj.bias"]
        seen = seen.transpose(0, 1)
        found, _ = F.multi_head_attention_forward(
            seen, seen, seen, WIDTH, 2, *packed, None, None, False, 0.0, *projected, training=False, attn_mask=mask
        )
        x = x + found.transpose(0, 1)
        seen = F.layer_norm(x, (WIDTH,), own["ln_2.weight"], own["ln_2.bias"])
        seen = F.linear(seen, own["mlp.c_fc.weight"], own["mlp.c_fc.bias"])
        x = x + F.linear(seen * torch.sigmoid(1.702 * seen), own["mlp.c_proj.weight"], own["mlp.c_proj.bias"])
    return F.layer_norm(x, (WIDTH,), state["ln_final.weight"], state["ln_final.bias"])


def test_it_computes_what_the_published_form_computes() -> None:
    state = checkpoint()
    text = longclip.convert({**state}, Path("longclip-L.pt"))
    assert text.config.max_position_embeddings == LENGTH and text.config.num_attention_heads == WIDTH // 64
    ids = torch.randint(0, WORDS, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(text(input_ids=ids).last_hidden_state, written_out(state, ids), atol=2e-5, rtol=1e-4)


def test_the_command_writes_an_encoder_and_refuses_what_is_not_longclips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, tokenizer = checkpoint(), new_tokenizer(corpus(60, seed=1), vocabulary=WORDS, length=77)
    tokenizer.save_pretrained(str(tmp_path / "tokenizer"))
    torch.save(state, tmp_path / "longclip-L.pt")
    given = ["import", "longclip", str(tmp_path / "longclip-L.pt"), "--tokenizer", str(tmp_path / "tokenizer")]
    assert main([*given, "--out", str(tmp_path / "long")]) == 0
    assert capsys.readouterr().out.strip() == f"--set encoder={tmp_path / 'long'}"
    verify(tmp_path / "long")
    assert torch.equal(
        tokenize(load_tokenizer(tmp_path / "long" / "tokenizer"), ["A man."]), tokenize(tokenizer, ["A man."])
    )
    # CLIP's own checkpoint has one table of positions; a layer may lack a weight; a tokenizer may be another's.
    for name, words in (
        ("positional_embedding_res", "has no positional_embedding_res: not LongCLIP's"),
        ("transformer.resblocks.1.mlp.c_fc.bias", "missing: ['encoder.layers.1.mlp.fc1.bias']"),
    ):
        torch.save({key: value for key, value in state.items() if key != name}, tmp_path / "longclip-L.pt")
        assert main([*given, "--out", str(tmp_path / "other")]) == 2
        assert words in capsys.readouterr().err and not (tmp_path / "other").exists()
    state["token_embedding.weight"] = state["token_embedding.weight"][:600]
    torch.save(state, tmp_path / "longclip-L.pt")
    assert main([*given, "--out", str(tmp_path / "other")]) != 0
    assert "knows 700 tokens, and the encoder 600" in capsys.readouterr().err
