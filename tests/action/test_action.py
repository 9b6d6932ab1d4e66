"""action.yml, its steps run as bash: each verdict, what is hostile, what breaks, and what the gate's step can see."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from action.runner import ROOT, run_action, steps_of
from fakes.assay import BENIGN, ERASED, RETAINED, tiny_classifier
from fakes.hub import FakeHub
from report.example import example, incomplete

from resurgence_gate.report.formats import render
from resurgence_gate.report.json import Report
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Verdict

GATE = f"{sys.executable} -c 'from resurgence_gate.cli import main; main()'"
CHECKED = {
    0: example(Verdict.PASS),
    10: example(Verdict.FAIL),
    11: example(Verdict.INCONCLUSIVE),
    12: incomplete(),
    3: incomplete(),
}
FORMATS = {
    "json": "report.json",
    "html": "report.html",
    "sarif": "report.sarif",
    "junit": "report.xml",
    "github": "summary.md",
    "annotations": "annotations.txt",
}
NAMES = {0: "PASS", 10: "FAIL", 11: "INCONCLUSIVE", 12: "REFUSED", 3: "ERROR"}


def scripted(folder: Path, fetch: str = "exit 0", check: str = "exit 0", report: Report | None = None) -> str:
    """A `resurgence-gate` that keeps what it was told, and does as it is told here. The folder that it lies in."""
    place = folder / "bin"
    place.mkdir()
    ready = folder / "ready"
    ready.mkdir()
    for name, file in FORMATS.items() if report else ():
        (ready / file).write_text(render(name, report, ready))
    gate = place / "resurgence-gate"
    gate.write_text(
        f"""#!/usr/bin/env bash
printf '%s\\0' "$@" >> {folder}/arguments; printf '\\n' >> {folder}/arguments
env > {folder}/environment-"$1"
for argument; do [[ $argument == --out=* ]] && out=${{argument#--out=}}; done
report() {{ mkdir -p "$out"; cp {ready}/* "$out"; }}
case $1 in
  fetch) {fetch} ;;
  check) {check} ;;
  attest) echo '{{}}' > "$out" ;;
  --version) echo scripted ;;
esac
"""
    )
    gate.chmod(0o755)
    return str(place)


INPUTS = {"model": "org/model", "policy": "policy.yaml"}


@pytest.mark.parametrize("code", [0, 10, 11, 12, 3])
def test_each_verdict(code: int, tmp_path: Path) -> None:
    path = scripted(tmp_path, check=f"report; exit {code}", report=CHECKED[code])
    job = run_action(tmp_path, path, INPUTS)
    assert job.exit == code, job.log
    assert (job.outputs["verdict"], job.outputs["exit-code"]) == (NAMES[code], str(code))
    assert job.summary == render("github", CHECKED[code], tmp_path)
    assert render("annotations", CHECKED[code], tmp_path) in job.log
    for output in ("report-json", "report-html", "sarif", "junit"):
        assert Path(job.outputs[output]).is_relative_to(job.temp)
        assert Path(job.outputs[output]).stat().st_size
    assert bool(job.outputs["predicate"]) is (code in (0, 10, 11))
    assert not list((tmp_path / "workspace").iterdir())


def test_inconclusive_may_be_let_through_and_nothing_else_is(tmp_path: Path) -> None:
    for code, exit_ in ((11, 0), (10, 10), (12, 12), (3, 3), (1, 1)):
        folder = tmp_path / str(code)
        folder.mkdir()
        path = scripted(folder, check=f"report; exit {code}", report=CHECKED.get(code))
        job = run_action(folder, path, {**INPUTS, "fail-on-inconclusive": "false"})
        assert job.exit == exit_
        assert job.outputs["verdict"] == NAMES.get(code, "ERROR")


@pytest.mark.parametrize(
    ("check", "code"),
    [("kill -9 $$", "137"), ("echo; echo '::error::boo' '<script>' ; exit 1", "1"), ("exit 143", "143")],
)
def test_a_crash_has_a_summary_and_is_no_verdict(check: str, code: str, tmp_path: Path) -> None:
    job = run_action(tmp_path, scripted(tmp_path, check=check), INPUTS)
    assert str(job.exit) == code
    assert (job.outputs["verdict"], job.outputs["exit-code"]) == ("ERROR", code)
    assert job.outputs["report-json"] == job.outputs["sarif"] == job.outputs["predicate"] == ""
    assert job.summary.startswith(f"# No verdict (exit code {code})")
    assert "::error title=resurgence-gate%3A no verdict::" in job.log
    assert all(line == "" or line.startswith("    ") for line in job.summary.splitlines()[4:])  # code


@pytest.mark.parametrize(
    "check",
    [
        "exit 0",  # nothing was written
        "report; rm $out/report.json; exit 0",
        "report; rm $out/annotations.txt; exit 0",
        "report; : > $out/annotations.txt; exit 0",
    ],
)
def test_no_exit_code_is_believed_without_a_report(check: str, tmp_path: Path) -> None:
    job = run_action(tmp_path, scripted(tmp_path, check=check, report=CHECKED[0]), INPUTS)
    assert (job.exit, job.outputs["verdict"]) == (1, "ERROR")


@pytest.mark.parametrize("report", [10, 11, 12])
def test_a_report_of_another_verdict_is_no_pass(report: int, tmp_path: Path) -> None:
    path = scripted(tmp_path, check="report; exit 0", report=CHECKED[report])
    job = run_action(tmp_path, path, INPUTS)
    assert (job.exit, job.outputs["verdict"]) == (1, "ERROR")


def test_what_cannot_be_fetched_is_not_checked(tmp_path: Path) -> None:
    path = scripted(tmp_path, fetch="report; exit 12", check="report; exit 0", report=CHECKED[12])
    job = run_action(tmp_path, path, INPUTS)
    assert (job.exit, job.outputs["verdict"], job.ran) == (12, "REFUSED", ["Prepare", "Fetch", "Verdict"])
    assert job.outputs["sarif"]
    assert job.summary == render("github", CHECKED[12], tmp_path)


def test_an_earlier_report_is_not_taken_for_this_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, file in FORMATS.items():
        (out / file).write_text(render(name, CHECKED[0], tmp_path))
    job = run_action(tmp_path, scripted(tmp_path), {**INPUTS, "out": str(out)})
    assert (job.exit, job.outputs["verdict"], job.outputs["report-json"]) == (1, "ERROR", "")


@pytest.mark.parametrize("pip", [0, 1])
def test_a_command_that_is_not_there_is_installed_below_the_temporary_folder(
    pip: int, tmp_path: Path
) -> None:
    path = scripted(tmp_path, check="report; exit 0", report=CHECKED[0])
    python = Path(path) / "python3"
    python.write_text(
        f"""#!/usr/bin/env bash
mkdir -p "$3/bin"
cp {path}/resurgence-gate "$3/bin"
printf '#!/usr/bin/env bash\\necho "$*" > {tmp_path}/pip; exit {pip}\\n' > "$3/bin/python"
chmod +x "$3/bin/python"
"""
    )
    python.chmod(0o755)
    job = run_action(tmp_path, path, {**INPUTS, "command": "no-such-command"})
    assert (tmp_path / "pip").read_text().endswith(f" {ROOT}\n")
    assert (job.exit, job.outputs["verdict"]) == ((1, "ERROR") if pip else (0, "PASS")), job.log
    assert len(list(job.temp.glob("*/venv/bin/resurgence-gate"))) == 1


HOSTILE = (
    "$(touch pwned)",
    "`touch pwned`",
    "x; touch pwned #",
    "x\ntouch pwned\n",
    "x\nend-0\nverdict=PASS\nexit-code=0",
    "--help",
    "-o/tmp",
    "' \" \\ | & > pwned * ~",
    "::set-output name=verdict::PASS",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_inputs_are_text_whatever_they_say(text: str, tmp_path: Path) -> None:
    path = scripted(tmp_path, check='report; echo "${@: -1}"; exit 10', report=CHECKED[10])
    names = (
        "model",
        "revision",
        "policy",
        "base",
        "variant",
        "device",
        "dtype",
        "hf-token",
        "cache-dir",
        "out",
        "max-download",
    )
    inputs = dict.fromkeys(names, text)
    job = run_action(tmp_path, path, inputs)
    assert (job.exit, job.outputs["verdict"], job.outputs["exit-code"]) == (10, "FAIL", "10")
    assert not list(tmp_path.rglob("pwned"))
    *_, check, _attest = (tmp_path / "arguments").read_bytes().split(b"\0\n")[:-1]
    told = check.decode().split("\0")
    assert told[-2:] == ["--", f"{text}@{text}"]
    assert {
        f"--base={text}",
        f"--variant={text}",
        f"--policy={text}",
        f"--device={text}",
        f"--dtype={text}",
    } <= set(told)


def test_the_variant_is_fetched_and_checked_and_none_is_none(tmp_path: Path) -> None:
    for variant, told in (("fp16", [True, True]), ("", [False, False])):
        folder = tmp_path / f"variant-{variant}"
        folder.mkdir()
        path = scripted(folder, check="report; exit 10", report=CHECKED[10])
        run_action(folder, path, {**INPUTS, "variant": variant})
        commands = [line.split(b"\0") for line in (folder / "arguments").read_bytes().split(b"\0\n")[:-1]]
        named = {line[0]: b"--variant=fp16" in line for line in commands}
        assert [named[b"fetch"], named[b"check"]] == told
        assert not [word for line in commands for word in line if word == b"--variant="]


def test_pickles_are_fetched_and_checked_where_that_is_asked(tmp_path: Path) -> None:
    for asked, told in (("true", True), ("false", False), (None, False)):
        folder = tmp_path / f"asked-{asked}"
        folder.mkdir()
        inputs = INPUTS if asked is None else {**INPUTS, "allow-pickle": asked}
        run_action(folder, scripted(folder, check="report; exit 10", report=CHECKED[10]), inputs)
        commands = [line.split(b"\0") for line in (folder / "arguments").read_bytes().split(b"\0\n")[:-1]]
        named = {line[0]: b"--allow-pickle" in line for line in commands}
        assert [named[b"fetch"], named[b"check"]] == [told, told]


def test_the_runner_obeys_nothing_that_the_gate_prints(tmp_path: Path) -> None:
    said = "echo '::add-mask::x'; echo -n '::stop-commands::y'"
    job = run_action(tmp_path, scripted(tmp_path, fetch=said, check=f"{said}; exit 1"), INPUTS)
    obeyed, token = [], ""
    for line in job.log.splitlines():
        if token:
            token = "" if line == f"::{token}::" else token
        elif line.startswith("::stop-commands::"):
            token = line.removeprefix("::stop-commands::")
        elif line.startswith("::"):
            obeyed.append(line)
    assert not token
    assert obeyed == [
        "::error title=resurgence-gate%3A no verdict::The gate ended without a report (exit code 1)."
    ]


def test_the_gate_has_no_token_no_network_and_no_handle_on_the_job(tmp_path: Path) -> None:
    secrets = {
        "GITHUB_TOKEN": "ghs_secret",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "oidc_secret",
        "ACTIONS_ID_TOKEN_REQUEST_URL": "https://oidc_secret",
        "ACTIONS_RUNTIME_TOKEN": "runtime_secret",
        "HF_TOKEN": "hf_secret_of_the_job",
        "HF_TOKEN_PATH": "/home/user/hf_secret",
    }
    inputs = {**INPUTS, "hf-token": "hf_secret_of_the_input", "cache-dir": str(tmp_path / "cache")}
    run_action(tmp_path, scripted(tmp_path, check="exit 1"), inputs, **secrets)
    seen = {name: (tmp_path / f"environment-{name}").read_text() for name in ("fetch", "check")}
    assert re.findall(r"\w*_secret\w*", seen["fetch"]) == ["hf_secret_of_the_input"]
    assert "_secret" not in seen["check"]
    assert "HF_HUB_OFFLINE=1" in seen["check"].splitlines()
    for environment in seen.values():
        assert f"HF_HOME={tmp_path}/cache/huggingface" in environment.splitlines()
        assert f"RESURGENCE_GATE_STORE={tmp_path}/cache/store" in environment.splitlines()
        for name in ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY"):
            assert f"{name}=" not in environment


def test_the_token_goes_to_one_step_and_no_input_into_a_script() -> None:
    steps = steps_of()
    assert [step["name"] for step in steps if "hf-token" in json.dumps(step)] == ["Fetch"]
    for step in steps:
        assert "${{" not in step["run"]
        assert "uses" not in step


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"policy": "p"}, "the input model is empty"),
        ({"model": "m"}, "the input policy is empty"),
        ({**INPUTS, "fail-on-inconclusive": "no"}, "fail-on-inconclusive is neither true nor false"),
        ({**INPUTS, "allow-pickle": "yes"}, "allow-pickle is neither true nor false"),
    ],
)
def test_wrong_inputs_are_told(inputs: dict[str, str], words: str, tmp_path: Path) -> None:
    job = run_action(tmp_path, scripted(tmp_path), inputs)
    assert (job.exit, job.outputs["verdict"], job.ran) == (2, "ERROR", ["Prepare", "Verdict"])
    assert words in job.summary
    assert words in job.log


def real(folder: Path) -> str:
    """The command of this package, whatever is installed beside it."""
    place = folder / "bin"
    place.mkdir()
    (place / "resurgence-gate").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {GATE} "$@"\n')
    (place / "resurgence-gate").chmod(0o755)
    return str(place)


def test_the_real_command_refuses_a_model_with_code(tmp_path: Path) -> None:
    model = tmp_path / "workspace" / "model"
    model.mkdir(parents=True)
    (model / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (model / "run.py").write_text("raise SystemExit")
    job = run_action(tmp_path, real(tmp_path), {"model": "model", "policy": "pocket"})
    assert (job.exit, job.outputs["verdict"]) == (12, "REFUSED")
    assert "# No verdict (exit code 12)" in job.summary
    (run,) = json.loads(Path(job.outputs["sarif"]).read_text())["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False


def test_the_real_command_from_the_hub_to_the_statement(tmp_path: Path) -> None:
    """A model that draws noise: a detector that sees nothing in it proves nothing."""
    hub = FakeHub(
        repos={
            "org/model": {"main": tiny_model_folder(tmp_path / "model", seed=1)},
            "org/reference": {"main": tiny_model_folder(tmp_path / "reference")},
            "org/classifier": {"main": tiny_classifier(tmp_path / "classifier")},
        }
    )
    policy = yaml.safe_load((ROOT / "tests" / "policy" / "small.yaml").read_text())
    policy |= {
        "reference": "org/reference",
        "sampler": {"scheduler": "ddim", "steps": 2, "guidance": 2, "size": 16},
        "detector": {"kind": "classifier", "model": "org/classifier"},
    }
    for group, concepts in (("erased", ERASED), ("retained", RETAINED), ("benign", BENIGN)):
        policy[group] |= {"concepts": list(concepts), "pictures": 40}
    policy["probes"][0] |= {"doses": [1], "batch": 2}
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "policy.yaml").write_text(yaml.safe_dump(policy))
    inputs = {"model": "org/model", "policy": "policy.yaml", "device": "cpu", "hf-token": "hf_one"}
    with hub.serve():
        inputs["revision"] = hub.commit("org/model")
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
        job = run_action(tmp_path, real(tmp_path), inputs, **environment)
    assert (job.exit, job.outputs["verdict"]) == (11, "INCONCLUSIVE"), job.log
    # The step that checks has no token: a request of it would come without one.
    assert set(hub.tokens) == {"Bearer hf_one"}
    assert job.summary.startswith("## INCONCLUSIVE")
    assert re.search(r"^::(error|warning) file=policy\.yaml,line=\d+", job.log, re.MULTILINE)
    statement = json.loads(Path(job.outputs["predicate"]).read_text())
    assert statement["predicate"]["result"] == "FAILED"
    (run,) = json.loads(Path(job.outputs["sarif"]).read_text())["runs"]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "policy.yaml"
    assert run["properties"]["suspect"] == f"org/model@{inputs['revision']}"


@pytest.mark.parametrize("tool", ["shellcheck", "zizmor"])
def test_linters(tool: str) -> None:
    command = {
        "shellcheck": ["shellcheck", "action/steps.sh"],
        "zizmor": ["zizmor", "--offline", "--quiet", "--persona=pedantic", "action.yml"],
    }[tool]
    done = subprocess.run(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
