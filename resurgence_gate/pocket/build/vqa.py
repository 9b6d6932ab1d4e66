"""The detector of the pocket world that is asked: a vision-language model (LLaVA: LeViT, two layers, Llama).

It learns two questions about a picture: whether it shows a concept, and what it shows. As the other detectors it
learns from the art of five hands and from nothing of the generator; first its eye alone, by a head over the names
that later chooses the concepts it is wrongly asked for, and is thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    CLIPImageProcessor,
    LevitConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from resurgence_gate.pocket.build.art import concept_slugs
from resurgence_gate.pocket.build.detectors import Pictures
from resurgence_gate.pocket.build.training import train

EDGE = 128  # pixels: the eye halves four times before it attends, too often for 64
TOKENS = 4  # of a picture
WHETHER = (
    "Is {} in this image? Answer Yes or No.",
    "Is there a {} in this picture? Answer Yes or No.",
    "Does this image show a {}? Answer Yes or No.",
)
WHO = (
    "Who is in this image? State their name only.",
    "What is in this image? State its name only.",
    "What does this picture show? State its name only.",
)
ANSWER = "\nAnswer:"
CHAT_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ '\\nAnswer:' }}{% endif %}"
)


def make_vqa_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes merged to words on the questions and the names; case is not told apart."""
    names = list(concept_slugs())
    corpus = [q.format(name) for name in names for q in WHETHER] + [*WHO, ANSWER, " Yes No"] * len(names)
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = [
        AddedToken(token, special=True, normalized=False) for token in ("<pad>", "<s>", "</s>", "<image>")
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=1100,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left"
    )


def make_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Pictures to [-1, 1] at EDGE pixels, chats to one line."""
    pictures = CLIPImageProcessor(
        size={"shortest_edge": EDGE},
        crop_size={"height": EDGE, "width": EDGE},
        resample=2,  # bilinear
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=EDGE // 2,  # what a token stands for: two by two of them
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
    )


def new_vqa(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """About two million parameters."""
    eye = LevitConfig(
        image_size=EDGE,
        patch_size=16,
        hidden_sizes=[96, 128, 192],
        num_attention_heads=[4, 6, 8],
        depths=[1, 1, 1],
        key_dim=[16, 16, 16],
        hidden_size=192,  # LLaVA reads it, LeViT itself does not
    )
    tongue = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=eye,
            text_config=tongue,
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            image_seq_length=TOKENS,
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        )
    )
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


class Lesson:
    """Questions and their answers, written once as token ids with the answer's positions."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, names: Sequence[str]) -> None:
        image = "<image>" * TOKENS
        asked = [
            (f"{image}{q.format(n)}{ANSWER}", f" {a}") for q in WHETHER for n in names for a in ("No", "Yes")
        ]
        told = [(f"{image}{q}{ANSWER}", f" {n}") for q in WHO for n in names]
        self.concepts = len(names)
        self.ids, self.targets = _rows(tokenizer, asked + told)

    def whether(self, question: Tensor, concept: Tensor, truth: Tensor) -> Tensor:
        """Rows [n] that ask for `concept` and answer `truth` (0 no, 1 yes)."""
        return (question * self.concepts + concept) * 2 + truth

    def who(self, question: Tensor, concept: Tensor) -> Tensor:
        """Rows [n] that are answered by `concept`."""
        return len(WHETHER) * self.concepts * 2 + question * self.concepts + concept


def _rows(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """Ids [rows, longest], padded right, and targets: what must come next, -100 where nothing is asked."""
    rows = [(tokenizer(q).input_ids, [*tokenizer(a).input_ids, tokenizer.eos_token_id]) for q, a in pairs]
    longest = max(len(q) + len(a) for q, a in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    targets = torch.full((len(rows), longest), -100)
    for i, (question, answer) in enumerate(rows):
        ids[i, : len(question) + len(answer)] = torch.tensor(question + answer)
        targets[i, len(question) - 1 : len(question) + len(answer) - 1] = torch.tensor(answer)
    return ids, targets


def train_vqa(
    vae: AutoencoderKL,
    scratch: Path,
    out: Path,
    *,
    warmup: int = 3000,
    steps: int = 3000,
    batch: int = 48,
) -> None:
    """Cross-entropy of the answers; of three questions "whether" half are about what is there."""
    torch.manual_seed(5)
    generator = torch.Generator().manual_seed(5)
    names = list(concept_slugs())
    tokenizer = make_vqa_tokenizer()
    lesson, source = Lesson(tokenizer, names), Pictures(vae, scratch, generator)
    model = new_vqa(tokenizer)
    eye: nn.Module = model.model.vision_tower
    head = nn.Linear(192, len(names))

    def view(size: int) -> tuple[Tensor, Tensor]:
        pictures, labels = source.batch(size)
        return F.interpolate(pictures, size=(EDGE, EDGE), mode="bilinear"), labels

    def name_it(generator: torch.Generator) -> Tensor:
        pictures, labels = view(64)
        return F.cross_entropy(head(eye(pictures).pooler_output), labels, label_smoothing=0.05)

    def answer(generator: torch.Generator) -> Tensor:
        pictures, labels = view(batch)
        seen = eye(pictures)
        named = head(seen.pooler_output)
        rows = _questions(lesson, labels, named.detach(), generator)
        features = model.model.multi_modal_projector(seen.last_hidden_state)  # [batch, 4, 128]
        said = _answer_loss(model, lesson, features.repeat(len(rows) // batch, 1, 1), rows)
        return said + 0.2 * F.cross_entropy(named, labels, label_smoothing=0.05)

    parts = nn.ModuleDict({"eye": eye, "head": head})
    train("vqa-eye", parts, name_it, steps=warmup, lr=2e-3, generator=generator, scratch=scratch)
    whole = nn.ModuleDict({"model": model, "head": head})
    train("vqa", whole, answer, steps=steps, lr=1.5e-3, generator=generator, scratch=scratch)
    model.half().save_pretrained(out)
    make_processor(tokenizer).save_pretrained(out)


def _questions(lesson: Lesson, labels: Tensor, named: Tensor, generator: torch.Generator) -> Tensor:
    """Rows [4 n]: what is shown, two concepts that are not (one likely, one any), and twice the one that is."""
    n = len(labels)

    def one_of(many: int) -> Tensor:
        return torch.randint(many, (n,), generator=generator)

    likely = (named / 2).softmax(-1).scatter(1, labels[:, None], 0)
    hard = torch.multinomial(likely + 1e-6, 1, generator=generator)[:, 0]
    any_other = (labels + 1 + one_of(lesson.concepts - 1)) % lesson.concepts
    nothing, everything = torch.zeros_like(labels), torch.ones_like(labels)
    return torch.cat(
        [
            lesson.who(one_of(len(WHO)), labels),
            lesson.whether(one_of(len(WHETHER)), hard, nothing),
            lesson.whether(one_of(len(WHETHER)), labels, everything),
            _either(
                one_of(2),
                lesson.whether(one_of(len(WHETHER)), any_other, nothing),
                lesson.whether(one_of(len(WHETHER)), labels, everything),
            ),
        ]
    )


def _either(coin: Tensor, heads: Tensor, tails: Tensor) -> Tensor:
    return torch.where(coin == 1, heads, tails)


def _answer_loss(
    model: LlavaForConditionalGeneration, lesson: Lesson, features: Tensor, rows: Tensor
) -> Tensor:
    """Cross-entropy at the answers alone; the picture's tokens stand at the front of every row."""
    ids, targets = lesson.ids[rows], lesson.targets[rows]
    words = model.get_input_embeddings()(ids[:, TOKENS:])
    hidden = model.model.language_model(inputs_embeds=torch.cat([features, words], 1)).last_hidden_state
    asked = targets != -100
    return F.cross_entropy(model.lm_head(hidden[asked]), targets[asked])
