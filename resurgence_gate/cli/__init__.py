"""The command line: parse, call, print, exit. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import signal
import sys
import traceback
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
app.command("check", epilog=check.EPILOG)(check.check)
app.command("report", epilog=report.EPILOG)(report.report)
app.command("compare", epilog=compare.EPILOG)(compare.compare)
app.command("judge", epilog=judge.EPILOG)(judge.judge)
app.command("card", epilog=card.EPILOG)(card.card)
app.command("attest", epilog=attest.EPILOG)(attest.attest)
app.command("verify", epilog=verify.EPILOG)(verify.verify)
app.command("fetch", epilog=fetch.EPILOG)(fetch.fetch)
app.command("inspect", epilog=inspect.EPILOG)(inspect.inspect)
app.command("calibrate", epilog=calibrate.EPILOG)(calibrate.calibrate)
app.command("probe", epilog=probe.EPILOG)(probe.probe)
app.command("unlearn", epilog=unlearn.EPILOG)(unlearn.unlearn)
app.command("toy", epilog=toy.EPILOG)(toy.toy)
app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)
app.add_typer(policy.app, name="policy")
app.add_typer(detectors.app, name="detectors")
app.add_typer(cache.app, name="cache")

_EPILOG = """\b
Exit codes: 0 PASS, 10 FAIL, 11 INCONCLUSIVE, 12 refused (unsafe files), 2 usage or policy invalid,
3 infrastructure (worth retrying), 1 no verdict (internal error, or a fine-tune that diverged),
130 and 143 interrupted (the same command resumes)."""


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
        print(message, file=sys.stderr)
    return code if isinstance(code, int) else 0


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
