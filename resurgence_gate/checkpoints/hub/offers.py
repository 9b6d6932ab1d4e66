"""What a repository has that could be meant: pipelines, and files of tensors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from resurgence_gate.checkpoints.ref import PICKLES, format_ref, holds_tensors, nameable
from resurgence_gate.errors import on_one_line
from resurgence_gate.vocabulary import HubRepo

INDEX = "model_index.json"
_MANY = 8  # places that a message names


def why_no_pipeline(ref: HubRepo, names: Collection[str]) -> str:
    """Why there is none at `ref` in the repository with these files, and what there is instead."""
    if ref.folder in names:
        what = f"{ref.folder} is a file, and neither a folder nor one of tensors (.safetensors)"
    elif ref.folder and not any(name.startswith(f"{ref.folder}/") for name in names):
        what = "the repository has no such folder"
    else:
        what = "not a diffusers pipeline (no model_index.json)"
    pipelines = sorted(
        name.removesuffix(INDEX).rstrip("/") for name in names if f"/{name}".endswith(f"/{INDEX}")
    )
    if pipelines:
        return f"{what}; it has pipelines at {named(ref, pipelines)}"
    if tensors := tensors_among(names):
        return f"{what}; it has tensors, which are given with --base: {named(ref, tensors)}"
    return what


def tensors_among(names: Collection[str]) -> list[str]:
    """The files of tensors that a reference can name; pickles only where there is nothing else."""
    found = [name for name in sorted(names) if holds_tensors(name) and nameable(name)]
    return [name for name in found if not name.lower().endswith(PICKLES)] or found


def named(ref: HubRepo, places: Sequence[str]) -> str:
    """These places in the repository of `ref` as they are given, or the first of many."""
    shown = [on_one_line(format_ref(replace(ref, folder=place))) for place in places[:_MANY]]
    return ", ".join(shown + ["..."] * (len(places) > _MANY))
