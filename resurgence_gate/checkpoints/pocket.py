"""Where the embedded models lie: `base/` is a whole diffusers folder, the others are UNet tensors over it."""

from __future__ import annotations

from pathlib import Path

import resurgence_gate

BASE = "base"


def pocket_folder() -> Path:
    """The folder of the models inside the package."""
    return Path(resurgence_gate.__file__).parent / "pocket" / "models"


def pocket_names() -> list[str]:
    """The models that this installation carries, `base` first."""
    folder = pocket_folder()
    base = [BASE] if (folder / BASE / "model_index.json").is_file() else []
    return base + sorted(file.stem for file in folder.glob("*.safetensors"))


def pocket_detectors() -> dict[str, Path]:
    """The embedded detectors' folders, by their names in a policy: `pocket:clip`."""
    places = sorted((pocket_folder() / "detectors").glob("*"))
    return {f"pocket:{place.name}": place for place in places if place.is_dir()}
