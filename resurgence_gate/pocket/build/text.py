"""The text side of the pocket world: a CLIP tokenizer over a small vocabulary and a CLIP text encoder.

As in Stable Diffusion the text encoder is trained contrastively against pictures, then frozen before the UNet
sees it (Radford et al. 2021, Section 2.3). Its picture tower is thrown away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from resurgence_gate.pocket.build.art import DETECTOR_FAMILIES, concept_slugs, load_art
from resurgence_gate.pocket.build.augment import Augmenter
from resurgence_gate.pocket.build.training import train

POSITIONS = 16
WIDTH = 96
TEMPLATES = ("a photo of a {}", "a picture of a {}", "{}", "an image of a {}", "a drawing of a {}")
STYLES = {"noto": "noto", "twemoji": "twemoji", "fluent-emoji-flat": "fluent"}


def captions() -> list[str]:
    """Every caption of the training set, with and without its style."""
    plain = [template.format(name) for name in concept_slugs() for template in TEMPLATES]
    return plain + [f"{caption} in {style} style" for caption in plain for style in STYLES.values()]


def make_tokenizer(folder: Path, corpus: Iterable[str]) -> CLIPTokenizer:
    """A byte-pair encoding trained on the captions, in CLIP's own files.

    Merges must come from a trained encoding: listed word by word they would break other words into pieces.
    """
    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    # The trainer numbers an alphabet that it finds in the order of a hash table; a given one keeps its order.
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        end_of_word_suffix="</w>",
        special_tokens=[*letters, *(f"{letter}</w>" for letter in letters)],
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    model = json.loads(bpe.to_str())["model"]
    vocabulary: dict[str, int] = dict(model["vocab"])
    for token in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[token] = len(vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "model_max_length": POSITIONS,
                "bos_token": "<|startoftext|>",
                "eos_token": "<|endoftext|>",
                "unk_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>",
                "do_lower_case": True,
            },
            indent=1,
        )
    )
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two layers of width 96 over 16 positions."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=POSITIONS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def picture_tower(width: int, channels: Sequence[int] = (24, 48, 96, 128)) -> nn.Sequential:
    """A small convolutional network: [n, 3, 64, 64] in [-1, 1] -> [n, width]."""
    layers: list[nn.Module] = []
    for before, after in zip((3, *channels[:-1]), channels, strict=True):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels[-1], width))


def tokenize(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids [n, 16]."""
    ids: Tensor = tokenizer(
        list(texts), padding="max_length", max_length=POSITIONS, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def train_text_encoder(
    scratch: Path, *, steps: int = 1500, batch: int = 64
) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Contrastive training; captions of the same concept are all positives of one another."""
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1)
    tokenizer = make_tokenizer(scratch / "tokenizer", captions())
    names = list(concept_slugs())
    augmenter = Augmenter(load_art(), DETECTOR_FAMILIES, generator)
    ids = tokenize(tokenizer, [t.format(n) for n in names for t in TEMPLATES]).view(
        len(names), len(TEMPLATES), -1
    )
    text, tower = new_text_encoder(tokenizer), picture_tower(WIDTH)
    model = nn.ModuleDict({"text": text, "tower": tower, "head": nn.Linear(WIDTH, WIDTH, bias=False)})

    def loss_fn(generator: torch.Generator) -> Tensor:
        pictures, labels, _ = augmenter.batch(batch)
        chosen = torch.randint(len(TEMPLATES), (batch,), generator=generator)
        written = F.normalize(model["head"](text(ids[labels, chosen]).pooler_output), dim=-1)
        seen = F.normalize(tower(pictures), dim=-1)
        logits = 20 * seen @ written.T  # [batch, batch]
        same = (labels[:, None] == labels[None]).float()
        positives = same / same.sum(1, keepdim=True)
        return (F.cross_entropy(logits, positives) + F.cross_entropy(logits.T, positives)) / 2

    train("text", model, loss_fn, steps=steps, lr=1e-3, generator=generator, scratch=scratch)
    return tokenizer, text.eval()
