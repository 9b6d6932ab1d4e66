"""What went wrong, as an exit code and one message: what happened, where, and what to do."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import typer

from resurgence_gate.errors import GateError
from resurgence_gate.execution.memory import out_of_memory
from resurgence_gate.visible import visible

RESUME = "interrupted; the same command resumes"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
INTERNAL, USAGE, INFRASTRUCTURE, INTERRUPTED = 1, 2, 3, 130


class Terminated(BaseException):
    """A signal asks for an end: SIGTERM, or SIGHUP when the terminal is gone. Shells call it 128 + its number."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(f"signal {number}")


def debugging(arguments: list[str]) -> bool:
    """Whether tracebacks are wanted."""
    return "--debug" in arguments or os.environ.get("RESURGENCE_GATE_DEBUG", "") not in ("", "0")


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code of `error` and what to print on stderr."""
    match error:
        case SystemExit():  # a plugin's or a library's: whatever code it has, 0 is a PASS and 10 a FAIL
            return (
                INTERNAL,
                f"error: something that was called ended the program (with {error.code!r}), so there is no verdict\n"
                "--debug shows where it happened.",
            )
        case KeyboardInterrupt() | typer.Abort():
            return INTERRUPTED, RESUME
        case Terminated():
            return error.exit_code, RESUME
        case BrokenPipeError():
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - so that the flush at exit is silent
            return INTERNAL, ""
        case GateError():
            return error.exit_code, f"error: {visible(str(error))}"
        case _ if _is("ClickException", error):
            return USAGE, _of_click(error)
        case _ if out_of_memory(error):
            return (
                INFRASTRUCTURE,
                "error: out of memory; free some, or try a device or --dtype that needs less",
            )
        case OSError() if error.errno in _FULL:
            where = f" ({error.filename})" if error.filename else ""
            return (
                INFRASTRUCTURE,
                f"error: the disk is full{where}; free some space and run the same command again",
            )
        case _:
            return (
                INTERNAL,
                f"error: {type(error).__name__}: {error}\nThis is a bug; --debug shows where it happened.",
            )


def _is(name: str, error: BaseException) -> bool:
    """By the name of its class: Typer has taken Click into itself, and old and new ones must both do."""
    return any(kind.__name__ == name for kind in type(error).__mro__)


def _of_click(error: Any) -> str:
    if _is("NoArgsIsHelpError", error):
        return str(error.format_message())
    context = getattr(error, "ctx", None)
    message = str(error.format_message()).replace("Value error, ", "")  # newer Typers validate by pydantic
    if context is None:
        return f"error: {message}"
    return f"error: {message}\nsee `{context.command_path} --help`"
