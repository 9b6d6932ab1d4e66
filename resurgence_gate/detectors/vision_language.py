"""Any image-text-to-text model of transformers, asked one question a picture and answering greedily."""

from __future__ import annotations

import json
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from resurgence_gate.checkpoints.pipeline import quiet, take_from_files
from resurgence_gate.detectors.answers import Answer

BATCH = 8  # pictures a pass: several thousand tokens of a model of some billion parameters
_COMPUTED = ("position_ids", "inv_freq")  # buffers that no answer depends on
_SPELLINGS = ("{}", " {}")


class VisionLanguageModel:
    """`AutoModelForImageTextToText` with its processor and chat template; float32 on the CPU, else bfloat16."""

    def __init__(self, source: str, *, max_new_tokens: int, remote_code: bool, device: torch.device) -> None:
        self.device = device
        self.processor: Any = AutoProcessor.from_pretrained(source, trust_remote_code=remote_code)
        self.tokenizer: Any = self.processor.tokenizer
        self.tokenizer.padding_side = "left"  # answers begin where all questions of a batch end
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        self.model = _load(source, remote_code).to(device, dtype).eval()
        take_from_files(self.model)
        # Replaced, because a configuration that is passed to `generate` takes over what the model's own says
        # (sampling, penalties) wherever it holds a default itself.
        self.model.generation_config = _greedy(self.model.generation_config, self.tokenizer, max_new_tokens)
        self.yes = _first_tokens(self.tokenizer, ("Yes", "yes", "YES"))
        self.no = _first_tokens(self.tokenizer, ("No", "no", "NO"))

    def answer(self, pictures: Tensor, questions: Sequence[str]) -> list[Answer]:
        """See `Answerer.answer`."""
        return [
            answer
            for i in range(0, len(questions), BATCH)
            for answer in self._answer(pictures[i : i + BATCH], questions[i : i + BATCH])
        ]

    @torch.inference_mode()
    def _answer(self, pictures: Tensor, questions: Sequence[str]) -> list[Answer]:
        images = [[Image.fromarray(picture.permute(1, 2, 0).cpu().numpy())] for picture in pictures]
        inputs = self.processor(
            images=images,
            text=[self.prompt(question) for question in questions],
            padding=True,
            return_tensors="pt",
        ).to(self.device, self.model.dtype)
        if "token_type_ids" not in signature(self.model.forward).parameters:
            inputs.pop("token_type_ids", None)  # which plain fast tokenizers of transformers 4 add
        written = self.model.generate(**inputs, return_dict_in_generate=True, output_logits=True)
        start = 0 if self.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        texts = self.tokenizer.batch_decode(written.sequences[:, start:], skip_special_tokens=True)
        first = written.logits[0].float().cpu()  # [n, vocabulary]
        return [Answer(text=text.strip(), yes=self._yes(row)) for text, row in zip(texts, first, strict=True)]

    def prompt(self, question: str) -> str:
        """The question about one picture, in the model's own form."""
        if getattr(self.processor, "chat_template", None) is None:
            return f"{getattr(self.processor, 'image_token', '')}{question}"
        content = [{"type": "image"}, {"type": "text", "text": question}]
        chat = [{"role": "user", "content": content}]
        return str(self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    def _yes(self, logits: Tensor) -> float | None:
        """Probability of yes against no, of the logits [vocabulary] of the first token; see `Answer`."""
        if not logits.isfinite().any() or logits.isnan().any():
            return float("nan")
        if int(logits.argmax()) not in {*self.yes, *self.no} or not (self.yes and self.no):
            return None
        yes, no = logits[self.yes].logsumexp(0), logits[self.no].logsumexp(0)
        return float(torch.sigmoid(yes - no))


def _load(source: str, remote_code: bool) -> Any:
    """The model, every tensor of it from the file: transformers would leave what is missing at random."""
    absent = _unkept_promises(Path(source))
    with quiet(), torch.random.fork_rng(devices=[]):
        model, loaded = AutoModelForImageTextToText.from_pretrained(
            source, use_safetensors=True, output_loading_info=True, trust_remote_code=remote_code
        )
    missing = sorted({*absent, *(key for key in loaded["missing_keys"] if not key.endswith(_COMPUTED))})
    if missing:
        raise ValueError(f"{len(missing)} tensors are missing: {', '.join(missing[:3])}")
    return model


def _unkept_promises(folder: Path) -> list[str]:
    """Tensors that the index lists and its files lack: transformers 4 takes the index's word."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    places: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    held: set[str] = set()
    for file in set(places.values()):
        with safe_open(folder / file, framework="pt") as shard:
            held |= set(shard.keys())
    return sorted(places.keys() - held)


def _greedy(own: Any, tokenizer: Any, max_new_tokens: int) -> GenerationConfig:
    """Greedy decoding, with nothing of the model's own configuration but where an answer ends."""
    ends = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        bos_token_id=own.bos_token_id,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
    )


def _first_tokens(tokenizer: Any, words: Sequence[str]) -> list[int]:
    """The tokens that are one of `words` by themselves, with or without a space before."""
    spelt = [spelling.format(word) for word in words for spelling in _SPELLINGS]
    tokens = [tokenizer.encode(text, add_special_tokens=False) for text in spelt]
    return sorted({ids[0] for ids in tokens if len(ids) == 1 and ids[0] != tokenizer.unk_token_id})
