"""Openly licensed emoji art: npm tarballs -> 64x64 RGBA rasters with a manifest.

The rasters are shipped, so rebuilding the benchmark needs no npm; this module made them. The five training
families draw one concept by many hands; `emojione` is never trained on and serves as the held-out hand.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

SIZE = 64
GENERATOR_FAMILIES = ("noto", "twemoji", "fluent-emoji-flat")
DETECTOR_FAMILIES = ("noto", "noto-v1", "twemoji", "fluent-emoji-flat", "fxemoji")
HELD_OUT_FAMILY = "emojione"
PACKAGES = {
    "noto": "1.2.9",
    "noto-v1": "1.2.5",
    "twemoji": "1.2.5",
    "fluent-emoji-flat": "1.2.6",
    "fxemoji": "1.2.2",
    "emojione": "1.2.3",
}
ART = Path(__file__).parent.parent / "art"

# Drawings that show something else than their name says (seen on the contact sheet of all drawings).
MISNAMED = {
    ("fxemoji", "die"),  # a domino
    ("fxemoji", "ship"),  # a full square of sea
    ("fxemoji", "rooster"),  # a hen
    ("twemoji", "rooster"),  # a hen
    ("noto-v1", "train"),  # a bus
    ("noto-v1", "laptop"),  # a desktop computer
}


@dataclass(frozen=True, kw_only=True)
class Art:
    """Drawings: `pixels` [n, 64, 64, 4] uint8 straight alpha, and for each its concept and its family."""

    pixels: NDArray[np.uint8]
    concepts: list[str]
    families: list[str]


def concept_slugs() -> dict[str, list[str]]:
    """Prompt name -> the slugs of its drawings, in the order of the file (which is the class order)."""
    table = yaml.safe_load((Path(__file__).parent / "concepts.yaml").read_text())
    return {
        name: slugs if isinstance(slugs, list) else [slugs or name.replace(" ", "-")]
        for name, slugs in table.items()
    }


def load_art(folder: Path = ART) -> Art:
    """The shipped rasters."""
    manifest = json.loads((folder / "manifest.json").read_text())
    with np.load(folder / "art.npz") as arrays:
        pixels = arrays["pixels"]
    return Art(
        pixels=pixels,
        concepts=[d["concept"] for d in manifest["drawings"]],
        families=[d["family"] for d in manifest["drawings"]],
    )


def fetch(folder: Path = ART) -> None:
    """Download the icon families from npm and write `art.npz` and `manifest.json`."""
    pixels, drawings, sources = [], [], []
    for family, version in PACKAGES.items():
        icons, info = _npm_icons(family, version)
        sources.append(
            {
                "family": family,
                "package": f"@iconify-json/{family}@{version}",
                "author": info["author"],
                "license": info["license"],
            }
        )
        squeezed = {n.replace("-", ""): n for n in [*icons["icons"], *icons.get("aliases", {})]}
        for concept, slugs in concept_slugs().items():
            for slug in slugs:
                name = squeezed.get(slug.replace("-", ""))
                if name is None or (family, concept) in MISNAMED:
                    continue
                raster = _rasterise(_svg(icons, name))
                pixels.append(raster)
                drawings.append(
                    {
                        "concept": concept,
                        "family": family,
                        "icon": name,
                        "sha256": hashlib.sha256(raster.tobytes()).hexdigest(),
                    }
                )
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "art.npz", pixels=np.stack(pixels))
    manifest = {"change": "rasterised and resized to 64x64", "sources": sources, "drawings": drawings}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def _npm_icons(family: str, version: str) -> tuple[dict[str, Any], dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        package = f"@iconify-json/{family}@{version}"
        packed = subprocess.run(
            ["npm", "pack", "--silent", package], cwd=scratch, check=True, capture_output=True, text=True
        )
        with tarfile.open(Path(scratch) / packed.stdout.strip().splitlines()[-1]) as tar:

            def member(name: str) -> dict[str, Any]:
                stream = tar.extractfile(f"package/{name}")
                if stream is None:
                    raise FileNotFoundError(f"{package} holds no {name}")
                loaded: dict[str, Any] = json.load(stream)
                return loaded

            return member("icons.json"), member("info.json")


def _svg(icons: dict[str, Any], name: str) -> str:
    while name in icons.get("aliases", {}):
        name = icons["aliases"][name]["parent"]
    icon = icons["icons"][name]
    width, height = (icon.get(k, icons.get(k, 16)) for k in ("width", "height"))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{SIZE}" height="{SIZE}">{icon["body"]}</svg>'
    )


def _rasterise(svg: str) -> NDArray[np.uint8]:
    import resvg_py
    from PIL import Image

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"), dtype=np.uint8)


if __name__ == "__main__":
    fetch()
