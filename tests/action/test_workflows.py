"""The workflows of docs/github-action.md: what actionlint and zizmor say of them, and the rules that they teach."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from action.runner import ROOT

PAGE = ROOT / "docs" / "github-action.md"
WORKFLOWS = dict(re.findall(r"<!-- workflow (\S+) -->\n```yaml\n(.*?)```\n", PAGE.read_text(), re.DOTALL))
OURS = "OWNER/resurgence-gate@0000000000000000000000000000000000000000"
PARSED: dict[str, Any] = {name: yaml.load(text, yaml.BaseLoader) for name, text in WORKFLOWS.items()}


def lint(tool: str, *arguments: str, folder: Path) -> None:
    command = [str(Path(sys.executable).with_name(tool)), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def repository(folder: Path, uses: str) -> Path:
    """One that holds the workflows; `uses` is how they name the action."""
    (folder / ".github" / "workflows").mkdir(parents=True)
    (folder / ".git").mkdir()  # where a repository begins
    for name, text in WORKFLOWS.items():
        (folder / ".github" / "workflows" / name).write_text(text.replace(OURS, uses))
    return folder


def test_every_workflow_of_the_page_is_tested() -> None:
    assert set(WORKFLOWS) == {"gate.yml", "signed.yml", "nightly.yml"}
    assert PAGE.read_text().count("```yaml") == len(WORKFLOWS)


def test_actionlint_knows_their_inputs_and_outputs(tmp_path: Path) -> None:
    folder = repository(tmp_path, "./gate")
    (folder / "gate").mkdir()
    shutil.copy(ROOT / "action.yml", folder / "gate")
    (folder / ".github" / "actionlint.yaml").write_text("self-hosted-runner: {labels: [gpu]}\n")
    lint("actionlint", "-no-color", folder=folder)


def test_zizmor_finds_nothing(tmp_path: Path) -> None:
    lint("zizmor", "--offline", "--quiet", ".github/workflows", folder=repository(tmp_path, OURS))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_loads_weights_may_write_nothing(name: str) -> None:
    workflow = PARSED[name]
    assert workflow["permissions"] == {}
    assert "pull_request" not in str(workflow["on"])
    for job in workflow["jobs"].values():
        if "self-hosted" in job["runs-on"]:
            assert job["permissions"] == {"contents": "read"}
        else:
            assert not any(OURS in step.get("uses", "") for step in job["steps"])


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_is_pinned(name: str) -> None:
    used = re.findall(r"uses: (\S+)( # \S+)?", WORKFLOWS[name])
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) and comment for action, comment in used)
