"""`resurgence-gate policy`: write policies, and look at them before they are used."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from resurgence_gate.policy.document import Document, Loc, Problem
    from resurgence_gate.policy.schema import Policy

app = typer.Typer(
    help="Write, check, show and list policies.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

_VALIDATE = """\b
Examples:
  resurgence-gate policy validate policies/*.yaml
  resurgence-gate policy validate object"""
_SHOW = """\b
Examples:
  resurgence-gate policy show object
  resurgence-gate policy show celebrity-10 --resolved      (with everything that it extends, written out)"""
_INIT = """\b
Examples:
  resurgence-gate policy init mine.yaml                      (a whole policy with its comments, to be changed)
  resurgence-gate policy init mine.yaml --extends object     (a few lines: what differs from a shipped policy)"""
_SCHEMA = """\b
Examples:
  resurgence-gate policy schema > policy.schema.json
  A first line `# yaml-language-server: $schema=policy.schema.json` lets editors complete and check a policy."""


@app.command(epilog=_VALIDATE)
def validate(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Policy files, or names of shipped ones.", show_default=False),
    ],
) -> None:
    """Say whether policies are sound, and what a check by them takes.

    Every mistake is shown with its line and column. A file that a sound policy names and this machine lacks is
    told, too: it is needed where the check is run.
    """
    from resurgence_gate.errors import PolicyError
    from resurgence_gate.policy.load import read_policy
    from resurgence_gate.policy.needs import work_of

    broken = []
    for name in files:
        try:
            policy, document = read_policy(name)
            _refuse_unknown_pocket(policy, document, name)
            absent = _not_here(policy, document, name)
        except PolicyError as error:
            broken.append(str(error))
        else:
            typer.echo(f"{name}: sound; policy {policy.name}, sha256 {policy.digest[:12]}")
            for line in (work_of(policy), *(f"not on this machine: {line}" for line in absent)):
                typer.echo(f"  {line}")
    if broken:
        raise PolicyError("\n".join([f"{len(broken)} of {len(files)} policies unsound", *broken]))


@app.command(epilog=_SHOW)
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A shipped policy, or a file.", show_default=False)
    ],
    resolved: Annotated[
        bool,
        typer.Option("--resolved", help="With what it extends, and lists and recipes written out."),
    ] = False,
) -> None:
    """Print a policy as it is written, with its comments."""
    from resurgence_gate.policy.files import find_policy
    from resurgence_gate.policy.load import load_policy
    from resurgence_gate.policy.write import policy_text

    policy = load_policy(name)
    text = policy_text(policy) if resolved else find_policy(name).read_text(encoding="utf-8-sig")
    typer.echo(text, nl=False)


@app.command(epilog=_INIT)
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the policy goes.", show_default=False)],
    extends: Annotated[
        str | None,
        typer.Option(
            "--extends",
            metavar="FILE|NAME",
            help="Write only what differs from this policy.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a policy to start from."""
    from resurgence_gate.policy.write import new_policy, write_new

    write_new(file, new_policy(file, extends))
    there = shlex.quote(str(file))
    typer.echo(
        f"Written: {file}; change it and ask `resurgence-gate policy validate {there}`; all that it says: "
        f"`resurgence-gate policy show {there} --resolved`"
    )


@app.command(epilog=_SCHEMA)
def schema() -> None:
    """Print the JSON schema of policy files, for editors."""
    from resurgence_gate.policy.json_schema import SHIPPED

    typer.echo(SHIPPED.read_text(encoding="utf-8"), nl=False)


@app.command("list")
def list_() -> None:
    """List the shipped policies."""
    from resurgence_gate.policy import load_policy, shipped_policies

    shipped = shipped_policies()
    for name, path in shipped.items():
        typer.echo(f"{name:<{max(map(len, shipped))}}  {load_policy(Path(path)).description}")


def _refuse_unknown_pocket(policy: Policy, document: Document, source: str) -> None:
    """The embedded models are known beforehand; whether others exist is seen when they are fetched."""
    from resurgence_gate.checkpoints.pocket import pocket_detectors, pocket_names
    from resurgence_gate.errors import PolicyError
    from resurgence_gate.policy.document import Problem
    from resurgence_gate.policy.overlaps import detectors_of
    from resurgence_gate.policy.text import or_else

    models = [f"pocket:{name}" for name in pocket_names()]
    named: list[tuple[Loc, str, list[str]]] = [(("reference",), policy.reference, models)]
    for at, spec in detectors_of(policy.detector, policy.retained):
        if isinstance(model := getattr(spec, "model", None), str):
            named.append(((*at, "model"), model, list(pocket_detectors())))
    unknown = [
        Problem(loc=loc, message=f'"{name}" is unknown{or_else(name, known)}; embedded: {", ".join(known)}')
        for loc, name, known in named
        if known and name.startswith("pocket:") and name not in known
    ]
    if unknown:
        raise PolicyError("\n".join(_told(unknown, document, source)))


def _not_here(policy: Policy, document: Document, source: str) -> list[str]:
    """The files and plugins that the policy names and this machine lacks."""
    from resurgence_gate.detectors.plugins import installed_plugins
    from resurgence_gate.policy.document import Problem
    from resurgence_gate.policy.needs import not_here
    from resurgence_gate.policy.overlaps import detectors_of
    from resurgence_gate.policy.schema import Plugin
    from resurgence_gate.policy.text import or_else

    installed = [plugin.name for plugin in installed_plugins()]
    plugins = [
        Problem(
            loc=(*at, "name"),
            message=f'no installed package registers a detector "{spec.name}"{or_else(spec.name, installed)}',
        )
        for at, spec in detectors_of(policy.detector, policy.retained)
        if isinstance(spec, Plugin) and spec.name not in installed
    ]
    return _told([*not_here(policy), *plugins], document, source)


def _told(problems: list[Problem], document: Document, source: str) -> list[str]:
    from resurgence_gate.policy.files import find_policy
    from resurgence_gate.policy.text import messages, shown

    marked = [(document.mark(p.loc), p.loc, p.message) for p in problems]
    return messages(marked, shown(find_policy(source)))
