"""A file that PyTorch pickled, as safetensors: scanned, read through `weights_only`, and kept in the store.

A pickle is a program. Two readers that know nothing of each other stand before it: the scan below, which lets only
those instructions through that a dictionary of tensors takes and only those names that rebuild a tensor, and PyTorch's
own `weights_only`, which runs no other either. What is neither a dictionary nor a tensor is refused.

    archive/data.pkl    the program; names its storages by number
    archive/data/<n>    the storages, as they are in memory
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.checkpoints.ref import PICKLES
from resurgence_gate.checkpoints.safetensors_header import MOST_TENSORS
from resurgence_gate.checkpoints.write import write_tensors
from resurgence_gate.errors import GateError, RefusedCheckpoint, ResourceError
from resurgence_gate.store import Store, content_key
from resurgence_gate.vocabulary import Access

if TYPE_CHECKING:
    from torch import Tensor

NAME = "converted.safetensors"
LARGEST_PROGRAM = 64 * 2**20  # bytes; that of a Stable Diffusion with 1,131 tensors has 150,000
_VERSION = 1  # of what is done here
_DEEPEST = 16  # dictionaries in dictionaries
_MEMBERS = re.compile(
    r"data\.pkl|data/\d+|version|byteorder|\.data/serialization_id|\.format_version|\.storage_alignment"
)
_NAMES = frozenset(
    {"collections OrderedDict", "torch.storage UntypedStorage"}
    | {f"torch._utils _rebuild_{what}" for what in ("tensor_v2", "parameter")}
    | {
        f"torch {kind}Storage"
        for kind in ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
    }
)
_INSTRUCTIONS = frozenset(
    {
        "PROTO", "STOP", "MARK", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
        "APPEND", "APPENDS", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "BINUNICODE",
        "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "NONE", "NEWTRUE", "NEWFALSE", "GLOBAL", "BINPERSID",
        "REDUCE", "BUILD",
    }
)  # fmt: skip
_WRAPPERS = ("state_dict", "model_state_dict")  # hold the weights, beside how the training stood


def refuse_pickle(name: str, access: Access, *, where: str) -> None:
    """Raise RefusedCheckpoint if a file called `name` is a pickle, and none is allowed."""
    suffix = Path(name).suffix
    if suffix.lower() in PICKLES and not access.allow_pickle:
        raise RefusedCheckpoint(
            f"{where}: {suffix} files are pickles, which run code when loaded; ask for .safetensors, or give "
            "--allow-pickle, which scans it and reads it as weights only"
        )


def unpickled(file: Path, sha256: str, store: Store) -> Path:
    """The tensors of `file` (of the digest `sha256`) as safetensors; dictionaries in it become names with dots.

    Raises RefusedCheckpoint where it is anything but tensors, and ResourceError.
    """
    key = content_key({"kind": "unpickled", "version": _VERSION, "pickle": sha256})
    if store.find(key) is None:
        scan(file)
        tensors = dict(_flat(_load(file), file))
        if not tensors:
            raise RefusedCheckpoint(f"{file}: a pickle without any tensor; check what file it is")
        if len(tensors) > MOST_TENSORS:
            raise RefusedCheckpoint(f"{file}: a pickle of more than {MOST_TENSORS} tensors")
        _refuse_bombs(tensors, file)
        with store.create(key) as folder:
            write_tensors(_apart(tensors), folder / NAME, metadata={"format": "pt"})
            if hash_file(file) != sha256:
                raise RefusedCheckpoint(f"{file}: its content changed while it was read; run it again")
    return store.require(key) / NAME


def scan(file: Path) -> None:
    """Read the program in `file` without running it.

    Raises RefusedCheckpoint at whatever a dictionary of tensors does not take, and ResourceError.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(4)
        if not start.startswith(b"PK\x03\x04"):
            raise RefusedCheckpoint(f"{file}: {_what_else(start)}")
        with zipfile.ZipFile(file) as archive:
            program = _program(archive, file)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise RefusedCheckpoint(
            f"{file}: a damaged archive ({_first_line(error)}); download it again"
        ) from error
    except OSError as error:
        raise ResourceError(f"{file}: cannot be read ({error.strerror})") from error
    _scan_program(program, file)


def _what_else(start: bytes) -> str:
    if start.startswith(b"\x80"):
        return (
            "a bare pickle, or one of PyTorch before 1.6, which cannot be looked through member by member; "
            "load it where nothing can be lost, and save it as safetensors"
        )
    return "not a file that PyTorch saved; download it again"


def _program(archive: zipfile.ZipFile, file: Path) -> bytes:
    members = archive.infolist()
    names = [member.filename for member in members]
    folder = names[0].partition("/")[0] if names else ""
    if len(set(names)) != len(names):
        raise RefusedCheckpoint(f"{file}: an archive with two members of one name; download it again")
    for member in members:
        owner, _, inside = member.filename.partition("/")
        if owner != folder or not _MEMBERS.fullmatch(inside):
            raise RefusedCheckpoint(
                f"{file}: an archive that holds {member.filename[:80]!r}, which no file of weights does (a script or a "
                "whole model is never run); save its state_dict"
            )
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise RefusedCheckpoint(
                f"{file}: an archive with compressed or encrypted members; PyTorch writes none: save it again"
            )
    total, size = sum(member.file_size for member in members), file.stat().st_size
    if total > size:
        raise RefusedCheckpoint(f"{file}: an archive whose members claim {total} bytes in a file of {size}")
    if f"{folder}/data.pkl" not in names:
        raise RefusedCheckpoint(f"{file}: an archive without data.pkl; PyTorch did not save it")
    if archive.getinfo(f"{folder}/data.pkl").file_size > LARGEST_PROGRAM:
        raise RefusedCheckpoint(f"{file}: a pickle of more than {LARGEST_PROGRAM} bytes beside its tensors")
    return archive.read(f"{folder}/data.pkl")


def _scan_program(program: bytes, file: Path) -> None:
    try:
        for instruction, argument, _ in pickletools.genops(program):
            if instruction.name not in _INSTRUCTIONS:
                raise RefusedCheckpoint(
                    f"{file}: a pickle with the instruction {instruction.name}, which weights do not take; "
                    "ask its authors for safetensors"
                )
            if instruction.name == "GLOBAL" and argument not in _NAMES:
                called = str(argument)[:80].replace(" ", ".")
                raise RefusedCheckpoint(
                    f"{file}: a pickle that would call {called!r}, which weights do not take; nothing of it was run: "
                    "ask its authors for safetensors"
                )
    except GateError:
        raise
    except Exception as error:  # pickletools raises whatever its readers do
        raise RefusedCheckpoint(
            f"{file}: a damaged pickle ({_first_line(error)}); download it again"
        ) from error


def _load(file: Path) -> object:
    import torch

    try:
        loaded: object = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except MemoryError as error:
        raise ResourceError(f"{file}: out of memory") from error
    except Exception as error:  # PyTorch raises whatever a value that it did not check leads to
        raise RefusedCheckpoint(
            f"{file}: PyTorch does not read it as weights ({type(error).__name__}: {_first_line(error)}); "
            "ask its authors for safetensors"
        ) from error
    return loaded


def _flat(value: object, file: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of everything in `value`."""
    import torch

    where = prefix.removesuffix(".") or "the whole"
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided or value.is_quantized or value.is_meta or value.is_complex():
            raise RefusedCheckpoint(
                f"{file}: {where} is a sparse, quantized or complex tensor; save it as a plain one"
            )
        yield where, value.detach()
        return
    if not isinstance(value, Mapping) or depth > _DEEPEST:
        raise RefusedCheckpoint(
            f"{file}: {where} is a {type(value).__name__}, where weights are tensors in dictionaries; "
            "save its state_dict"
        )
    wrapper = next((name for name in _WRAPPERS if isinstance(value.get(name), Mapping)), None)
    if wrapper is not None and not any(isinstance(inside, torch.Tensor) for inside in value.values()):
        yield from _flat(value[wrapper], file, prefix, depth + 1)
        return
    for name, inside in value.items():
        if not isinstance(name, str):
            raise RefusedCheckpoint(f"{file}: a name in {where} is a {type(name).__name__}, not a text")
        yield from _flat(inside, file, f"{prefix}{name}.", depth + 1)


def _refuse_bombs(tensors: Mapping[str, Tensor], file: Path) -> None:
    """No tensor is larger than what is stored of it, and all together are not larger than the file by much."""
    for name, tensor in tensors.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise RefusedCheckpoint(f"{file}: {name} is larger than what is stored of it; save it again")
    total, size = sum(t.numel() * t.element_size() for t in tensors.values()), file.stat().st_size
    if total > 4 * size:  # some weights are tied, and saved once
        raise RefusedCheckpoint(f"{file}: its tensors take {total} bytes, the file has {size}; save it again")


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Each with a storage of its own; safetensors has no tied weights."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone().contiguous() if place in seen else tensor
        seen.add(place)
    return apart


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
