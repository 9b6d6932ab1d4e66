"""How long `inspect` takes on a model of Stable Diffusion's size, and on a file of UNet tensors beside it.

    python benchmarks/inspect_time.py [--size sd14|sd21] [--folder MODEL] [--runs N] [--out FILE]

Weights are random (`full_size.py`), as much on the disk as the published model in float32; `--folder` measures a model
that is there already. "Cold": the kernel is asked to forget the files first, so that they come from the disk.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from peak import measured

LIMIT = 10  # seconds, for a folder of Stable Diffusion 1.4's size
COMMAND = "import sys; from resurgence_gate.cli import main; sys.exit(main())"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=["sd14", "sd21"], default="sd14")
    parser.add_argument("--folder", type=Path, help="a diffusers folder, instead of random weights")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = arguments.folder or built(Path(scratch) / "model", arguments.size)
        unet = model / "unet" / "diffusion_pytorch_model.safetensors"
        edited = edit(unet, Path(scratch) / "edited.safetensors")
        cases = {
            "the folder": [str(model)],
            "the folder, cold": [str(model)],
            "its UNet beside it": [str(unet), "--base", str(model)],
            "an edit of its cross-attention beside it": [str(edited), "--base", str(model)],
        }
        files = [path for path in model.rglob("*") if path.is_file()]
        rows = {case: timed(given, files, "cold" in case, arguments.runs) for case, given in cases.items()}
        size = sum(file.stat().st_size for file in files)
    page = table(rows, size, arguments)
    print(page)
    if arguments.out:
        arguments.out.write_text(page)


def built(folder: Path, size: str) -> Path:
    from full_size import model_folder

    return model_folder(folder, size)


def edit(unet: Path, file: Path) -> Path:
    """The keys and values of the cross-attention, changed a little: what UCE and ESD-x publish."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(unet, framework="pt") as tensors:
        names = [name for name in tensors.keys() if "attn2.to_k" in name or "attn2.to_v" in name]  # noqa: SIM118
        save_file({name: tensors.get_tensor(name) * 1.01 for name in names}, file)
    return file


def timed(given: list[str], files: Iterable[Path], cold: bool, runs: int) -> list[dict[str, float]]:
    took = []
    for _ in range(runs):
        for file in files:
            if cold:
                forget(file)
        took.append(measured([sys.executable, "-c", COMMAND, "inspect", *given, "--json"])[1])
        print(given, took[-1], file=sys.stderr, flush=True)
    return took


def forget(file: Path) -> None:
    with file.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def table(rows: dict[str, list[dict[str, float]]], size: int, arguments: argparse.Namespace) -> str:
    load = os.getloadavg()[0]
    what = arguments.folder or f"{arguments.size}, random weights"
    command = f"python benchmarks/inspect_time.py --size {arguments.size} --runs {arguments.runs}"
    lines = [
        "# `resurgence-gate inspect`: seconds\n",
        f"    {command}\n",
        f"{what}: {size / 1e9:.2f} GB. {platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the end. "
        f"The least of {arguments.runs} runs, and the median; a whole process each, Python and imports included. "
        f"Wanted: below {LIMIT} s for the folder.\n",
        "| what | least, s | median, s | processor, s |",
        "|---|---:|---:|---:|",
    ]
    for case, took in rows.items():
        wall = [each["wall_s"] for each in took]
        cpu = statistics.median(each["cpu_s"] for each in took)
        lines.append(f"| {case} | {min(wall):.1f} | {statistics.median(wall):.1f} | {cpu:.1f} |")
    if load > (os.cpu_count() or 1):
        lines += [
            "",
            "Other work had these cores too: on idle ones, seconds on the wall are nearer to the processor's.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
