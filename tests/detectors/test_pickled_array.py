"""A pickled array is read for what it says, and what it says is never done."""

import os
import pickle
import pickletools
from contextlib import suppress

import numpy as np
import pytest

from resurgence_gate.detectors.pickled_array import array_in_pickle

PROTOCOLS = (2, 3, 4)
SAVED = np.random.default_rng(0).normal(size=(2, 5))


def as_numpy_1(content):
    """As NumPy 1 wrote it, by which the published file was made. In protocol 4 names carry their length."""
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    return content.replace(b"\x8c\x16" + new, b"\x8c\x15" + old).replace(new, old)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_it_is_the_array_that_pickle_would_give(protocol, dtype, order):
    content = pickle.dumps(np.asarray(SAVED, dtype, order=order), protocol)
    read, expected = array_in_pickle(content), pickle.loads(content)
    assert (read.dtype.kind, read.dtype.itemsize) == ("f", expected.dtype.itemsize)
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_1_called_its_modules_otherwise(protocol):
    content = as_numpy_1(pickle.dumps(SAVED.astype("f2"), protocol))
    assert b"_core" not in content
    np.testing.assert_array_equal(array_in_pickle(content), SAVED.astype("f2"))


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class HiddenInState:
    """An array whose state makes a file."""

    def __init__(self, path):
        self.canary = Canary(path)

    def __reduce__(self):
        reconstruct, arguments, state = SAVED.__reduce__()
        return reconstruct, arguments, (*state[:-1], self.canary)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("hidden", [Canary, HiddenInState])
def test_a_malicious_pickle_does_nothing(tmp_path, protocol, hidden):
    content = pickle.dumps(hidden(tmp_path / "canary"), protocol)
    with pytest.raises(ValueError, match=r"mkdir|which no array needs"):
        array_in_pickle(content)
    assert not (tmp_path / "canary").exists()
    with suppress(TypeError):  # of NumPy, which was given a state that is none
        pickle.loads(content)
    assert (tmp_path / "canary").exists()  # it would have, if it had been unpickled


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"\x80\x02cnumpy\nload\nX\x04\0\0\0true\x85R.",
        b"\x80\x02cnumpy\nndarray\n\x85cbuiltins\neval\n.",
    ],
)
def test_the_function_that_would_be_called_is_named(content):
    with pytest.raises(
        ValueError, match=r"would call '(os\.system|numpy\.load|builtins\.eval)'.*nothing was run"
    ):
        array_in_pickle(content)


@pytest.mark.parametrize("opcode", ["INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "PERSID", "BINPERSID"])
def test_other_ways_to_make_an_object_are_refused(opcode):
    code = next(op.code for op in pickletools.opcodes if op.name == opcode).encode("latin-1")
    tail = {"INST": b"os\nsystem\n", "EXT1": b"\1", "PERSID": b"x\n"}.get(opcode, b"")
    with pytest.raises(ValueError, match=f"it holds {opcode}, which no array needs"):
        array_in_pickle(b"\x80\x04N" + code + tail + b".")


REDUCED = SAVED.__reduce__()


class Altered:
    """Pickled as the array, with other arguments or another state."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return REDUCED[0], REDUCED[1], self.state


class AlteredType:
    """Pickled as a dtype of two bytes in another byte order."""

    def __init__(self, name, order):
        self.name, self.order = name, order

    def __reduce__(self):
        return np.dtype, (self.name, False, True), (3, self.order, None, None, None, -1, -1, 0)


VERSION, SHAPE, DTYPE, FORTRAN, DATA = REDUCED[2]


@pytest.mark.parametrize(
    "state",
    [
        (VERSION, (2, 6), DTYPE, FORTRAN, DATA),  # more than there are bytes
        (VERSION, (2, 4), DTYPE, FORTRAN, DATA),
        (VERSION, (-1, 5), DTYPE, FORTRAN, DATA),  # which reshape would take
        (VERSION, (True, 10), DTYPE, FORTRAN, DATA),
        (VERSION, ("2", "5"), DTYPE, FORTRAN, DATA),
        (VERSION, SHAPE, DTYPE, FORTRAN, DATA[:-1]),
        (VERSION, SHAPE, DTYPE, FORTRAN, "text"),
        (VERSION, SHAPE, DTYPE, None, DATA),
        (VERSION, SHAPE, "f8", FORTRAN, DATA),
        (VERSION, SHAPE, AlteredType("O8", "|"), FORTRAN, DATA),
        (VERSION, SHAPE, AlteredType("i8", "<"), FORTRAN, DATA),
        (VERSION, SHAPE, AlteredType("f8", "|"), FORTRAN, DATA),
        (VERSION + 1, SHAPE, DTYPE, FORTRAN, DATA),
        (VERSION, SHAPE, DTYPE, FORTRAN),
        None,
    ],
)
def test_a_state_that_makes_no_array_is_refused(state):
    content = pickle.dumps(Altered(state), 4)
    with pytest.raises(ValueError, match=r"^(not |cannot reshape|buffer size)"):
        array_in_pickle(content)


def test_the_altered_state_would_be_read_if_it_fitted():
    np.testing.assert_array_equal(array_in_pickle(pickle.dumps(Altered(REDUCED[2]), 4)), SAVED)
    state = (VERSION, SHAPE, AlteredType("f8", "<"), FORTRAN, DATA)
    np.testing.assert_array_equal(array_in_pickle(pickle.dumps(Altered(state), 4)), SAVED)


@pytest.mark.parametrize("value", [None, (1, 2), "text", b"bytes", np.dtype("f4"), 1])
def test_what_is_no_array_is_refused(value):
    with pytest.raises(ValueError, match="not a pickled NumPy array"):
        array_in_pickle(pickle.dumps(value, 4))


@pytest.mark.parametrize(
    "value", [[1.0], {"a": 1}, 1.5, np.zeros(3, object), np.array(["a"]), np.zeros(2, "i4")]
)
def test_other_values_are_refused(value):
    with pytest.raises(ValueError, match=r"^(it holds|it would call|not )"):
        array_in_pickle(pickle.dumps(value, 4))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_cut_pickle_is_refused_wherever_it_is_cut(protocol):
    content = pickle.dumps(SAVED.astype("f2"), protocol)
    for end in range(len(content)):
        with pytest.raises(ValueError, match=r"."):
            array_in_pickle(content[:end])


@pytest.mark.parametrize(
    "content",
    [
        b".",
        b"\x80\x02t.",
        b"\x80\x02\x85.",
        b"\x80\x02NR.",
        b"\x80\x02NNR.",
        b"\x80\x02NNb.",
        b"\x80\x04h\5.",
    ],
)
def test_a_stack_that_does_not_hold_what_is_taken_is_refused(content):
    with pytest.raises(ValueError, match=r"^(not a whole pickle|it calls|it sets)"):
        array_in_pickle(content)


@pytest.mark.parametrize("seed", range(200))
def test_a_damaged_pickle_is_an_array_or_refused(seed):
    rng = np.random.default_rng(seed)
    content = bytearray(pickle.dumps(SAVED.astype("f2"), int(rng.choice(PROTOCOLS))))
    for at in rng.integers(0, len(content), size=2):
        content[at] = rng.integers(0, 256)
    with suppress(ValueError):
        assert array_in_pickle(bytes(content)).dtype.kind == "f"


def test_text_is_not_made_into_bytes_more_than_once():
    """Ten thousand calls of `encode` on a text of half a megabyte would fill the memory, if they were made."""
    text = b"a" * 500_000
    names = (
        b"\x80\x04c_codecs\nencode\n\x94X"
        + len(text).to_bytes(4, "little")
        + text
        + b"\x94\x8c\x06latin1\x94"
    )
    with pytest.raises(ValueError, match="not a pickled NumPy array"):
        array_in_pickle(names + b"h\0h\1h\2\x86R" * 10_000 + b".")
