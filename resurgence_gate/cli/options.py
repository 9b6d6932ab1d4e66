"""What several commands ask in the same words, and the bench that follows from it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from resurgence_gate.observe import Bench
    from resurgence_gate.vocabulary import Access


class Device(StrEnum):
    """Where to compute."""

    AUTO = "auto"
    CUDA = "cuda"
    MPS = "mps"
    CPU = "cpu"


class Dtype(StrEnum):
    """In which numbers to compute."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


Ref = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="org/model[/path][@revision], a diffusers folder, a .safetensors of tensors, or pocket:name.",
        show_default=False,
    ),
]


def policy_option(help: str) -> Any:
    """`--policy` as every command has it."""
    return typer.Option("--policy", "-p", metavar="FILE|NAME", help=help, show_default=False)


PolicyName = Annotated[str, policy_option("A policy file, or the name of a shipped one.")]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="REF",
        help="The model that a file of tensors belongs to.",
        show_default=False,
    ),
]
Variant = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Take the weights of REF that diffusers names so: fp16. What has none of them is taken plain.",
        show_default=False,
    ),
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="Take .pt, .bin and .ckpt files, too: scanned, then read as weights only.",
    ),
]
OnDevice = Annotated[Device, typer.Option(help="Where to compute; auto takes the fastest.")]
InDtype = Annotated[Dtype, typer.Option(help="In which numbers to compute.")]
StoreFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where results are kept, to resume and reuse "
        "[default: $RESURGENCE_GATE_STORE, or the user's cache folder].",
        show_default=False,
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline", help="Ask nothing of the network: take what the Hub cache holds (HF_HUB_OFFLINE=1)."
    ),
]
MaxDownload = Annotated[str, typer.Option(metavar="SIZE", help="The most to download of one model.")]
LIMIT = "20GB"  # an SDXL in float32 has 14


def make_access(
    offline: bool, max_download: str, *, allow_pickle: bool = False, variant: str | None = None
) -> Access:
    """How files are got; made before anything is read, for it switches the network off where that is asked."""
    from resurgence_gate.checkpoints.variants import parse_variant
    from resurgence_gate.cli.sizes import parse_size
    from resurgence_gate.execution.network import go_offline
    from resurgence_gate.vocabulary import Access

    if offline:
        go_offline()
    limit = parse_size(max_download, "--max-download")
    return Access(
        variant=parse_variant(variant), offline=offline, max_download=limit, allow_pickle=allow_pickle
    )


def make_bench(device: Device, dtype: Dtype, store: Path | None, access: Access) -> Bench:
    """Where and with what the check is run."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from resurgence_gate.cli.device import find_device
    from resurgence_gate.cli.progress import RichProgress
    from resurgence_gate.execution import LocalExecutor
    from resurgence_gate.observe import Bench
    from resurgence_gate.store import default_store

    place = default_store(store)
    place.require_writable()
    return Bench(
        store=place,
        device=find_device(device, dtype),
        dtype=dtype,
        progress=RichProgress(),
        executor=LocalExecutor(),
        now=lambda: datetime.now(UTC),
        access=replace(access, converted=place.root),
    )
