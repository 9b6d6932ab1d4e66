"""How good the pocket benchmark is: its model on fresh seeds, its detectors on fresh and on held-out art.

    python benchmarks/pocket_world.py [--out FILE] [--sheet PNG] [--pictures N]

The sheet shows one picture of every concept, seed 0: the first that comes, not the best.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.decision.rates import rate
from resurgence_gate.detectors.interface import Detector
from resurgence_gate.detectors.registry import locate_detector, open_detector
from resurgence_gate.draws import derived_seed
from resurgence_gate.generation import generate
from resurgence_gate.pocket.build.art import DETECTOR_FAMILIES, HELD_OUT_FAMILY, concept_slugs, load_art
from resurgence_gate.pocket.build.augment import Augmenter
from resurgence_gate.policy.schema import Classifier, ClipZeroShot, Sampler
from resurgence_gate.vocabulary import Draw

CPU = torch.device("cpu")
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SPECS = {
    "classifier": Classifier(kind="classifier", model="pocket:classifier"),
    "clip": ClipZeroShot(kind="clip-zero-shot", model="pocket:clip", templates=("a photo of a {}",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--pictures", type=int, default=8, help="of each concept")
    parser.add_argument("--art", type=int, default=4000, help="augmented drawings per family set")
    arguments = parser.parse_args()
    detectors = {
        k: open_detector(locate_detector(spec, list(concept_slugs())), CPU) for k, spec in SPECS.items()
    }
    pixels, names = base_pictures(arguments.pictures)
    page = report(detectors, pixels, names, arguments)
    print(page)
    if arguments.out:
        arguments.out.write_text(page)
    if arguments.sheet:
        arguments.sheet.parent.mkdir(parents=True, exist_ok=True)
        first = pixels[:: arguments.pictures]
        contact_sheet(first, list(concept_slugs())).save(arguments.sheet, optimize=True)


def report(
    detectors: dict[str, Detector], pixels: torch.Tensor, names: list[str], arguments: argparse.Namespace
) -> str:
    rows = []
    for what, keep in (("ten CIFAR-10 objects", set(CIFAR)), ("all concepts", set(names))):
        index = [i for i, name in enumerate(names) if name in keep]
        for detector in detectors:
            right = seen(detectors[detector], pixels[index], [names[i] for i in index])
            rows.append((f"pictures of `pocket:base`, {what}", detector, right))
            if keep == set(names):
                worst = weakest(right, [names[i] for i in index])
    for what, families in (
        ("fresh augmentations of the training art", DETECTOR_FAMILIES),
        ("held-out family", (HELD_OUT_FAMILY,)),
    ):
        drawn, labels = art(families, arguments.art)
        rows += [(f"{what} ({', '.join(families)})", k, seen(d, drawn, labels)) for k, d in detectors.items()]
    lines = [
        "# The pocket world, measured",
        "",
        f"`python benchmarks/pocket_world.py --pictures {arguments.pictures} --art {arguments.art}`: top-1 over "
        f"{len(concept_slugs())} labels, one-sided 95 % bounds; 20 DDIM steps, guidance 3, seeds that no policy uses.",
        "",
        "| pictures | detector | top-1 | at least | pictures judged |",
        "|---|---|---|---|---|",
    ]
    for what, detector, right in rows:
        bound = rate(sum(right), 0, len(right), 0.95).interval.lower
        lines.append(f"| {what} | {detector} | {sum(right) / len(right):.3f} | {bound:.3f} | {len(right)} |")
    return "\n".join([*lines, "", f"Weakest concepts of the base model ({detector}): {worst}.", ""])


def seen(detector: Detector, pixels: torch.Tensor, names: list[str]) -> list[bool]:
    looks = [
        look
        for start in range(0, len(names), 256)
        for look in detector.look(pixels[start : start + 256], names[start : start + 256])
    ]
    return [look.seen == name for look, name in zip(looks, names, strict=True)]


def weakest(right: list[bool], names: list[str]) -> str:
    share = {
        n: sum(r for r, m in zip(right, names, strict=True) if m == n) / names.count(n) for n in set(names)
    }
    return ", ".join(f"{n} {share[n]:.2f}" for n in sorted(share, key=lambda n: (share[n], n))[:12])


def base_pictures(count: int) -> tuple[torch.Tensor, list[str]]:
    model = load_model(resolve(parse_ref("pocket:base")), device=CPU, dtype=torch.float32)
    draws = [
        Draw(concept=name, prompt=f"a photo of a {name}", seed=derived_seed("fresh", name, i))
        for name in concept_slugs()
        for i in range(count)
    ]
    sampler = Sampler(scheduler="ddim", steps=20, guidance=3.0, size=64)
    return torch.cat([pixels for pixels, _ in generate(model, draws, sampler)]), [d.concept for d in draws]


def art(families: tuple[str, ...], count: int) -> tuple[torch.Tensor, list[str]]:
    names = list(concept_slugs())
    augmenter = Augmenter(load_art(), families, torch.Generator().manual_seed(999))
    pictures, labels, _ = augmenter.batch(count)
    return ((pictures + 1) * 127.5).round().byte(), [names[i] for i in labels.tolist()]


def contact_sheet(pixels: torch.Tensor, names: list[str], columns: int = 15, tile: int = 88) -> Image.Image:
    rows = -(-len(names) // columns)
    sheet = Image.new("RGB", (columns * (tile + 6) + 6, rows * (tile + 22) + 6), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, name in enumerate(names):
        x, y = 6 + (i % columns) * (tile + 6), 6 + (i // columns) * (tile + 22)
        picture = Image.fromarray(pixels[i].permute(1, 2, 0).numpy())
        sheet.paste(picture.resize((tile, tile), Image.Resampling.BICUBIC), (x, y))
        draw.text((x + tile / 2, y + tile + 2), name, fill="#333333", font=font, anchor="ma")
    return sheet


if __name__ == "__main__":
    main()
