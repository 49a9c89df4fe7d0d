"""The text encoder is CLIP's, and the identity stands where Arc2Face puts it."""

import json

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPTextModel

from models.visible.text import PROMPT, IdentityText, id_token, new_text, prompts, tokenize
from models.visible.tokenizer import corpus, load_tokenizer, new_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer(corpus(100, seed=1), vocabulary=700, length=77)


def encoder(tokenizer, hidden):
    torch.manual_seed(0)
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    text = new_text(len(tokenizer), hidden, 2, 4, tokenizer.model_max_length, special)
    return IdentityText(text, id_token(tokenizer)).eval()


def test_a_saved_tokenizer_reads_any_text(tokenizer, tmp_path):
    tokenizer.save_pretrained(str(tmp_path))
    again = load_tokenizer(tmp_path)
    for text in (PROMPT, "A woman with green eyes.", "Zebra Ü, 12 café 中"):
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert (
            again.decode(again(text)["input_ids"], skip_special_tokens=True).split()
            == tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).split()
        )
    assert tokenizer.decode(tokenizer("café")["input_ids"], skip_special_tokens=True).strip() == "café"


def test_the_same_texts_give_the_same_tokenizer():
    first, second = (new_tokenizer(corpus(100, seed=1), vocabulary=700, length=77) for _ in range(2))
    assert first.get_vocab() == second.get_vocab() and len(first) == 700
    assert (
        json.loads(first.backend_tokenizer.to_str())["model"] == json.loads(second.backend_tokenizer.to_str())["model"]
    )


def test_the_prompt_names_the_identity_once(tokenizer):
    ids = tokenize(tokenizer, prompts(["", "His id card is red."]))
    assert ids.shape == (2, 77)
    assert (ids[0] == id_token(tokenizer)).sum() == 1
    assert prompts([""]) == [PROMPT]


@pytest.mark.parametrize("hidden", [192, 768])
def test_without_an_identity_it_equals_clip(tokenizer, hidden):
    own = encoder(tokenizer, hidden)
    ids = tokenize(tokenizer, prompts(["", "A man in a red cap."]))
    with torch.inference_mode():
        torch.testing.assert_close(own(ids), own.text(ids).last_hidden_state, atol=1e-5, rtol=1e-4)


def test_wide_encoders_take_the_unit_embedding_padded_with_zeros(tokenizer):
    own = encoder(tokenizer, 768)
    assert own.project is None
    ids = tokenize(tokenizer, prompts(["With an id."]))
    embedding = torch.randn(1, 512) * 7
    plain = own.text.embeddings.token_embedding(ids)
    inserted = own.insert(plain, ids, embedding)
    place = int((ids[0] == id_token(tokenizer)).nonzero()[0])
    torch.testing.assert_close(inserted[0, place, :512], F.normalize(embedding, dim=-1)[0])
    assert (inserted[0, place, 512:] == 0).all()
    others = torch.arange(77) != place
    assert torch.equal(inserted[0, others], plain[0, others])  # also where the caption says "id"


def test_arc2face_forward_written_out(tokenizer):
    """Arc2Face's wrapper, step by step: embeddings with the token replaced, positions, causal layers, last norm."""
    own = encoder(tokenizer, 768)
    ids = tokenize(tokenizer, [PROMPT])
    embedding = torch.randn(1, 512)
    text: CLIPTextModel = own.text
    given = text.embeddings.token_embedding(ids)
    given[ids == id_token(tokenizer)] = F.pad(F.normalize(embedding, dim=-1), (0, 256))
    hidden = given + text.embeddings.position_embedding.weight[None]
    mask = torch.full((77, 77), float("-inf")).triu(1)
    with torch.inference_mode():
        for layer in text.encoder.layers:
            hidden = layer(hidden, mask[None, None])
        expected = text.final_layer_norm(hidden)
        torch.testing.assert_close(own(ids, embedding), expected, atol=1e-5, rtol=1e-4)


def test_the_identity_changes_what_follows_it_and_nothing_before(tokenizer):
    own = encoder(tokenizer, 192)
    ids = tokenize(tokenizer, prompts(["A man in a red cap."]))
    place = int((ids[0] == id_token(tokenizer)).nonzero()[0])
    with torch.inference_mode():
        first, second = own(ids, torch.randn(1, 512)), own(ids, torch.randn(1, 512))
    assert torch.equal(first[:, :place], second[:, :place])
    assert (first[:, place:] - second[:, place:]).abs().amax(dim=-1).min() > 1e-4
