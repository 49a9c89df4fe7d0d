"""A small vision language model: the starter's captioner behind a vision tower of random weights."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Idefics3Config, Idefics3ForConditionalGeneration
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

from models.captions.prompt import COMPACT_TEMPLATE
from models.stages import CAPTIONS
from models.weights.bundle import load_bundle
from models.weights.store import seal

SIDE, PATCH, SCALE = 128, 8, 2
"""Pixels of a picture and of a patch; patches that one token stands for, along a side: 64 tokens of a picture beside 280 of the
question. Four move no answer of a language model that never saw one."""
POSITIONS = 4096
TEMPLATE = (
    "{%- if messages[0]['content'] is string -%}" + COMPACT_TEMPLATE + "{%- else -%}"
    "{%- for part in messages[0]['content'] -%}"
    "{{ '<image>' if part['type'] == 'image' else part['text'] }}"
    "{%- endfor -%}<answer>{%- endif -%}"
)
"""The starter's, and a picture with a question about it."""


def write_vision_model(folder: Path) -> str:
    """Write the model, sealed, into `folder`, and return that as weights. Only vision tower and connector are new."""
    starter = load_bundle("starter").main(CAPTIONS)
    # The tokenizer with the marks of a picture.
    tokenizer = AutoTokenizer.from_pretrained(str(starter))
    marks = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    tokenizer.add_special_tokens({"additional_special_tokens": [*tokenizer.all_special_tokens, *marks]})
    tokenizer.chat_template = TEMPLATE
    # The starter's language model, which captions as before, and a tower that says something of its own.
    language = AutoModelForCausalLM.from_pretrained(str(starter), dtype=torch.float32)
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        text_config={**language.config.to_dict(), "max_position_embeddings": POSITIONS},
        vision_config={"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "image_size": SIDE, "patch_size": PATCH, "initializer_range": 0.2},
        scale_factor=SCALE, tie_word_embeddings=True, pad_token_id=0,
        eos_token_id=language.config.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Idefics3ForConditionalGeneration(config)
    model.model.text_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    model.save_pretrained(folder)
    # What prepares pictures, without torchvision.
    pictures = Idefics3ImageProcessorPil(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )
    tokens = (SIDE // PATCH) ** 2 // SCALE**2
    Idefics3Processor(pictures, tokenizer, image_seq_len=tokens, chat_template=TEMPLATE).save_pretrained(folder)
    seal(folder)
    return str(folder)
