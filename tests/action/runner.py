"""Enough of GitHub's runner for a composite action: `${{ }}` in `env:`, `if:`, outputs, and steps in bash."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


@dataclass(kw_only=True)
class Job:
    """What a job was left with by the action."""

    exit: int = 0  # of the first step that failed
    ran: list[str] = field(default_factory=list)
    log: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    temp: Path = Path()


def run_action(folder: Path, path: str, inputs: dict[str, str], **environment: str) -> Job:
    """Run every step of action.yml in `folder`/workspace, with `path` before PATH."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    given = {name: inputs.get(name, str(spec.get("default", ""))) for name, spec in action["inputs"].items()}
    workspace, temp = folder / "workspace", folder / "temp"
    for place in (workspace, temp):
        place.mkdir(exist_ok=True)
    job, steps = Job(temp=temp), dict[str, dict[str, str]]()
    summary = folder / "summary"
    for i, step in enumerate(action["runs"]["steps"]):
        if job.exit and step.get("if") != "always()":
            continue
        said = folder / f"output-{i}"
        said.touch()
        env = {key: _filled(str(value), given, steps) for key, value in step["env"].items()}
        assert not _EXPRESSION.search(step["run"])
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=workspace,
            env={
                "PATH": f"{path}:{os.environ['PATH']}",
                "HOME": str(folder / "home"),
                "RUNNER_TEMP": str(temp),
                "GITHUB_ACTIONS": "true",
                "GITHUB_ACTION_PATH": str(ROOT),
                "GITHUB_OUTPUT": str(said),
                "GITHUB_STEP_SUMMARY": str(summary),
                **environment,
                **env,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        job.ran.append(step["name"])
        job.log += done.stdout + done.stderr
        job.exit = job.exit or done.returncode
        if "id" in step:
            steps[step["id"]] = _outputs(said.read_text())
    job.outputs = {name: _filled(spec["value"], given, steps) for name, spec in action["outputs"].items()}
    job.summary = summary.read_text() if summary.exists() else ""
    return job


def _filled(text: str, inputs: dict[str, str], steps: dict[str, dict[str, str]]) -> str:
    def value(found: re.Match[str]) -> str:
        match found[1].split("."):
            case ["inputs", name]:
                return inputs[name]
            case ["steps", step, "outputs", name]:
                return steps.get(step, {}).get(name, "")
        raise AssertionError(f"not known here: {found[0]}")

    return _EXPRESSION.sub(value, text)


def _outputs(text: str) -> dict[str, str]:
    """`name=value`, and `name<<end`, lines, `end`."""
    found, lines = {}, iter(text.split("\n"))
    for line in lines:
        if (heredoc := re.fullmatch(r"([^=<]+)<<(.+)", line)) is not None:
            value: list[str] = []
            for inner in lines:
                if inner == heredoc[2]:
                    break
                value.append(inner)
            found[heredoc[1]] = "\n".join(value)
        elif "=" in line:
            name, _, rest = line.partition("=")
            found[name] = rest
    return found


def steps_of() -> list[dict[str, Any]]:
    """The steps as they are written."""
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    return found
