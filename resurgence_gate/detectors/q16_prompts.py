"""The two prompt vectors of Q16: found, hashed, and read without running anything that a file may say."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resurgence_gate.checkpoints.pocket import pocket_folder
from resurgence_gate.detectors.fetch import fetch, is_url
from resurgence_gate.detectors.pickled_array import array_in_pickle
from resurgence_gate.errors import ResourceError, UsageError
from resurgence_gate.policy.schema import Q16

LABELS = ("not inappropriate", "inappropriate")  # what the two vectors stand for, in order
MAX_BYTES = 1_000_000  # two vectors of 768 take 3 to 12 thousand
_KEY = "prompts"
_PUBLISHED = "https://github.com/ml-research/Q16/raw/main/data/ViT-L-14/prompts.p"
_HOW_TO_SAVE = "save float32 [2, width] as `prompts` in a .safetensors, or as an .npy"


def locate_prompts(spec: Q16) -> tuple[Path, str]:
    """The file of the prompts, downloaded if it is on the web, and its SHA-256.

    Raises UsageError where it is not what the policy pins or holds no two prompts, HubError and ResourceError.
    """
    file = _file(spec)
    content = _content(file, spec)
    sha256 = hashlib.sha256(content).hexdigest()
    if spec.sha256 is not None and sha256 != spec.sha256:
        raise UsageError(
            f"{_where(spec)}: the SHA-256 is {sha256}, and the policy says {spec.sha256}; "
            "give the file that was meant, or its digest"
        )
    _parsed(content, file, spec)
    return file, sha256


def read_prompts(file: Path, spec: Q16) -> NDArray[np.float32]:
    """The prompts as unit vectors [2, width], one row for each of `LABELS`. Raises UsageError."""
    return _parsed(_content(file, spec), file, spec)


def _where(spec: Q16) -> str:
    return f"detector {spec.model!r}: prompts {spec.prompts.partition('?')[0]!r}"


def _file(spec: Q16) -> Path:
    if is_url(spec.prompts):
        if spec.sha256 is None:
            raise UsageError(f"{_where(spec)}: a file on the web can change; give its `sha256` in the policy")
        return fetch(spec.prompts, spec.sha256, MAX_BYTES)
    if spec.prompts.startswith("pocket:"):
        name = spec.prompts.removeprefix("pocket:")
        file = pocket_folder() / "detectors" / name / f"{name}.safetensors"
        if "/" in name or not file.is_file():
            raise UsageError(f"{_where(spec)}: not part of the pocket benchmark; it has 'pocket:q16'")
        return file
    file = Path(spec.prompts).expanduser()
    if not file.is_file():
        raise UsageError(
            f"{_where(spec)}: no such file; give a path, a URL or pocket:q16. The published ones come with `curl -LO "
            f"{_PUBLISHED}`"
        )
    return file


def _content(file: Path, spec: Q16) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ResourceError(f"{file}: cannot be read ({error.strerror})") from error
    if len(content) > MAX_BYTES:
        raise UsageError(f"{_where(spec)}: larger than {MAX_BYTES:,} bytes, so not two vectors")
    return content


def _parsed(content: bytes, file: Path, spec: Q16) -> NDArray[np.float32]:
    reader = _READERS.get(file.suffix)
    if reader is None:
        raise UsageError(
            f"{_where(spec)}: its kind is not known by the ending {file.suffix!r}; known: {', '.join(_READERS)}"
        )
    try:
        saved = reader(content)
    except Exception as error:  # the libraries raise whatever a byte that they did not check leads to
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"{_where(spec)}: cannot be read ({reason}); {_HOW_TO_SAVE}") from error
    return _two_directions(saved, spec)


def _two_directions(saved: NDArray[Any], spec: Q16) -> NDArray[np.float32]:
    """The vectors, if a cosine with either can be taken and the two can be told apart."""
    if saved.dtype.kind != "f" or saved.ndim != 2 or len(saved) != 2 or not saved.size:
        raise UsageError(
            f"{_where(spec)}: {saved.dtype} of shape {list(saved.shape)}; Q16 takes two vectors; {_HOW_TO_SAVE}"
        )
    prompts = saved.astype(np.float64)  # in which no length that a smaller type can have is 0 or infinite
    if not np.isfinite(prompts).all():
        raise UsageError(f"{_where(spec)}: it holds NaN or infinity; take the file that was published")
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(prompts, axis=1, keepdims=True)
    if not ((lengths > 0) & np.isfinite(lengths)).all():
        raise UsageError(f"{_where(spec)}: a vector without a direction; take the file that was published")
    units: NDArray[np.float32] = (prompts / lengths).astype(np.float32)
    if np.array_equal(*units):
        raise UsageError(f"{_where(spec)}: both vectors are one, which tells no two pictures apart")
    return units


def _safetensors(content: bytes) -> NDArray[Any]:
    from safetensors.numpy import load

    tensors: Mapping[str, NDArray[Any]] = load(content)
    if _KEY not in tensors:
        raise ValueError(f"no tensor {_KEY!r}; it has {', '.join(map(repr, sorted(tensors))) or 'none'}")
    return tensors[_KEY]


def _npy(content: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return array


_READERS: Mapping[str, Callable[[bytes], NDArray[Any]]] = {
    ".safetensors": _safetensors,
    ".npy": _npy,
    ".p": array_in_pickle,
    ".pkl": array_in_pickle,
    ".pickle": array_in_pickle,
}
