"""`resurgence-gate detectors`: what can look at pictures, how it is asked for, and what it says of yours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resurgence_gate.cli.options import Device, policy_option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from resurgence_gate.detectors.plugins import InstalledPlugin
    from resurgence_gate.policy.schema import Strict

app = typer.Typer(
    help="List, describe and try detectors.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

_DESCRIBE = """\b
Examples:
  resurgence-gate detectors describe vqa
  resurgence-gate detectors describe clip-zero-shot"""
_RUN = """\b
Examples:
  resurgence-gate detectors run a.png b.png --policy pocket
  resurgence-gate detectors run *.png --policy object --concept ship --json
  resurgence-gate detectors run a.png --concept ship \\
    --detector '{kind: classifier, model: "pocket:classifier"}'
\b
A look is no verdict: the exit code is 0 whatever is seen."""


@app.command("list")
def list_() -> None:
    """List the kinds of detectors and the installed plugins."""
    from rich.text import Text

    from resurgence_gate.detectors.plugins import installed_plugins
    from resurgence_gate.detectors.registry import KINDS

    plugins = installed_plugins()
    rows = [(kind, _summary(kind), _origin(kind)) for kind in KINDS]
    rows += [(f"plugin: {p.name}", p.summary, _owner(p, plugins)) for p in plugins]
    table = _table("kind", "what it does", "from")
    for row in rows:
        table.add_row(*map(Text, row))  # plain: an extra's brackets are no markup
    _console().print(table)


@app.command(epilog=_DESCRIBE)
def describe(
    name: Annotated[
        str, typer.Argument(metavar="KIND", help="A kind, or an installed plugin.", show_default=False)
    ],
) -> None:
    """Show what a policy may say of a kind of detector, with an example."""
    from resurgence_gate.detectors.plugins import find_plugin
    from resurgence_gate.policy.fields import detector_specs, example_of

    specs = detector_specs()
    if name in specs:
        _describe(name, specs[name], _summary(name), example_of(specs[name]))
        return
    _require_known(name, specs)
    plugin = find_plugin(name)
    about = f"{plugin.version}: {plugin.summary}"
    _describe(name, specs["plugin"], about, {"kind": "plugin", "name": name}, told=_said_by(plugin))


@app.command(epilog=_RUN)
def run(
    pictures: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="PNG, JPEG, WebP or BMP files.", show_default=False),
    ],
    policy: Annotated[
        str | None,
        policy_option("Whose detector looks, and whose erased concepts it looks for."),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="YAML|FILE",
            help="A detector's section of a policy instead, or a file with one.",
            show_default=False,
        ),
    ] = None,
    concept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="What to look for; may be given several times.", show_default=False
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to compute; auto takes the fastest.")] = Device.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what a detector sees in pictures: one line for each.

    Pictures are cut to their central square and resized to what the policy draws (512 pixels without one).
    """
    from resurgence_gate.cli.looking import look_at_files, question_of

    question = question_of(policy, detector, tuple(concept or ()))
    records = look_at_files(pictures, question, device)
    if as_json:
        _print_json(records)
    else:
        _print_looks(records)


def _summary(kind: str) -> str:
    from resurgence_gate.detectors.registry import kind_named
    from resurgence_gate.policy.fields import detector_specs

    try:
        return kind_named(kind).SUMMARY
    except ModuleNotFoundError:  # one kind that cannot be had must not hide the others
        return str(detector_specs()[kind].__doc__).splitlines()[0]


def _origin(kind: str) -> str:
    from resurgence_gate.detectors.registry import missing_extra

    extra = missing_extra(kind)
    return f"missing: pip install 'resurgence-gate[{extra}]'" if extra else "resurgence-gate"


def _owner(plugin: InstalledPlugin, installed: tuple[InstalledPlugin, ...]) -> str:
    same = sum(other.name == plugin.name for other in installed)
    return plugin.version if same == 1 else f"{plugin.version} (unusable: registered {same} times)"


def _require_known(name: str, specs: dict[str, type[Strict]]) -> None:
    from resurgence_gate.detectors.plugins import installed_plugins
    from resurgence_gate.errors import UsageError
    from resurgence_gate.policy.text import or_else

    known = list(dict.fromkeys([*specs, *(plugin.name for plugin in installed_plugins())]))
    if name not in known:
        raise UsageError(
            f'detector "{name}" is unknown{or_else(name, known, likeness=0.4)}; one of: {", ".join(known)}'
        )


def _said_by(plugin: InstalledPlugin) -> str:
    """What the plugin says of itself and its options; why it cannot be loaded, where it cannot."""
    import inspect

    from resurgence_gate.errors import UsageError

    try:
        loaded = plugin.load()
    except UsageError as error:
        return str(error)
    return inspect.getdoc(loaded) or "It has no docstring that says which options it takes."


def _describe(
    name: str, spec: type[Strict], about: str, example: dict[str, Any], told: str | None = None
) -> None:
    import inspect
    import re

    import yaml
    from rich.text import Text

    from resurgence_gate.policy.fields import fields_of
    from resurgence_gate.report.terminal import plain

    console = _console()
    told = re.sub(r"(?<!\n)\n(?!\n)", " ", told or str(inspect.getdoc(spec)))
    console.print(
        plain(f"{name}: {about}") + Text("\n\n") + Text("\n\n").join(map(plain, told.split("\n\n")))
    )
    table = _table("field", "what it may be", "unless given", "meaning")
    for field in fields_of(spec):
        default = "(required)" if field.default is None else field.default
        table.add_row(*map(Text, (field.name, field.type, default, field.meaning)))
    console.print(table)
    snippet = yaml.safe_dump({"detector": example}, sort_keys=False, allow_unicode=True, width=1000)
    console.print(Text(f"Example:\n{snippet}", overflow="ignore"), end="", soft_wrap=True)


def _print_json(records: list[dict[str, Any]]) -> None:
    import json

    typer.echo(json.dumps(records, indent=2, ensure_ascii=False))


def _print_looks(records: list[dict[str, Any]]) -> None:
    from rich.text import Text

    from resurgence_gate.report.terminal import plain

    console = _console()
    console.print(plain(_asked(records)))
    style = {"present": "bold", "absent": "", "undetermined": "yellow"}
    why = [record["reason"] for record in records if record["reason"]]
    table = _table("picture", "outcome", "score", "what is seen", *(["why"] if why else []))
    for record in records:
        cells = [
            plain(record["picture"]),
            Text(record["outcome"], style=style[record["outcome"]]),
            Text("-" if record["score"] is None else f"{record['score']:.3f}"),
            plain(record["seen"] or "-"),
        ]
        table.add_row(*cells, *([plain(record["reason"] or "")] if why else []))
    console.print(table)
    for line in _meaning([record["outcome"] for record in records]):
        console.print(plain(line))


def _asked(records: list[dict[str, Any]]) -> str:
    """Who looked at how many pictures for what."""
    detector, concepts = records[0]["detector"], records[0]["concepts"]
    sought = concepts[0] if len(concepts) == 1 else f"any of {len(concepts)} concepts: {', '.join(concepts)}"
    return f"{detector} looked at {_counted(len(records), 'picture')} for {sought}"


def _meaning(outcomes: list[str]) -> Iterator[str]:
    """How many of each outcome, and what it means."""
    means = {
        "present": "what was asked for is seen",
        "absent": "it is not seen",
        "undetermined": "the detector cannot say; a check never counts that in the checkpoint's favour",
    }
    for outcome, meaning in means.items():
        if count := outcomes.count(outcome):
            yield f"{outcome} ({_counted(count, 'picture')}): {meaning}"
    yield "score: how strongly what was asked for is seen, 0 to 1; what is seen: in the detector's own words"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _table(*headings: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for i, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=i == 0 and heading != "picture")
    return table


def _console() -> Console:
    from rich.console import Console

    return Console()
