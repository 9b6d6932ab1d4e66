"""A vision-language model in miniature: Qwen2.5-VL of random weights, with tokenizer, processor and chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import (
    GenerationConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2TokenizerFast,
    Qwen2VLImageProcessor,
)

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
WORDS = "Yes No yes no Is in this image Answer or Who State their name only"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_vision_language_model(
    path: Path, *, seed: int = 0, shards: bool = False, generation: dict[str, Any] | None = None
) -> Path:
    """Write the model (about 60,000 parameters) to `path`, as transformers would save it; it talks nonsense.

    `generation` is what its generation_config.json says, such as `{"do_sample": True}`.
    """
    tokenizer = tiny_chat_tokenizer(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(_config(tokenizer))
        with torch.no_grad():  # or all pictures would look alike to it
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(12)
    ends = [tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")]
    model.generation_config = GenerationConfig(
        eos_token_id=ends, pad_token_id=tokenizer.pad_token_id, **(generation or {})
    )
    model.save_pretrained(path, **({"max_shard_size": "100KB"} if shards else {}))
    tiny_processor(tokenizer).save_pretrained(path)
    return path


def tiny_chat_tokenizer(folder: Path) -> Qwen2TokenizerFast:
    """Bytes, and a few whole words. Its vocabulary is written to `folder`."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: number for number, letter in enumerate(letters)}
    merges: list[tuple[str, str]] = []
    for word in WORDS.split():
        _merge(word, vocab, merges)
    vocab |= {token: len(vocab) + i for i, token in enumerate(SPECIAL)}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges), ""]))
    return Qwen2TokenizerFast.from_pretrained(
        folder, pad_token=SPECIAL[0], eos_token="<|im_end|>", additional_special_tokens=list(SPECIAL[1:])
    )


def _merge(letters: str, vocab: dict[str, int], merges: list[tuple[str, str]]) -> None:
    """Teach the encoding one word, from left to right."""
    whole = letters[0]
    for letter in letters[1:]:
        if (whole, letter) not in merges:
            merges.append((whole, letter))
        whole += letter
        vocab.setdefault(whole, len(vocab))


def tiny_processor(tokenizer: Qwen2TokenizerFast) -> Qwen2_5_VLProcessor:
    """Pictures of 8x8 to 16x16 pixels: one to four tokens."""
    pictures = Qwen2VLImageProcessor(
        patch_size=4, merge_size=2, temporal_patch_size=2, min_pixels=64, max_pixels=256
    )
    try:
        from transformers import Qwen2VLVideoProcessor

        more = {"video_processor": Qwen2VLVideoProcessor(patch_size=4, merge_size=2, temporal_patch_size=2)}
    except ImportError:  # before transformers 4.53
        more = {}
    return Qwen2_5_VLProcessor(
        image_processor=pictures, tokenizer=tokenizer, chat_template=CHAT_TEMPLATE, **more
    )


def _config(tokenizer: Qwen2TokenizerFast) -> Qwen2_5_VLConfig:
    number = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [1, 1, 2]},
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 16,
        "fullatt_block_indexes": [0],
    }
    return Qwen2_5_VLConfig(
        vision_config=vision,
        tie_word_embeddings=True,
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
        # Before transformers 4.52 the text's settings stood beside the rest.
        **({"text_config": text} if "text_config" in Qwen2_5_VLConfig.sub_configs else text),
    )
