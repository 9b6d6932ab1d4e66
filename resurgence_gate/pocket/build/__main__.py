"""Build the pocket benchmark: autoencoder, text encoder, UNet, detectors, erased models. Resumable.

    python -m resurgence_gate.pocket.build --scratch DIR [--out DIR] [--art]

About two hours on two cores. A killed build goes on from its last checkpoint in the scratch folder.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from resurgence_gate.checkpoints.pocket import pocket_folder
from resurgence_gate.checkpoints.published import name_as_published
from resurgence_gate.pocket.build.art import fetch
from resurgence_gate.pocket.build.detectors import train_classifier, train_clip
from resurgence_gate.pocket.build.erase import erase
from resurgence_gate.pocket.build.q16 import train_q16
from resurgence_gate.pocket.build.text import train_text_encoder
from resurgence_gate.pocket.build.unet import new_scheduler, train_unet
from resurgence_gate.pocket.build.vae import train_vae


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(prog="python -m resurgence_gate.pocket.build", description=__doc__)
    parser.add_argument("--scratch", type=Path, required=True, help="checkpoints and encoded pools")
    parser.add_argument("--out", type=Path, default=pocket_folder(), help="where the models go")
    parser.add_argument("--art", action="store_true", help="fetch the art from npm again first")
    arguments = parser.parse_args()
    if arguments.art:
        fetch()
    build(arguments.scratch, arguments.out)


def build(scratch: Path, out: Path) -> None:
    """All stages in order; each is skipped when its product lies in `scratch`."""
    scratch.mkdir(parents=True, exist_ok=True)
    vae = _vae(scratch)
    tokenizer, text = _text(scratch)
    unet = _unet(scratch, vae, tokenizer, text)
    assemble(vae, tokenizer, text, unet, out / "base")
    for name in ("vocab.json", "merges.txt"):  # transformers 5 leaves them out, transformers 4 reads them
        shutil.copy(scratch / "tokenizer" / name, out / "base" / "tokenizer" / name)
    for name, train in (("classifier", train_classifier), ("clip", train_clip)):
        if not (scratch / name / "done").exists():
            train(vae, scratch, scratch / name)
            (scratch / name / "done").touch()
        shutil.copytree(
            scratch / name,
            out / "detectors" / name,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("done"),
        )
    train_q16(vae, scratch, out / "detectors" / "q16")
    erase(out)


def assemble(
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    text: CLIPTextModel,
    unet: UNet2DConditionModel,
    folder: Path,
) -> None:
    """Write the diffusers folder, the UNet in half precision: what is shipped is what is measured."""
    unet.half()
    pipeline = StableDiffusionPipeline(
        vae=vae,
        tokenizer=tokenizer,
        text_encoder=text,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    name_as_published(folder / "text_encoder" / "model.safetensors")


def _vae(scratch: Path) -> AutoencoderKL:
    if not (scratch / "vae" / "config.json").exists():
        train_vae(scratch).save_pretrained(scratch / "vae")
    vae = AutoencoderKL.from_pretrained(scratch / "vae")
    vae.requires_grad_(False)
    return vae


def _text(scratch: Path) -> tuple[CLIPTokenizer, CLIPTextModel]:
    if not (scratch / "text_encoder" / "config.json").exists():
        train_text_encoder(scratch)[1].save_pretrained(scratch / "text_encoder")
    text = CLIPTextModel.from_pretrained(scratch / "text_encoder").eval()
    text.requires_grad_(False)
    return CLIPTokenizer.from_pretrained(scratch / "tokenizer"), text


def _unet(
    scratch: Path, vae: AutoencoderKL, tokenizer: CLIPTokenizer, text: CLIPTextModel
) -> UNet2DConditionModel:
    if not (scratch / "unet" / "config.json").exists():
        train_unet(vae, tokenizer, text, scratch).save_pretrained(scratch / "unet")
    return UNet2DConditionModel.from_pretrained(scratch / "unet")


if __name__ == "__main__":
    main()
