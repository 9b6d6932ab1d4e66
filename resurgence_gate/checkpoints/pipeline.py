"""From a checkpoint to models in memory, through diffusers' and transformers' own classes.

Loading is strict: every tensor of the model comes from the files, and every tensor of the files is used.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast

import diffusers
import torch
import transformers
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging

from resurgence_gate.checkpoints.digest import verify
from resurgence_gate.checkpoints.inspect import read_tensors
from resurgence_gate.checkpoints.kinds import plain_name
from resurgence_gate.checkpoints.laid_out import laid_out
from resurgence_gate.checkpoints.layout import blanks_empty_prompt, read_model_index
from resurgence_gate.diffusion.finite import all_finite
from resurgence_gate.diffusion.prompts import Context, embed, tokenize
from resurgence_gate.errors import GateError, RefusedCheckpoint, ResourceError, on_one_line
from resurgence_gate.execution.memory import out_of_memory
from resurgence_gate.vocabulary import Checkpoint

_M = TypeVar("_M", bound=nn.Module)
_HAS_ACCELERATE = find_spec("accelerate") is not None  # without it diffusers warns, and loads anyway
_NO_SUCH_FILE = (None, errno.ENOENT, errno.EISDIR, errno.ENOTDIR)  # None: said in a library's own words
_IGNORABLE = ("position_ids",)  # a buffer that older text encoders saved and newer ones compute
_OF_THE_NOISE = ("beta_start", "beta_end", "beta_schedule", "clip_sample", "set_alpha_to_one")


@dataclass(frozen=True, kw_only=True)
class DiffusionModel:
    """The parts of a Stable Diffusion model, in evaluation mode, without gradients."""

    tokenizers: tuple[CLIPTokenizer, ...]  # two in SDXL, else one
    text_encoders: tuple[CLIPTextModel, ...]
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: Any  # one of `layout.SCHEDULERS`
    blank_empty: bool = False  # SDXL: the empty prompt is a row of zeros, not an embedding

    def embed(self, prompts: Sequence[str]) -> Context:
        """The prompts as the UNet attends to them, on its device and in its precision; one row each."""
        # A prompt is embedded once and used in every step: never in the half precision of an autocast around it.
        with torch.autocast(self.unet.device.type, enabled=False):
            context = embed(list(zip(self.tokenizers, self.text_encoders, strict=True)), prompts)
        if self.blank_empty:
            written = torch.tensor([prompt != "" for prompt in prompts], device=context.states.device)
            pooled = None if context.pooled is None else context.pooled * written[:, None]
            context = replace(context, states=context.states * written[:, None, None], pooled=pooled)
        return replace(context, pixels=self.pixels).to(self.unet.device, self.unet.dtype)

    @property
    def components(self) -> dict[str, Any]:
        """The parts with weights, by the names of their folders."""
        encoders = zip(("text_encoder", "text_encoder_2"), self.text_encoders, strict=False)
        return {"unet": self.unet, "vae": self.vae, **dict(encoders)}

    @property
    def pixels(self) -> int:
        """Pixels of the picture to a side of a latent: 8 in every Stable Diffusion."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """[channels, height, width] at the size that the model was trained for."""
        config = self.unet.config
        return config.in_channels, config.sample_size, config.sample_size


def load_model(checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype) -> DiffusionModel:
    """All parts of `checkpoint`, its overlays applied, from the very files that were hashed.

    Raises RefusedCheckpoint.
    """
    with laid_out(checkpoint) as root:
        model = _load_model(checkpoint, root, device, dtype)
    _check_vocabularies(model, checkpoint.ref)
    verify(checkpoint)
    return model


def _load_model(
    checkpoint: Checkpoint, root: Path, device: torch.device, dtype: torch.dtype
) -> DiffusionModel:
    ref = checkpoint.ref
    classes = read_model_index(root, where=ref)
    encoders = [name for name in classes if name.startswith("text_encoder")]
    return DiffusionModel(
        tokenizers=tuple(
            _load_tokenizer(root / name, ref) for name in classes if name.startswith("tokenizer")
        ),
        text_encoders=tuple(
            _settled(
                _laid_over(checkpoint, name, _load_text_encoder(classes[name], root / name, dtype, ref)),
                device,
                ref,
            )
            for name in encoders
        ),
        vae=_settled(
            _laid_over(checkpoint, "vae", _load_vae(root / "vae", dtype, ref, xl=len(encoders) > 1)),
            device,
            ref,
        ),
        unet=_load_unet(checkpoint, root, device, dtype),
        scheduler=_load_scheduler(classes["scheduler"], root, ref),
        blank_empty=len(encoders) > 1 and blanks_empty_prompt(root, where=ref),
    )


def load_unet(checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype) -> UNet2DConditionModel:
    """The UNet of `checkpoint` alone, its overlays applied, from the very files that were hashed.

    Raises RefusedCheckpoint.
    """
    with laid_out(checkpoint, "unet/") as root:
        unet = _load_unet(checkpoint, root, device, dtype)
    verify(checkpoint, "unet/")
    return unet


def load_vae(checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype) -> AutoencoderKL:
    """The autoencoder of `checkpoint` alone, its overlays applied, from the very files that were hashed.

    Raises RefusedCheckpoint.
    """
    with laid_out(checkpoint, "vae/") as root:
        vae = _laid_over(checkpoint, "vae", _load_vae(root / "vae", dtype, checkpoint.ref, xl=False))
        vae = _settled(vae, device, checkpoint.ref)
    verify(checkpoint, "vae/")
    return vae


def _load_unet(
    checkpoint: Checkpoint, root: Path, device: torch.device, dtype: torch.dtype
) -> UNet2DConditionModel:
    unet: UNet2DConditionModel = _load_diffuser(UNet2DConditionModel, root / "unet", dtype, checkpoint.ref)
    return _settled(_laid_over(checkpoint, "unet", unet), device, checkpoint.ref)


def _laid_over(checkpoint: Checkpoint, component: str, model: _M) -> _M:
    """`model`, with the overlays of `component` copied into it, in their order. Raises RefusedCheckpoint."""
    for overlay in checkpoint.overlays:
        if overlay.component == component:
            copy_into(model, overlay.path, component)
    return model


def copy_into(model: nn.Module, file: Path, component: str = "unet") -> int:
    """Lay the tensors of `file` over those of `model`, in place; say how many. Raises RefusedCheckpoint."""
    state = {plain_name(component, name): tensor for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    count = 0
    with torch.no_grad():
        for name, tensor in read_tensors(file, shapes, component):
            state[name].copy_(tensor)
            count += 1
    return count


def to_pipeline(model: DiffusionModel) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """Diffusers' stock pipeline around the same parts, without a safety checker or a watermark."""
    if len(model.text_encoders) == 2:
        return StableDiffusionXLPipeline(
            tokenizer=model.tokenizers[0],
            tokenizer_2=model.tokenizers[1],
            text_encoder=model.text_encoders[0],
            text_encoder_2=model.text_encoders[1],
            vae=model.vae,
            unet=model.unet,
            scheduler=model.scheduler,
            force_zeros_for_empty_prompt=model.blank_empty,
            add_watermarker=False,
        )
    return StableDiffusionPipeline(
        tokenizer=model.tokenizers[0],
        text_encoder=model.text_encoders[0],
        vae=model.vae,
        unet=model.unet,
        scheduler=model.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _load_tokenizer(folder: Path, ref: str) -> CLIPTokenizer:
    # transformers 4 reads vocab.json with the slow class only; transformers 5 may save tokenizer.json alone.
    name = "CLIPTokenizer" if (folder / "vocab.json").is_file() else "CLIPTokenizerFast"
    with loading(f"{ref}: tokenizer"):
        tokenizer = getattr(transformers, name).from_pretrained(folder, local_files_only=True)
        tokenize(tokenizer, [""])  # it may lack what padding needs
    return cast(CLIPTokenizer, tokenizer)


def _check_vocabularies(model: DiffusionModel, ref: str) -> None:
    for tokenizer, encoder in zip(model.tokenizers, model.text_encoders, strict=True):
        tokens, known = len(tokenizer), encoder.config.vocab_size
        if tokens > known:
            raise RefusedCheckpoint(f"{ref}: a tokenizer has {tokens} tokens, its text encoder knows {known}")


def _load_scheduler(name: str, root: Path, ref: str) -> Any:
    kind = getattr(diffusers, name)
    with loading(f"{ref}: scheduler"):
        scheduler = kind.from_pretrained(root / "scheduler", local_files_only=True)
    # Only some classes save these, and a DDIM made of a configuration without them would clip latents as if they
    # were pictures, which spoils every picture. What a file leaves out is listed as a default, which another class
    # does not take over, and some have other defaults.
    scheduler.register_to_config(
        clip_sample=False,
        set_alpha_to_one=scheduler.config.get("set_alpha_to_one", False),
        _use_default_values=[
            key for key in scheduler.config.get("_use_default_values", []) if key not in _OF_THE_NOISE
        ],
    )
    return scheduler


def _load_vae(folder: Path, dtype: torch.dtype, ref: str, *, xl: bool) -> AutoencoderKL:
    vae: AutoencoderKL = _load_diffuser(AutoencoderKL, folder, dtype, ref)
    if xl and dtype == torch.float16 and vae.config.force_upcast:
        vae = _load_diffuser(AutoencoderKL, folder, torch.float32, ref)  # it overflows in half precision
    return vae


def _load_text_encoder(name: str, folder: Path, dtype: torch.dtype, ref: str) -> CLIPTextModel:
    # The option's name differs between transformers 4 and 5, so the type is changed afterwards.
    return cast(CLIPTextModel, _load(getattr(transformers, name), folder, ref).to(dtype=dtype))


def _load_diffuser(kind: Any, folder: Path, dtype: torch.dtype, ref: str) -> Any:
    return _load(kind, folder, ref, torch_dtype=dtype, low_cpu_mem_usage=_HAS_ACCELERATE)


def _load(kind: Any, folder: Path, ref: str, **options: Any) -> Any:
    """A model from its folder, with nothing left at its random start and nothing left over."""
    where = f"{ref}: {folder.name}"
    with loading(where), quiet(), torch.random.fork_rng(devices=[]):
        model, loaded = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    for what in ("missing", "unexpected", "mismatched"):
        keys = sorted(str(key) for key in loaded[f"{what}_keys"] if not str(key).endswith(_IGNORABLE))
        if keys:
            raise RefusedCheckpoint(
                f"{where}: {len(keys)} {what} tensors: {', '.join(map(on_one_line, keys[:3]))}"
            )
    return model


def _settled(model: _M, device: torch.device, ref: str) -> _M:
    with loading(ref):
        model = model.to(device).eval().requires_grad_(False)
        take_from_files(model)
    if not all(all_finite(parameter) for parameter in model.parameters()):
        raise RefusedCheckpoint(f"{ref}: {type(model).__name__} has NaN or infinite weights (in this dtype)")
    return model


def take_from_files(model: nn.Module) -> None:
    """Tensors that are mapped, as on the CPU, follow their file: who writes there later would change the model."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


@contextmanager
def loading(where: str, refusal: type[GateError] = RefusedCheckpoint) -> Iterator[None]:
    """Turn what a library raises while it loads something into `refusal`, or ResourceError where that is why."""
    try:
        yield
    except GateError:
        raise
    except Exception as error:  # the libraries raise whatever a value that they did not check leads to
        if out_of_memory(error):
            raise ResourceError(f"{where}: out of memory; free some, or use a smaller dtype") from error
        if isinstance(error, OSError) and error.errno not in _NO_SUCH_FILE:
            raise ResourceError(f"{where}: cannot be read ({error.strerror})") from error
        kind, reason = type(error).__name__, next(iter(str(error).splitlines()), "no reason given")
        raise refusal(
            f"{where}: cannot be loaded ({kind}: {reason}); save it again with the library that it is of"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bar, which would cut through ours."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
