"""Names of tensors in files of CompVis' own code and its like: diffusers' name -> the file's, and what it takes.

UNet            model.diffusion_model.input_blocks | middle_block | output_blocks | time_embed | label_emb | out
VAE             first_stage_model.encoder | decoder | quant_conv | post_quant_conv
text encoder    SD 1.x    cond_stage_model.transformer.text_model.*            as transformers names it
                SD 2.x    cond_stage_model.model.*                             as OpenCLIP names it
                SDXL      conditioner.embedders.0.transformer.text_model.*, conditioner.embedders.1.model.*

several         unet.*, text_encoder.*, ...                            as a diffusers folder, each behind its component

Pure names: no file is opened here, and no tensor read. Which block of CompVis' flat list is which of diffusers' follows
from the names of the base's UNet: how many layers a block has, and whether it attends.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

Key = tuple[str, str]  # (component, diffusers' name in it)
UNET = "model.diffusion_model."
_TEXT = {  # prefixes in the file, in the order that they are looked for
    "text_encoder": (
        "cond_stage_model.transformer.text_model.",
        "cond_stage_model.transformer.",
        "conditioner.embedders.0.transformer.text_model.",
    ),
    "text_encoder_2": (),
}
_OPEN_CLIP = {"text_encoder": "cond_stage_model.model.", "text_encoder_2": "conditioner.embedders.1.model."}
_VAE = "first_stage_model."
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP_ENDS = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_UNUSED = (  # what whole files hold beside the weights that draw
    re.compile(r"model_ema\..*"),
    re.compile(
        r"(sqrt_|log_)?(one_minus_|recip_|recipm1_)?alphas_cumprod(_prev)?|betas|posterior_\w+|lvlb_weights"
    ),
    re.compile(r"logvar|scale_factor|denoiser\.sigmas"),
    re.compile(r".*\.(position_ids|logit_scale|attn_mask)"),
    re.compile(r"cond_stage_model\.model\.text_projection"),  # SD 2.x draws without it
    re.compile(r"first_stage_model\.loss\..*"),
)
_RESBLOCK = re.compile(r"(.*\.model\.)transformer\.resblocks\.(\d+)\.")


class How(StrEnum):
    """What is done to a tensor of the file."""

    AS_IS = "as it is"
    MATRIX = "a convolution of one pixel becomes a matrix"
    TRANSPOSED = "transposed"
    FIRST = "the first third of its rows"  # queries, keys and values in one
    SECOND = "the second third of its rows"
    THIRD = "the last third of its rows"


THIRDS = (How.FIRST, How.SECOND, How.THIRD)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A tensor of the file, and what it takes to be one of the model."""

    name: str
    how: How = How.AS_IS

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """What becomes of a tensor of `shape`; None: this cannot be done to it."""
        match self.how:
            case How.AS_IS:
                return shape
            case How.MATRIX:
                return shape[:2] if shape[2:] in ((), (1, 1)) else None
            case How.TRANSPOSED:
                return shape[::-1] if len(shape) == 2 else None
            case _:
                return (shape[0] // 3, *shape[1:]) if shape and shape[0] % 3 == 0 else None


def sources(base: Iterable[Key], names: Container[str]) -> dict[Key, Source]:
    """Of the tensors `base` of a model, those that a file of tensors called `names` has, and where."""
    keys = list(base)
    unet = unet_names(name for component, name in keys if component == "unet")
    ups = 1 + max(
        (int(n.split(".")[2]) for c, n in keys if c == "vae" and n.startswith("decoder.up_blocks.")),
        default=0,
    )
    found = {}
    for component, name in keys:
        match component:
            case "unet":
                candidates = [Source(name=prefix + unet[name]) for prefix in (UNET, "") if name in unet]
            case "vae":
                candidates = [_vae_source(name, ups)]
            case _:
                candidates = list(_text_sources(component, name))
        candidates.append(Source(name=f"{component}.{name}"))  # of a file that holds several components
        if component.startswith("text_encoder"):
            candidates.append(Source(name=f"{component}.text_model.{name}"))
        source = next((source for source in candidates if source.name in names), None)
        if source is not None:
            found[component, name] = source
    return found


def unused(name: str, layers: Mapping[str, int]) -> bool:
    """Is it known not to bear on what a whole file draws? `layers`: of each text encoder of the base.

    SD 2.x was trained on the last layer but one of OpenCLIP, and its base leaves the last one out.
    """
    if any(pattern.fullmatch(name) for pattern in _UNUSED):
        return True
    if match := _RESBLOCK.match(name):
        component = next((c for c, prefix in _OPEN_CLIP.items() if prefix == match[1]), None)
        return component is not None and int(match[2]) >= layers.get(component, 0)
    return False


def unet_names(names: Iterable[str]) -> dict[str, str]:
    """{diffusers' name: CompVis' name} of all tensors of a UNet."""
    names = list(names)
    layers = 1 + max((int(m[1]) for m in map(_DOWN_RESNET.match, names) if m), default=0)
    attending = {m[1] for m in map(_UP_ATTENTION.match, names) if m}
    renamed = {}
    for name in names:
        module = _compvis_module(name, layers, attending)
        if module is not None:
            renamed[name] = module
    return renamed


_DOWN_RESNET = re.compile(r"down_blocks\.\d+\.resnets\.(\d+)\.")
_UP_ATTENTION = re.compile(r"up_blocks\.(\d+)\.attentions\.")
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")


def _compvis_module(name: str, layers: int, attending: Collection[str]) -> str | None:
    """`layers`: resnets of a block that goes down; one that goes up has one more."""
    for ours, theirs in _UNET_ENDS.items():
        if name.startswith(f"{ours}."):
            rest = name.removeprefix(f"{ours}.")
            return f"{theirs}.{_resnet(rest) if 'resnets' in ours else rest}"
    match = _BLOCK.fullmatch(name)
    if match is None:
        return None
    way, block, part, index, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    place = block * (layers + 1) + index
    if way == "down":
        match part:
            case "resnets":
                return f"input_blocks.{1 + place}.0.{_resnet(rest)}"
            case "attentions":
                return f"input_blocks.{1 + place}.1.{rest}"
            case _:
                return f"input_blocks.{(block + 1) * (layers + 1)}.0.{rest.replace('conv.', 'op.', 1)}"
    match part:
        case "resnets":
            return f"output_blocks.{place}.0.{_resnet(rest)}"
        case "attentions":
            return f"output_blocks.{place}.1.{rest}"
        case _:
            behind = 2 if str(block) in attending else 1
            return f"output_blocks.{block * (layers + 1) + layers}.{behind}.{rest}"


def _resnet(rest: str) -> str:
    module, _, end = rest.rpartition(".")
    return f"{_RESNET.get(module, module)}.{end}"


def _vae_source(name: str, ups: int) -> Source:
    """`ups`: blocks of the decoder, which CompVis counts from the other end."""
    how = How.AS_IS
    for part, parts in (("down", "down_blocks"), ("up", "up_blocks")):
        if match := re.fullmatch(rf"(encoder|decoder)\.{parts}\.(\d+)\.(\w+)\.(\d+)\.(.+)", name):
            side, block, kind, index, rest = match[1], int(match[2]), match[3], match[4], match[5]
            number = block if part == "down" else ups - 1 - block
            inside = f"block.{index}" if kind == "resnets" else f"{part}sample"
            name = f"{side}.{part}.{number}.{inside}.{rest.replace('conv_shortcut', 'nin_shortcut')}"
    if match := re.fullmatch(r"(encoder|decoder)\.mid_block\.resnets\.(\d)\.(.+)", name):
        rest = match[3].replace("conv_shortcut", "nin_shortcut")
        name = f"{match[1]}.mid.block_{int(match[2]) + 1}.{rest}"
    elif match := re.fullmatch(r"(encoder|decoder)\.mid_block\.attentions\.0\.(.+)\.(weight|bias)", name):
        name = f"{match[1]}.mid.attn_1.{_VAE_ATTENTION.get(match[2], match[2])}.{match[3]}"
        how = How.MATRIX if match[3] == "weight" and match[2] != "group_norm" else How.AS_IS
    return Source(name=_VAE + name.replace("conv_norm_out", "norm_out"), how=how)


def _text_sources(component: str, name: str) -> Iterator[Source]:
    for prefix in _TEXT.get(component, ()):
        yield Source(name=prefix + name)
    if component not in _OPEN_CLIP:
        return
    prefix = _OPEN_CLIP[component]
    if name == "text_projection.weight":
        yield Source(name=f"{prefix}text_projection", how=How.TRANSPOSED)
    elif name in _OPEN_CLIP_ENDS:
        yield Source(name=prefix + _OPEN_CLIP_ENDS[name])
    elif match := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name):
        block = f"{prefix}transformer.resblocks.{match[1]}."
        if match[2] in _OPEN_CLIP_LAYER:
            yield Source(name=f"{block}{_OPEN_CLIP_LAYER[match[2]]}.{match[3]}")
        elif (letter := match[2].removeprefix("self_attn.")[0]) in "qkv":
            yield Source(name=f"{block}attn.in_proj_{match[3]}", how=THIRDS["qkv".index(letter)])
