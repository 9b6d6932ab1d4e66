"""Files as CompVis' and Stability's code saves them: the inverse of what the package does with their names."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from resurgence_gate.checkpoints.compvis import THIRDS, How, Key, Source, sources
from resurgence_gate.checkpoints.kinds import plain_name

Tensors = dict[Key, Tensor]
COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def tensors_of(folder: Path) -> Tensors:
    return {
        (component, plain_name(component, name)): tensor
        for component in COMPONENTS
        for file in (folder / component).glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


def as_published(tensors: Tensors, family: str) -> dict[str, Tensor]:
    """The file that CompVis' or Stability's code would have saved; the inverse of what is tested."""

    made: dict[str, list[tuple[Source, Tensor]]] = {}
    for key, source in sources(tensors, Family(family)).items():
        made.setdefault(source.name, []).append((source, tensors[key]))
    return {name: together(parts).clone() for name, parts in made.items()}


class Family:
    """Has every name that a file of this family may have."""

    def __init__(self, family: str) -> None:
        self.others = {
            "sd1": ("cond_stage_model.model.", "conditioner."),
            "sd2": ("cond_stage_model.transformer.", "conditioner."),
            "sdxl": ("cond_stage_model.",),
        }[family]

    def __contains__(self, name: object) -> bool:
        return not str(name).startswith(self.others)


def together(parts: list[tuple[Source, Tensor]]) -> Tensor:
    (source, tensor), *_ = parts
    match source.how:
        case How.AS_IS:
            return tensor
        case How.MATRIX:
            return tensor[..., None, None]
        case How.TRANSPOSED:
            return tensor.T.contiguous()
        case _:
            thirds = {part.how: third for part, third in parts}
            return torch.cat([thirds[how] for how in THIRDS])


def beside(family: str, file: dict[str, Tensor]) -> dict[str, Tensor]:
    """What such a file holds that nothing is drawn with."""
    more = {name: torch.ones(3) for name in ("betas", "alphas_cumprod", "sqrt_one_minus_alphas_cumprod")}
    more["model_ema.diffusion_modelinput_blocks00weight"] = torch.ones(1)
    if family == "sd1":
        more["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(4)[None]
    else:
        prefix = "cond_stage_model.model." if family == "sd2" else "conditioner.embedders.1.model."
        last = 1 + max(int(n.split("resblocks.")[1].split(".")[0]) for n in file if "resblocks." in n)
        more[f"{prefix}logit_scale"] = torch.ones(())
        more[f"{prefix}transformer.resblocks.{last}.ln_1.weight"] = torch.ones(1)
    if family == "sd2":
        more["cond_stage_model.model.text_projection"] = torch.ones(2, 2)
    return more
