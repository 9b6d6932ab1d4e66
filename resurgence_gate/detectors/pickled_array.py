"""A NumPy array out of a pickle that is read as text, and never run.

A pickle is a program, and `pickle.load` does what it says. Here its instructions are followed on paper: what it would
call becomes a `_Call`, and the only one that is understood in the end is the one by which NumPy writes an array,

    _reconstruct(ndarray, (0,), b"b"), then its state (1, shape, dtype, is_fortran, bytes)
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KNOWN = {
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",  # NumPy 2
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",  # bytes, as protocol 2 writes them
}
_FLOATS = ("f2", "f4", "f8")
_PUSHES_ITS_ARGUMENT = {
    "SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "BININT", "BININT1", "BININT2",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(eq=False)
class _Call:
    """A call that was written down and not made; `state` is what the pickle would set on its result."""

    function: str
    arguments: Any
    state: Any = None


@dataclass(frozen=True)
class _Function:
    """One of `_KNOWN`."""

    name: str


def array_in_pickle(content: bytes) -> NDArray[Any]:
    """The array of floats of any shape that `content` holds. Raises ValueError for anything else."""
    try:
        written = _followed(content)
    except (IndexError, KeyError) as error:
        raise ValueError("not a whole pickle") from error
    match written:
        case _Call("array", _, (1, tuple() as shape, _Call("dtype") as dtype, bool() as fortran, data)):
            flat = np.frombuffer(_bytes(data), _float_type(dtype))
            return flat.reshape([_size(n) for n in shape], order="F" if fortran else "C")
    raise ValueError("not a pickled NumPy array")


def _bytes(data: object) -> bytes:
    match data:
        case bytes():
            return data
        case _Call("encode", (str() as text, "latin1" | "latin-1")):
            return text.encode("latin-1")
    raise ValueError("not an array of floating-point numbers")


def _float_type(dtype: _Call) -> np.dtype[Any]:
    match dtype.arguments, dtype.state:
        case (str() as name, *_), (_, "<" | ">" as order, *_) if name in _FLOATS:
            kind: np.dtype[Any] = np.dtype(order + name)
            return kind
    raise ValueError("not an array of floating-point numbers")


def _size(n: object) -> int:
    if type(n) is not int or n < 0:
        raise ValueError("not a shape")
    return n


def _followed(content: bytes) -> object:
    """What the pickle builds, with a `_Call` for everything that it would have called."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name in _PUSHES_ITS_ARGUMENT:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(_popped(stack, _TUPLES[name]))]
        else:
            match name:
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    return stack[-1]
                case "GLOBAL":
                    stack.append(_function(argument))
                case "STACK_GLOBAL":
                    stack[-2:] = [_function(" ".join(map(str, _popped(stack, 2))))]
                case "MARK":
                    marks.append(len(stack))
                case "TUPLE":
                    start = marks.pop()
                    stack[start:] = [tuple(stack[start:])]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "REDUCE":
                    stack[-2:] = [_called(*_popped(stack, 2))]
                case "BUILD":
                    made, state = _popped(stack, 2)
                    if not isinstance(made, _Call):
                        raise ValueError("it sets the state of what it did not make")
                    made.state = state
                    stack.pop()
                case _:
                    raise ValueError(f"it holds {name}, which no array needs")
    raise ValueError("not a whole pickle")


def _popped(stack: list[Any], count: int) -> list[Any]:
    """The last `count` of the stack, which stay on it for the caller to replace."""
    if len(stack) < count:
        raise IndexError("stack")
    return stack[-count:]


def _function(named: str) -> _Function:
    if named not in _KNOWN:
        called = ".".join(named.split())[:80]
        raise ValueError(f"it would call {called!r}, which no array needs; nothing was run")
    return _Function(_KNOWN[named])


def _called(function: object, arguments: object) -> _Call:
    if not isinstance(function, _Function):
        raise ValueError("it calls what is not a function")
    return _Call(function.name, arguments)
