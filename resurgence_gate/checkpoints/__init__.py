"""Checkpoints: read a reference, resolve it to files and digests, refuse what is unsafe, load the models.

`pipeline` imports torch and diffusers, and so is imported by its own name only.
"""

from resurgence_gate.checkpoints.digest import digest_of
from resurgence_gate.checkpoints.inspect import PartTensors, inspect_tensors
from resurgence_gate.checkpoints.pocket import pocket_folder, pocket_names
from resurgence_gate.checkpoints.ref import format_ref, parse_ref
from resurgence_gate.checkpoints.resolve import resolve

__all__ = [
    "PartTensors",
    "digest_of",
    "format_ref",
    "inspect_tensors",
    "parse_ref",
    "pocket_folder",
    "pocket_names",
    "resolve",
]
