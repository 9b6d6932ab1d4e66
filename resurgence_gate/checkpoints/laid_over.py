"""A file of tensors over a whole model: what it holds decides which components it is laid over.

    UNet tensors, all or some      unet
    text encoder                   text_encoder, or text_encoder_2 where it fits that one
    LoRA                           merged into a copy of the weights that it adds to: W0 + scale B A
    CompVis' names                 renamed; a single file of a whole model gives every weight of every component
    unet.*, text_encoder.*, ...    each to its own
    pickles of any of these        made safetensors first, where they are allowed

Such files are often loaded with `strict=False`, where a wrong one loads silently. Here every tensor of the file
must match one of the base by name and shape; how many do, and how many differ from the base, becomes a note.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from resurgence_gate.checkpoints.digest import digest_of, hash_file
from resurgence_gate.checkpoints.header import read_header
from resurgence_gate.checkpoints.inspect import PARTS, inspect_tensors, match_tensors, shapes_of
from resurgence_gate.checkpoints.kinds import Kind, compvis_names, kind_of
from resurgence_gate.checkpoints.lora import beside
from resurgence_gate.checkpoints.merged import merged
from resurgence_gate.checkpoints.pickled import refuse_pickle, unpickled
from resurgence_gate.checkpoints.ref import PICKLES
from resurgence_gate.checkpoints.renamed import renamed
from resurgence_gate.checkpoints.weights import check_positions
from resurgence_gate.errors import RefusedCheckpoint
from resurgence_gate.store import Store, default_store
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
    told = [*_told(file), *(_note(base, file, component, path) for component, path in parts.items())]
    return replace(
        base, ref=ref, digest=digest_of(base.files, over), overlays=over, notes=(*base.notes, *told)
    )


def lay_unet_over(base: Checkpoint, file: Path, ref: str) -> Checkpoint:
    """As `lay_over`, for a file of UNet tensors that this package ships."""
    match_tensors(file, shapes_of(base, "unet"))
    published = LoadedFile(name=file.name, sha256=hash_file(file))
    overlay = Overlay(component="unet", path=file, sha256=published.sha256, published=(published,))
    over = (*base.overlays, overlay)
    return replace(base, ref=ref, digest=digest_of(base.files, over), overlays=over)


def as_safetensors(file: Path, sha256: str, access: Access) -> Path:
    """`file` itself, or what was made of a pickle.

    Raises RefusedCheckpoint where pickles are not allowed, or this one is more than tensors.
    """
    if file.suffix.lower() not in PICKLES:
        return file
    refuse_pickle(file.name, access, where=str(file))
    return unpickled(file, sha256, default_store(access.converted))


def _parts(
    base: Checkpoint, file: Path, published: tuple[LoadedFile, ...], access: Access
) -> Mapping[str, Path]:
    """{component: tensors in its own names}; all of `file` is in them."""
    plain = as_safetensors(file, published[0].sha256, access)
    with called(plain, file):
        return _by_kind(base, plain, published, default_store(access.converted))


@contextmanager
def called(made: Path, file: Path | str) -> Iterator[None]:
    """A refusal is told of the file that was given, not of what was made of it."""
    try:
        yield
    except RefusedCheckpoint as refusal:
        raise RefusedCheckpoint(str(refusal).replace(str(made), str(file))) from refusal


def _by_kind(
    base: Checkpoint, file: Path, published: tuple[LoadedFile, ...], store: Store
) -> Mapping[str, Path]:
    names = read_header(file)
    check_positions(file, where=str(file))
    kind = kind_of(names)
    if kind is Kind.LORA:
        return merged(file, published, base, store)
    if needs_names(kind, names):
        shapes = {(part, name): shape for part in PARTS for name, shape in shapes_of(base, part).items()}
        return renamed(file, published[0].sha256, shapes, store, whole=kind is Kind.SINGLE_FILE)
    component = _encoder_of(file, base) if kind is Kind.TEXT_ENCODER else "unet"
    match_tensors(file, shapes_of(base, component), component)
    return {component: file}


def needs_names(kind: Kind, names: Collection[str]) -> bool:
    """Does a file of `kind` name its tensors otherwise than one component of a diffusers folder does?"""
    if kind in (Kind.UNET, Kind.PARTIAL_UNET):
        return compvis_names(names) or len(owners(names)) > 1
    return kind is Kind.SINGLE_FILE or len(owners(names)) > 1


def owners(names: Collection[str]) -> set[str]:
    """The components that stand before the names."""
    return {name.partition(".")[0] for name in names} & set(PARTS)


def _told(file: Path) -> tuple[str, ...]:
    if file.suffix.lower() not in PICKLES:
        return ()
    return (f"{file.name}: a pickle; it was scanned, read as weights only, and converted to safetensors",)


def _encoder_of(file: Path, base: Checkpoint) -> str:
    """Which text encoder of `base` has tensors of these shapes: the first that fits, else the first."""
    for component in ("text_encoder", "text_encoder_2"):
        try:
            match_tensors(file, shapes_of(base, component), component)
        except RefusedCheckpoint:
            continue
        return component
    return "text_encoder"


def _note(base: Checkpoint, file: Path, component: str, path: Path) -> str:
    with called(path, file):
        found, part = inspect_tensors(path, base, component), PARTS[component]
    over = "all" if not found.partial else f"{found.matched} of the {found.total}"
    differ = (
        "none of them differs from the base: it changes nothing"
        if not found.changed
        else f"{len(found.changed)} of them differ from the base"
    )
    return f"{file.name}: {over} tensors of the {part} laid over, {differ}"
