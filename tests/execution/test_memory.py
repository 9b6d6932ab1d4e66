"""Out of memory halves what is done at once, and nothing else; a single one that does not fit is exit 3."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resurgence_gate.errors import ResourceError
from resurgence_gate.execution import memory
from resurgence_gate.execution.memory import AtOnce, out_of_memory

FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    MemoryError(),
    RuntimeError("MPS backend out of memory (MPS allocated: 18.05 GB)"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
)


@pytest.mark.parametrize("error", FULL, ids=str)
def test_what_is_out_of_memory(error: Exception) -> None:
    assert out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shape"), ValueError("out of memory"), KeyboardInterrupt()])
def test_what_is_not(error: BaseException) -> None:
    assert not out_of_memory(error)


@given(count=st.integers(0, 100), size=st.integers(1, 70), room=st.integers(1, 70))
def test_every_row_is_done_once_in_order_and_no_more_than_fit(count: int, size: int, room: int) -> None:
    tried = []

    def work(rows: slice) -> list[int]:
        tried.append(rows.stop - rows.start)
        if tried[-1] > room:
            raise torch.OutOfMemoryError
        return list(range(rows.start, rows.stop))

    at_once = AtOnce(size, "drawing")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(memory, "_free", lambda: None)  # slow, and there is nothing to free
        parts = list(at_once.parts(count, work))
    assert [row for part in parts for row in part] == list(range(count))
    assert all(0 < len(part) <= room for part in parts)
    assert len(tried) - len(parts) <= 7  # what fits is remembered
    assert 2 * at_once.size >= min(size, room, count or 1)  # and no more is given up than half


def test_halving_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def work(n: int) -> int:
        if n > 3:
            raise torch.OutOfMemoryError
        return n

    at_once = AtOnce(16, "drawing")
    assert at_once.halving(16, work) == 2
    assert [record.message for record in caplog.records] == [
        "drawing: out of memory with 16 at once; going on with 8",
        "drawing: out of memory with 8 at once; going on with 4",
        "drawing: out of memory with 4 at once; going on with 2",
    ]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_single_one_that_does_not_fit_is_worth_retrying(error: Exception) -> None:
    def work(n: int) -> int:
        raise error

    with pytest.raises(
        ResourceError, match=r"judging: out of memory even one at a time; .*--dtype"
    ) as raised:
        AtOnce(4, "judging").halving(4, work)
    assert raised.value.exit_code == 3


def test_other_errors_are_not_tried_again() -> None:
    tried = []

    def work(n: int) -> int:
        tried.append(n)
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape"):
        AtOnce(4, "judging").halving(4, work)
    assert tried == [4]


def test_what_the_failed_attempt_held_is_free_before_the_next() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def work(n: int) -> int:
        assert all(ref() is None for ref in held)
        tensor = torch.zeros(n)
        held.append(weakref.ref(tensor))
        if n > 1:
            raise torch.OutOfMemoryError
        return n

    gc.disable()  # a cycle would hide behind the collector's next turn
    try:
        assert AtOnce(8, "drawing").halving(8, work) == 1
    finally:
        gc.enable()
    assert len(held) == 4
