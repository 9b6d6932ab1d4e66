"""Public fakes: a real Stable Diffusion folder, with random weights, that is built and run in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = "a photo of an image the picture drawing airplane automobile bird cat deer dog frog horse ship truck"
LENGTH = 24  # tokens of a prompt


def tiny_model_folder(path: Path, *, seed: int = 0, prediction_type: str = "epsilon") -> Path:
    """Write a Stable Diffusion model of about 75,000 parameters to `path`, as diffusers would save it.

    It draws noise, 16x16 pixels (latents [4, 8, 8]); the same seed writes the same weights. `prediction_type`
    "v_prediction" gives the shape of Stable Diffusion 2.1. Raises FileExistsError where `path` is not empty.
    """
    import torch
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    from resurgence_gate.checkpoints.published import name_as_published

    _require_empty(path)
    tokenizer = _tokenizer(path / "tokenizer")
    with torch.random.fork_rng(devices=[]):  # initial weights come from torch's global generator
        torch.manual_seed(seed)
        text_encoder, vae, unet = _text_encoder(tokenizer), _vae(), _unet(prediction_type)
    pipeline = StableDiffusionPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        unet=unet,
        scheduler=_scheduler(prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(path, safe_serialization=True)
    name_as_published(path / "text_encoder" / "model.safetensors")
    return path


def tiny_sdxl_folder(path: Path, *, seed: int = 0, blank_empty: bool = True) -> Path:
    """Write an SDXL model of about 145,000 parameters to `path`, as diffusers would save it.

    Like `tiny_model_folder`, with two text encoders whose tokenizers pad differently. `blank_empty` is the pipeline's
    `force_zeros_for_empty_prompt`.
    """
    import torch
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

    from resurgence_gate.checkpoints.published import name_as_published

    _require_empty(path)
    tokenizers = (_tokenizer(path / "tokenizer"), _tokenizer(path / "tokenizer_2", pad="!"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoders = (_text_encoder(tokenizers[0], layers=2), _projecting_text_encoder(tokenizers[1]))
        vae, unet = _vae(), _sdxl_unet()
    pipeline = StableDiffusionXLPipeline(
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        vae=vae,
        unet=unet,
        scheduler=_scheduler("epsilon"),
        force_zeros_for_empty_prompt=blank_empty,
        add_watermarker=False,
    )
    pipeline.save_pretrained(path, safe_serialization=True)
    name_as_published(path / "text_encoder" / "model.safetensors")
    name_as_published(path / "text_encoder_2" / "model.safetensors")
    return path


def _require_empty(path: Path) -> None:
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"{path} is not empty")


def _scheduler(prediction_type: str) -> Any:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


def _unet(prediction_type: str) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    second = prediction_type == "v_prediction"
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=(1, 2) if second else 4,
        use_linear_projection=second,
    )


def _sdxl_unet() -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=16 + 24,
        attention_head_dim=(1, 2),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=12 + 6 * 4,
    )


def _vae() -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )


def _text_encoder(tokenizer: Any, layers: int = 1) -> Any:
    from transformers import CLIPTextModel

    return CLIPTextModel(_text_config(tokenizer, width=16, layers=layers))


def _projecting_text_encoder(tokenizer: Any) -> Any:
    from transformers import CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(_text_config(tokenizer, width=24, layers=2, projected=12))


def _text_config(tokenizer: Any, *, width: int, layers: int, projected: int = 512) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=projected,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _tokenizer(folder: Path, *, pad: str = "<|endoftext|>") -> Any:
    """A CLIP tokenizer over a byte-pair encoding that is learned from `WORDS`; other words become letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Every byte, also as the end of a word, so that no word is unknown. Listed beforehand because the trainer
    # breaks ties by number, and numbers what it finds itself in the order of a hash table.
    first = [*letters, *(f"{letter}</w>" for letter in letters)]
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=first, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator(WORDS.split() * 2, trainer)
    learned = json.loads(bpe.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in learned["merges"]]
    tokens = [*sorted(learned["vocab"], key=learned["vocab"].get), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=LENGTH, pad_token=pad)
