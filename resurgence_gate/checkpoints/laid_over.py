"""A file of tensors over a whole model: what it holds decides which components it is laid over.

    UNet tensors, all or some      unet
    text encoder                   text_encoder, or text_encoder_2 where it fits that one
    LoRA                           merged into a copy of the weights that it adds to: W0 + scale B A

Such files are often loaded with `strict=False`, where a wrong one loads silently. Here every tensor of the file
must match one of the base by name and shape; how many do, and how many differ from the base, becomes a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from resurgence_gate.checkpoints.digest import digest_of, hash_file
from resurgence_gate.checkpoints.header import read_header
from resurgence_gate.checkpoints.inspect import PARTS, inspect_tensors, match_tensors, shapes_of
from resurgence_gate.checkpoints.kinds import Kind, kind_of
from resurgence_gate.checkpoints.lora import beside
from resurgence_gate.checkpoints.merged import merged
from resurgence_gate.errors import RefusedCheckpoint
from resurgence_gate.store import default_store
from resurgence_gate.vocabulary import Access, Checkpoint, LoadedFile, Overlay


def lay_over(base: Checkpoint, file: Path, ref: str, access: Access) -> Checkpoint:
    """`base` with the tensors of `file` over it, called `ref`.

    Raises RefusedCheckpoint where the file is not wholly of this base, and ResourceError.
    """
    published = tuple(LoadedFile(name=path.name, sha256=hash_file(path)) for path in (file, *beside(file)))
    parts = _parts(base, file, published, access)
    for path, known in zip((file, *beside(file)), published, strict=True):
        if hash_file(path) != known.sha256:
            raise RefusedCheckpoint(
                f"{path}: its content changed while it was read; find out who writes there"
            )
    overlays = tuple(
        Overlay(
            component=component,
            path=path,
            sha256=published[0].sha256 if path == file else hash_file(path),
            published=published,
        )
        for component, path in parts.items()
    )
    over = (*base.overlays, *overlays)
    notes = (*base.notes, *(_note(base, file.name, component, path) for component, path in parts.items()))
    return replace(base, ref=ref, digest=digest_of(base.files, over), overlays=over, notes=notes)


def lay_unet_over(base: Checkpoint, file: Path, ref: str) -> Checkpoint:
    """As `lay_over`, for a file of UNet tensors that this package ships."""
    match_tensors(file, shapes_of(base, "unet"))
    published = LoadedFile(name=file.name, sha256=hash_file(file))
    overlay = Overlay(component="unet", path=file, sha256=published.sha256, published=(published,))
    over = (*base.overlays, overlay)
    return replace(base, ref=ref, digest=digest_of(base.files, over), overlays=over)


def _parts(
    base: Checkpoint, file: Path, published: tuple[LoadedFile, ...], access: Access
) -> Mapping[str, Path]:
    """{component: tensors in its own names}; all of `file` is in them."""
    kind = kind_of(read_header(file))
    if kind is Kind.LORA:
        return merged(file, published, base, default_store(access.converted))
    component = _encoder_of(file, base) if kind is Kind.TEXT_ENCODER else "unet"
    match_tensors(file, shapes_of(base, component), component)
    return {component: file}


def _encoder_of(file: Path, base: Checkpoint) -> str:
    """Which text encoder of `base` has tensors of these shapes: the first that fits, else the first."""
    for component in ("text_encoder", "text_encoder_2"):
        try:
            match_tensors(file, shapes_of(base, component), component)
        except RefusedCheckpoint:
            continue
        return component
    return "text_encoder"


def _note(base: Checkpoint, name: str, component: str, path: Path) -> str:
    found, part = inspect_tensors(path, base, component), PARTS[component]
    over = "all" if not found.partial else f"{found.matched} of the {found.total}"
    differ = (
        "none of them differs from the base: it changes nothing"
        if not found.changed
        else f"{len(found.changed)} of them differ from the base"
    )
    return f"{name}: {over} tensors of the {part} laid over, {differ}"
