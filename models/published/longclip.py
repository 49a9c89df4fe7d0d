"""LongCLIP's published checkpoint (arXiv 2403.15378) as a text encoder in transformers' layout, 248 tokens long.

The file has OpenAI's names and two tables of positions: CLIP's own, of which the first 20 are read, and the stretched and
fine-tuned one, of which the rest are. The picture's side is left out.
"""

import re
import shutil
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from models.card import Card
from models.errors import EnvironmentFault, UserError
from models.published.versions import check_finite, new_version
from models.visible.text_branch import check_tokenizer
from models.visible.tokenizer import load_tokenizer
from models.weights.networks import load_strictly, read_checkpoint

KEPT = 20
"""Positions of CLIP's own table that LongCLIP keeps."""
HEAD = 64
"""Width of an attention head: CLIP has width / 64 heads."""
LIMITS = """Weights of the authors of LongCLIP, imported and not trained here, which began with OpenAI's CLIP. Read the licences
of both before use."""

_TABLE = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_LAYER = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(
    r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)|transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)"
)


def import_encoder(checkpoint: Path, tokenizer: Path, out: Path) -> Path:
    """Write `out/encoder` (float16) and `out/tokenizer`, sealed; returns `out`, which `train text_branch` takes as `encoder`.

    tokenizer: folder of CLIP's tokenizer.

    Raises:
        UserError: a file that is no checkpoint of tensors, or none of LongCLIP, with what differs.
        EnvironmentFault: no tokenizer there, or one with more tokens than the encoder.
    """
    text = convert(read_checkpoint(checkpoint), checkpoint)
    check_finite(text.state_dict(), checkpoint)
    check_tokenizer(load_tokenizer(tokenizer), text, tokenizer)
    with new_version(out) as folder:
        text.half().save_pretrained(str(folder / "encoder"))
        shutil.copytree(
            tokenizer, folder / "tokenizer", dirs_exist_ok=True, ignore=shutil.ignore_patterns("files.json")
        )
        Card(title="LongCLIP's text encoder", task="text encoder", limits=LIMITS, data=checkpoint.name).write(folder)
    return out


def convert(state: dict[str, Tensor], path: Path) -> CLIPTextModel:
    """Return the text encoder of a checkpoint in OpenAI's names. Raises UserError where something is missing or left over."""
    wanted = (
        "token_embedding.weight",
        "positional_embedding",
        "positional_embedding_res",
        "transformer.resblocks.0.mlp.c_fc.weight",
    )
    if missing := [name for name in wanted if name not in state]:
        raise UserError(f"{path} has no {', '.join(missing)}: not LongCLIP's checkpoint (longclip-L.pt).")
    # The positions of both tables, then everything else by its name.
    positions = torch.cat([state["positional_embedding"][:KEPT], state["positional_embedding_res"][KEPT:]])
    found = {"embeddings.position_embedding.weight": positions}
    for name, value in state.items():
        found |= _rename(name, value)
    words, width = state["token_embedding.weight"].shape
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=len(state["transformer.resblocks.0.mlp.c_fc.weight"]),
        num_hidden_layers=1
        + max(int(place[1]) for key in found if (place := re.match(r"encoder\.layers\.(\d+)", key))),
        num_attention_heads=max(1, width // HEAD),
        max_position_embeddings=len(positions),
        hidden_act="quick_gelu",
        # CLIP's last two tokens; padding is the end.
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )
    text = CLIPTextModel(config)
    try:
        load_strictly(text, {name: value.float() for name, value in found.items()}, path)
    except EnvironmentFault as error:
        raise UserError(str(error)) from None
    return text.eval()


def _rename(name: str, value: Tensor) -> dict[str, Tensor]:
    """Return an entry of the text's side under transformers' names, nothing for the others."""
    if name in _TABLE:
        return {_TABLE[name]: value}
    if not (block := _BLOCK.fullmatch(name)):
        return {}
    if block[4] is None:
        return {f"encoder.layers.{block[1]}.{_LAYER.get(block[2], block[2])}.{block[3]}": value}
    # Query, key and value lie above each other.
    thirds = zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True)
    return {f"encoder.layers.{block[4]}.self_attn.{one}.{block[5]}": third for one, third in thirds}
