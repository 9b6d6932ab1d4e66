"""`resurgence-gate policy`: look at policies before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Check, show and list policies.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)

_VALIDATE = """\b
Examples:
  resurgence-gate policy validate policies/*.yaml
  resurgence-gate policy validate object"""
_SHOW = """\b
Examples:
  resurgence-gate policy show object
  resurgence-gate policy show object > mine.yaml      (a policy of your own to start from)"""


@app.command(epilog=_VALIDATE)
def validate(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Policy files, or names of shipped ones.", show_default=False),
    ],
) -> None:
    """Say whether policies are sound; every mistake is shown with its line and column."""
    from resurgence_gate.errors import PolicyError
    from resurgence_gate.policy import load_policy

    broken = []
    for name in files:
        try:
            policy = load_policy(name)
            _refuse_unknown_pocket(policy.reference, name)
        except PolicyError as error:
            broken.append(str(error))
        else:
            typer.echo(f"{name}: sound; policy {policy.name}, sha256 {policy.digest[:12]}")
    if broken:
        raise PolicyError("\n".join([f"{len(broken)} of {len(files)} policies unsound", *broken]))


def _refuse_unknown_pocket(reference: str, source: str) -> None:
    """The embedded models are known beforehand; whether others exist is seen when they are fetched."""
    from resurgence_gate.checkpoints.pocket import pocket_names
    from resurgence_gate.errors import PolicyError
    from resurgence_gate.policy.document import read_document
    from resurgence_gate.policy.files import find_policy
    from resurgence_gate.policy.text import or_else, shown

    known = [f"pocket:{name}" for name in pocket_names()]
    if not known or not reference.startswith("pocket:") or reference in known:
        return
    path = find_policy(source)
    mark = read_document(path.read_text(encoding="utf-8-sig")).mark(("reference",))
    hint = f"{or_else(reference, known)}; embedded: {', '.join(known)}"
    raise PolicyError(f'{shown(path)}:{mark}: reference: "{reference}" is unknown{hint}')


@app.command(epilog=_SHOW)
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A shipped policy, or a file.", show_default=False)
    ],
) -> None:
    """Print a policy as it is written, with its comments."""
    from resurgence_gate.policy.files import find_policy
    from resurgence_gate.policy.load import load_policy

    load_policy(name)
    typer.echo(find_policy(name).read_text(encoding="utf-8-sig"), nl=False)


@app.command("list")
def list_() -> None:
    """List the shipped policies."""
    from resurgence_gate.policy import load_policy, shipped_policies

    shipped = shipped_policies()
    for name, path in shipped.items():
        typer.echo(f"{name:<{max(map(len, shipped))}}  {load_policy(Path(path)).description}")
