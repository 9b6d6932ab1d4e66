"""Zero-shot CLIP (Radford et al. 2021, Section 3.1): the label whose caption lies nearest to the picture.

p(label | x) = softmax(s cos(f(x), g(label))), g(label) = mean of the normalised embeddings of its captions,
s the model's own logit scale (100 for OpenAI's). "CLIP accuracy" of the paper, as top-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from resurgence_gate.detectors.files import DetectorFiles
from resurgence_gate.detectors.interface import Decide, LabelDetector


@dataclass(frozen=True, kw_only=True)
class Clip:
    """An open_clip model with its tokenizer and what its pictures are normalised by."""

    model: Any
    tokenizer: Any
    size: int  # pixels, square
    interpolation: str  # bilinear or bicubic
    mean: Tensor  # [3, 1, 1]
    std: Tensor
    device: torch.device

    @torch.inference_mode()
    def embed_pictures(self, pictures: Tensor) -> Tensor:
        """Unit embeddings [n, width] of uint8 pictures [n, 3, h, w]."""
        x = pictures.to(self.device).float() / 255
        if x.shape[-1] != self.size or x.shape[-2] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode=self.interpolation, antialias=True).clamp(0, 1)
        seen: Tensor = self.model.encode_image((x - self.mean) / self.std, normalize=True)
        return seen

    @torch.inference_mode()
    def embed_labels(self, labels: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Unit embeddings [labels, width]: the mean over the templates. Raises ValueError where two are one."""
        per_template = []
        for template in templates:
            tokens = self.tokenizer([template.replace("{}", label) for label in labels])
            if len(tokens.unique(dim=0)) < len(tokens):
                raise ValueError("its tokenizer writes two labels alike")
            per_template.append(self.model.encode_text(tokens.to(self.device), normalize=True))
        return F.normalize(torch.stack(per_template).mean(0), dim=-1)


class ClipZeroShotDetector(LabelDetector):
    """See the module."""

    def __init__(
        self,
        clip: Clip,
        *,
        templates: Sequence[str],
        labels: Sequence[str],
        name: str,
        decide: Decide,
        threshold: float,
    ) -> None:
        self.name = name
        self.clip = clip
        self.labels = list(labels)
        self.decide = decide
        self.threshold = threshold
        self.written = clip.embed_labels(self.labels, templates)  # [labels, width]

    @torch.inference_mode()
    def scores(self, pictures: Tensor) -> Tensor:
        """See `LabelDetector.scores`."""
        scale = self.clip.model.logit_scale.exp()
        return F.softmax(scale * self.clip.embed_pictures(pictures) @ self.written.T, dim=-1).float().cpu()


def load_clip(model: str, tag: str | None, files: DetectorFiles, device: torch.device) -> Clip:
    """An open_clip folder, or an architecture with its weight file.

    Where `tag` is one of open_clip's, the architecture's activation and preprocessing follow it.
    """
    source = f"local-dir:{files.folder}" if files.folder else model
    loaded = _create(source, None if files.folder else files.files[0][0], tag, device)
    preprocess = open_clip.get_model_preprocess_cfg(loaded)
    size = loaded.visual.image_size
    return Clip(
        model=loaded,
        tokenizer=open_clip.get_tokenizer(source),
        size=int(size if isinstance(size, int) else size[0]),
        # As open_clip, which takes whatever is not bilinear ("random" while training) for bicubic.
        interpolation="bilinear" if preprocess["interpolation"] == "bilinear" else "bicubic",
        mean=torch.tensor(preprocess["mean"], device=device)[:, None, None],
        std=torch.tensor(preprocess["std"], device=device)[:, None, None],
        device=device,
    )


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
