"""Zero-shot CLIP (Radford et al. 2021, Section 3.1): the label whose caption lies nearest to the picture.

p(label | x) = softmax(s cos(f(x), g(label))), g(label) = mean of the normalised embeddings of its captions,
s the model's own logit scale (100 for OpenAI's). "CLIP accuracy" of the paper, as top-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from resurgence_gate.detectors.interface import Look, looks_from_scores


class ClipZeroShotDetector:
    """An open_clip model: `source` is `local-dir:` a folder in its format, or an architecture with `weights`.

    Where `tag` is one of open_clip's, the architecture's activation and preprocessing follow it.
    """

    def __init__(
        self,
        source: str,
        *,
        weights: Path | None,
        tag: str | None,
        templates: Sequence[str],
        labels: Sequence[str],
        name: str,
        min_score: float,
        device: torch.device,
    ) -> None:
        self.name = name
        self.device = device
        self.labels = list(labels)
        self.min_score = min_score
        self.model = _create(source, weights, tag, device)
        preprocess = open_clip.get_model_preprocess_cfg(self.model)
        size = self.model.visual.image_size
        self.size = int(size if isinstance(size, int) else size[0])
        self.mean = torch.tensor(preprocess["mean"], device=device)[:, None, None]
        self.std = torch.tensor(preprocess["std"], device=device)[:, None, None]
        self.written = self._embed_labels(open_clip.get_tokenizer(source), templates)  # [labels, width]

    @torch.inference_mode()
    def _embed_labels(self, tokenizer: open_clip.SimpleTokenizer, templates: Sequence[str]) -> Tensor:
        per_template = []
        for template in templates:
            tokens = tokenizer([template.replace("{}", label) for label in self.labels])
            if len(tokens.unique(dim=0)) < len(tokens):
                raise ValueError("its tokenizer writes two labels alike")
            per_template.append(self.model.encode_text(tokens.to(self.device), normalize=True))
        return F.normalize(torch.stack(per_template).mean(0), dim=-1)

    @torch.inference_mode()
    def look(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """See `Detector.look`."""
        x = pictures.to(self.device).float() / 255
        if x.shape[-1] != self.size:
            x = F.interpolate(x, size=self.size, mode="bicubic", antialias=True).clamp(0, 1)
        seen = self.model.encode_image((x - self.mean) / self.std, normalize=True)
        scores = F.softmax(self.model.logit_scale.exp() * seen @ self.written.T, dim=-1).float().cpu()
        return looks_from_scores(scores, self.labels, concepts, min_score=self.min_score)


def _create(source: str, weights: Path | None, tag: str | None, device: torch.device) -> Any:
    if weights is None:
        # Without `require_pretrained`, a folder without weights would be a model of noise.
        return open_clip.create_model(source, device=device, require_pretrained=True).eval()
    trained = open_clip.get_pretrained_cfg(source, tag)  # empty for a file of one's own
    preprocess = {k: trained[k] for k in ("mean", "std", "interpolation", "resize_mode") if k in trained}
    model = open_clip.create_model(
        source,
        pretrained=str(weights),
        force_quick_gelu=bool(trained.get("quick_gelu", False)),
        force_preprocess_cfg=preprocess,
        device=device,
        require_pretrained=True,
    )
    return model.eval()
