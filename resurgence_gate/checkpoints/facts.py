"""What is found out about a checkpoint without running it, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from resurgence_gate.checkpoints.kinds import Kind


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """A file of the checkpoint. `used`: does `check` read it?"""

    name: str
    bytes: int
    sha256: str | None  # None for a file that is not used
    used: bool


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """The tensors of one component, from the headers of its files."""

    component: str
    tensors: int
    parameters: int
    dtypes: dict[str, int]  # safetensors' name of a type: parameters of it
    not_finite: tuple[str, ...]  # tensors with NaN or infinite values


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What the configurations say; None where nothing says it."""

    family: str
    pipeline: str | None = None
    scheduler: str | None = None
    prediction_type: str | None = None
    sample_size: int | None = None  # of the latents
    pixels: int | None = None  # of the pictures
    cross_attention_dim: int | None = None
    block_out_channels: tuple[int, ...] | None = None
    safety_checker: bool = False  # there is one; `check` does not run it


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A tensor that differs from the base's, or for a LoRA a weight that it adds to."""

    name: str
    block: str
    layer: str
    relative_norm: float | None  # |W - W0| / |W0|, Frobenius; None where it is no number


@dataclass(frozen=True, kw_only=True)
class WrongShape:
    """A tensor that the base has in another shape."""

    name: str
    shape: tuple[int, ...]
    base: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The changed tensors of a block or of a kind of layer, taken together."""

    name: str
    matched: int
    changed: int
    relative_norm: float | None  # over the changed tensors; None without one


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The checkpoint beside its base, over the components that the checkpoint holds."""

    base: str
    total: int  # tensors of the base in these components
    matched: int  # tensors with the name and the shape of one of the base's
    unknown: tuple[str, ...]
    wrong_shape: tuple[WrongShape, ...]
    not_compared: tuple[str, ...]  # of a type that cannot be read here
    rounded: int  # equal to the base but for the precision in which they are stored
    changed: tuple[Changed, ...]
    relative_norm: float | None  # over all changed tensors
    by_block: tuple[Group, ...]
    by_layer: tuple[Group, ...]


@dataclass(frozen=True, kw_only=True)
class Card:
    """The front matter of README.md."""

    license: str | None
    base_model: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Everything that `resurgence-gate inspect` says."""

    ref: str
    kind: Kind
    digest: str | None  # what a report of `check` would name; None where it would be refused
    architecture: Architecture | None
    files: tuple[FileFacts, ...]
    tensors: tuple[TensorFacts, ...]
    metadata: dict[str, str]  # in the header of a single file
    comparison: Comparison | None
    card: Card | None
    refusals: tuple[str, ...]  # why `check` would refuse it
    notes: tuple[str, ...]
