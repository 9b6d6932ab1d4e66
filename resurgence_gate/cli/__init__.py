"""The command line: parse, call, print, exit. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import signal
import sys
import traceback
from contextlib import suppress
from io import TextIOWrapper
from types import FrameType
from typing import Annotated

import typer

from resurgence_gate.cli import (
    attest,
    cache,
    calibrate,
    card,
    check,
    compare,
    detectors,
    doctor,
    fetch,
    inspect,
    judge,
    policy,
    probe,
    report,
    toy,
    unlearn,
    verify,
)
from resurgence_gate.cli.failures import INTERRUPTED, RESUME, USAGE, Terminated, debugging, explain
from resurgence_gate.cli.verdicts import EXIT_CODES

__all__ = ["EXIT_CODES", "app", "main"]

app = typer.Typer(
    name="resurgence-gate",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_COMMANDS = (  # as they are listed, each line in 80 columns
    (check.check, check.EPILOG, "Test whether erased concepts come back after a fine-tune."),
    (report.report, report.EPILOG, "Write the report of a check in another format."),
    (compare.compare, compare.EPILOG, "Say what got better or worse between two checks."),
    (judge.judge, judge.EPILOG, "Judge a finished check again, by other thresholds."),
    (card.card, card.EPILOG, "Write what a check found for a model card, or propose it."),
    (attest.attest, attest.EPILOG, "Write a statement about a finished check, signed."),
    (verify.verify, verify.EPILOG, "Check a signed statement against a model and a policy."),
    (fetch.fetch, fetch.EPILOG, "Download all that a check reads, so that it needs no network."),
    (inspect.inspect, inspect.EPILOG, "Say what a checkpoint is and changes, without running it."),
    (calibrate.calibrate, calibrate.EPILOG, "Measure how well the detectors of a policy see."),
    (probe.probe, probe.EPILOG, "Fine-tune a checkpoint on benign data, and keep the result."),
    (unlearn.unlearn, unlearn.EPILOG, "Erase concepts from a model by ESD, SDD, UCE or MACE."),
    (toy.toy, toy.EPILOG, "Study concept resurgence in one dimension."),
    (doctor.doctor, doctor.EPILOG, "Say whether this machine can run a check."),
)
for _command, _epilog, _short in _COMMANDS:
    app.command(epilog=_epilog, short_help=_short)(_command)
app.add_typer(policy.app, name="policy")
app.add_typer(detectors.app, name="detectors")
app.add_typer(cache.app, name="cache")

_EPILOG = """\b
Exit codes: 0 PASS, 10 FAIL, 11 INCONCLUSIVE, 12 refused (unsafe files), 2 usage or policy invalid,
3 infrastructure (worth retrying), 1 no verdict (internal error, or a fine-tune that diverged),
129, 130 and 143 interrupted (the same command resumes)."""


def _show_version(wanted: bool) -> None:
    if wanted:
        from resurgence_gate import __version__

        typer.echo(f"resurgence-gate {__version__}")
        raise typer.Exit


@app.callback(epilog=_EPILOG)
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks (or set RESURGENCE_GATE_DEBUG=1).")
    ] = False,
) -> None:
    """The release test for unlearned text-to-image models.

    A model that forgot a concept may learn it back from a harmless fine-tune. This command looks for the
    erased concept, fine-tunes a copy on pictures of other things, looks again, and says PASS, FAIL or
    INCONCLUSIVE.

    \b
    Start here:
      resurgence-gate check pocket:esd --policy pocket
    """


def main() -> None:
    """Run the command line and exit with the code that says what happened."""
    signal.signal(signal.SIGTERM, _terminate)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup stays deaf
        signal.signal(signal.SIGHUP, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without our signs must not cost a verdict
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run `arguments`; every failure becomes one message on stderr and an exit code."""
    debug = debugging(arguments)
    arguments = [argument for argument in arguments if argument != "--debug"]  # it may stand anywhere
    try:
        code = app(arguments, prog_name="resurgence-gate", standalone_mode=False)
        message = RESUME if code == INTERRUPTED else ""  # newer Typers turn Ctrl-C into a plain exit
    except BaseException as error:
        if debug:
            traceback.print_exception(error)
        code, message = explain(error)
        if code == USAGE and arguments[:1] == ["check"]:
            check.note_misuse(error, arguments)
    if message:
        with suppress(OSError):  # nobody may be there to read it, and the code says it all
            print(message, file=sys.stderr)
    return code if isinstance(code, int) else 0


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)
