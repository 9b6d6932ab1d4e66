"""`card --push`: what goes over the line, and every no of the Hub in one message without the token."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.hub import FakeHub, Trouble, connect
from fakes.variants import add_variant
from huggingface_hub import ModelCard
from signoff.conftest import Place
from signoff.runs import assay_of, report_of, write_run

from resurgence_gate.cli import run as gate
from resurgence_gate.policy.load import load_policy
from resurgence_gate.report import read_report, to_json
from resurgence_gate.vocabulary import Access, GateReport, IncompleteReport, Verdict

Shown = pytest.CaptureFixture[str]
REPO, TOKEN = "org/model", "hf_" + "secret" * 5
CARD = "---\nlicense: other  # ours\ntags: [unlearned]\n---\n\n# The model\n\nTheir   words.\n"
BEGIN = "<!-- resurgence-gate begin "


@pytest.fixture
def hub(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with the model that was measured, and a card; our token may write."""
    folder = tmp_path / "repo"
    shutil.copytree(place.model, folder)
    (folder / "README.md").write_text(CARD)
    with FakeHub(repos={REPO: {"main": folder}}, writer=TOKEN).serve() as fake:
        connect(fake, monkeypatch, tmp_path / "cache")
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        monkeypatch.setattr("resurgence_gate.checkpoints.hub.patience.sleep", lambda seconds: None)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield fake


def saved(place: Place, folder: Path, suspect: str, verdict: Verdict = Verdict.FAIL) -> Path:
    return write_run(folder, report_of(assay_of(verdict, load_policy(place.policy)), suspect))


@pytest.fixture
def measured(hub: FakeHub, place: Place, tmp_path: Path) -> Path:
    """A run that measured `org/model` as it is."""
    run = saved(place, tmp_path / "run", REPO)
    hub.requests.clear()
    return run


def push(run: Path, *more: str, repo: str = REPO) -> int:
    return gate(["card", str(run), "--push", repo, *more])


def sent(hub: FakeHub) -> str:
    """The card of the last commit."""
    return hub.commits[-1].files["README.md"].decode()


def said(shown: Shown) -> str:
    told = shown.readouterr()
    assert TOKEN not in told.out + told.err
    return told.out + told.err


def test_a_pull_request_holds_the_card_with_our_section_and_nothing_else(
    hub: FakeHub, measured: Path, capsys: Shown
) -> None:
    before = hub.commit(REPO)
    assert push(measured, "--report-url", "https://example.org/r.html") == 0
    assert said(capsys) == f"{hub.endpoint}/{REPO}/discussions/1\n"
    (commit,) = hub.commits
    assert (commit.repo, commit.revision, commit.create_pr) == (REPO, "main", True)
    assert commit.header["parentCommit"] == before
    assert commit.header["summary"].startswith("Model card: concept resurgence, FAIL under ")
    assert set(commit.files) == {"README.md"}
    card = sent(hub)
    assert card.startswith("---\nlicense: other  # ours\ntags: [unlearned]\nmodel-index:\n")
    assert "\n---\n\n# The model\n\nTheir   words.\n\n" + BEGIN in card
    read = ModelCard(card).data
    assert [r.metric_value for r in read.eval_results if r.metric_type == "verdict"] == ["FAIL"]
    posts = [path for method, path in hub.requests if method == "POST"]
    assert posts == [
        "/api/validate-yaml",
        f"/api/models/{REPO}/preupload/main",
        f"/api/models/{REPO}/commit/main",
    ]
    assert not any(path.endswith(".safetensors") for _, path in hub.requests)


def test_a_second_push_replaces_the_section(
    hub: FakeHub, measured: Path, place: Place, capsys: Shown
) -> None:
    assert push(measured) == 0
    hub.merge(REPO, 1)
    assert push(saved(place, measured.parent / "later", REPO, Verdict.PASS)) == 0
    card = sent(hub)
    assert (card.count(BEGIN), card.count("## Concept resurgence: PASS")) == (1, 1)
    assert "FAIL" not in card
    results = ModelCard(card).data.eval_results
    assert [r.metric_value for r in results if r.metric_type == "verdict"] == ["PASS"]
    assert card.startswith("---\nlicense: other  # ours\n")


def test_a_card_that_says_it_already_is_left_alone_though_main_has_moved(
    hub: FakeHub, measured: Path, capsys: Shown
) -> None:
    push(measured)
    hub.merge(REPO, 1)
    assert push(measured) == 0
    assert len(hub.commits) == 1
    told = said(capsys)
    assert "nothing was pushed" in told
    assert "main has moved since the measurement" in told


def test_the_card_says_of_which_variant_it_is(
    hub: FakeHub, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    add_variant(hub.repos[REPO]["main"])
    report = report_of(assay_of(Verdict.PASS, load_policy(place.policy)), REPO, access=Access(variant="fp16"))
    assert push(write_run(tmp_path / "run", report)) == 0
    assert f"Measured on `{REPO}@{hub.commit(REPO)} --variant fp16` under" in sent(hub).replace("\n", " ")
    told = said(capsys)
    assert "weights that were not measured lie there, too: text_encoder/model.safetensors, unet/diff" in told
    assert "has moved" not in told


def test_it_goes_on_with_a_pull_request(hub: FakeHub, measured: Path, place: Place, capsys: Shown) -> None:
    push(measured)
    later = saved(place, measured.parent / "later", REPO, Verdict.PASS)
    assert push(later, repo=f"{REPO}@refs/pr/1") == 0
    assert [(c.revision, c.create_pr) for c in hub.commits] == [("main", True), ("refs/pr/1", False)]
    assert sent(hub).count(BEGIN) == 1


def test_a_folder_that_was_uploaded_since_is_the_model_that_was_measured(
    hub: FakeHub, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    assert push(saved(place, tmp_path / "run", str(place.model))) == 0
    told = said(capsys)
    assert f"measured was {place.model.name}; {REPO} at {hub.commit(REPO)} holds the same files" in told
    assert "are not those that were measured" not in sent(hub)
    assert str(place.model) not in sent(hub) + json.dumps(hub.commits[-1].header)


@pytest.mark.parametrize("change", ["weights", "settings", "gone"])
def test_another_model_is_refused_unless_one_means_it(
    hub: FakeHub, measured: Path, capsys: Shown, change: str
) -> None:
    folder = hub.repos[REPO]["main"]
    file = folder / {"weights": "unet/diffusion_pytorch_model.safetensors"}.get(change, "unet/config.json")
    if change == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes() + b" ")
    assert push(measured) == 2
    told = said(capsys)
    assert (
        f"{file.relative_to(folder).as_posix()} is {'not there' if change == 'gone' else 'another file'}"
        in told
    )
    assert "--other-model" in told
    assert not hub.commits
    assert push(measured, "--other-model") == 0
    assert "**The files of this repository are not those that were measured.**" in sent(hub)
    assert "main has moved since the measurement" in said(capsys)


def test_another_repository_is_refused_unless_one_means_it(
    hub: FakeHub, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    run = saved(place, tmp_path / "run", "pocket:base")
    assert push(run) == 2
    assert "its files are not those that were measured (pocket:base)" in said(capsys)
    assert push(run, "--other-model") == 0
    assert "measured was pocket:base" in said(capsys)
    assert "measured was pocket:base" in hub.commits[-1].header["description"]


def test_weights_that_nobody_measured_are_told(hub: FakeHub, measured: Path, capsys: Shown) -> None:
    (hub.repos[REPO]["main"] / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"x")
    assert push(measured) == 0
    assert "weights that were not measured lie there, too: unet/diffusion_pytorch_model.bin" in said(capsys)


def test_a_repository_without_a_card_gets_one(hub: FakeHub, measured: Path, capsys: Shown) -> None:
    (hub.repos[REPO]["main"] / "README.md").unlink()
    assert push(measured) == 0
    assert sent(hub).startswith("---\nmodel-index:\n- name: model\n")


@pytest.mark.parametrize(
    ("path", "status", "exits", "told"),
    [
        ("^/api/models/org/model$", 401, 3, "401"),
        ("^/api/models/org/model$", 404, 2, "no such model on the Hub"),
        ("/commit/", 401, 3, "HF_TOKEN is not accepted"),
        ("/commit/", 403, 3, "HF_TOKEN may not open a pull request"),
        ("/preupload/", 403, 3, "HF_TOKEN may not open a pull request"),
        ("/commit/", 404, 2, "no such model on the Hub"),
        ("/commit/", 429, 3, "wait 7 s"),
        ("/preupload/", 429, 3, "slow down (429)"),
        ("/validate-yaml", 429, 3, "(429)"),
        ("/commit/", 500, 3, "answered 500"),
        ("/commit/", 412, 3, "changed meanwhile"),
    ],
)
def test_each_no_is_one_message_and_an_exit_code(
    hub: FakeHub, measured: Path, capsys: Shown, path: str, status: int, exits: int, told: str
) -> None:
    code = "RepoNotFound" if status == 404 else None
    hub.troubles = [
        Trouble(path=path, times=None, status=status, error_code=code, headers={"Retry-After": "7"})
    ]
    assert push(measured) == exits
    message = said(capsys)
    assert message.startswith(f"error: {REPO}: ")
    assert told in message
    assert message.count("\n") == 1
    assert not hub.commits
    assert sum(p.startswith(f"/api/models/{REPO}/commit") for _, p in hub.requests) <= 1  # never two requests


def test_metadata_that_the_hub_does_not_take(hub: FakeHub, measured: Path, capsys: Shown) -> None:
    hub.validate = lambda content: ['"license" must be one of'] if "license: other" in content else []
    assert push(measured) == 2
    assert (
        'does not take the metadata of the card: Invalid metadata in README.md. - "license" must be'
        in said(capsys)
    )


def test_a_token_of_another_is_not_accepted(
    hub: FakeHub, measured: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert push(measured) == 3
    assert "hf_other" not in said(capsys)


@pytest.mark.parametrize("token", ["", "hf_a\nb", "hf_ä"])
def test_no_token_is_a_usage_error(
    hub: FakeHub, measured: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert push(measured) == 2
    told = said(capsys)
    assert "HF_TOKEN" in told
    assert not token or token not in told
    assert not hub.requests


def test_offline_and_nobody_there(
    hub: FakeHub, measured: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert push(measured) == 3
    assert "HF_HUB_OFFLINE is set" in said(capsys)
    assert not hub.requests
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert push(measured) == 3
    assert "the Hub did not answer" in said(capsys)


def test_a_check_without_a_verdict_is_not_pushed(hub: FakeHub, tmp_path: Path, capsys: Shown) -> None:
    report = IncompleteReport(
        policy="p",
        suspect=REPO,
        exit_code=2,
        message="error: x",
        created="2026-01-02T03:04:05Z",
        tool_version="0",
    )
    tmp_path.joinpath("report.json").write_text(to_json(report))
    assert push(tmp_path) == 2
    assert gate(["card", str(tmp_path)]) == 2
    assert "there is nothing for a card" in said(capsys)
    assert not hub.requests


def test_a_report_that_contradicts_itself_is_not_pushed(hub: FakeHub, measured: Path, capsys: Shown) -> None:
    report = read_report(measured)
    assert isinstance(report, GateReport)
    lied = replace(report, decision=replace(report.decision, verdict=Verdict.PASS))
    write_run(measured, lied)
    assert push(measured) == 12
    assert not hub.requests


@pytest.mark.parametrize(
    "arguments",
    [
        ["--push", "org/model@v1"],
        ["--push", "not a repo"],
        ["--push", "../../etc"],
        ["--push", REPO, "--out", "x.md"],
        ["--other-model"],
        ["--report-url", "javascript:alert(1)"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    hub: FakeHub, measured: Path, capsys: Shown, arguments: list[str]
) -> None:
    assert gate(["card", str(measured), *arguments]) == 2
    assert not hub.requests


def test_a_card_that_cannot_be_edited_stays(hub: FakeHub, measured: Path, capsys: Shown) -> None:
    file = hub.repos[REPO]["main"] / "README.md"
    for text, why in ((b"\xff\xfe", "not UTF-8"), (b"---\na: &x 1\nb: *x\n---\n", "aliases")):
        file.write_bytes(text)
        assert push(measured) == 2
        assert why in said(capsys)
    assert not hub.commits


def test_it_is_printed_or_written(place: Place, tmp_path: Path, capsys: Shown) -> None:
    run = place.runs[Verdict.PASS]
    assert gate(["card", str(run)]) == 0
    printed = capsys.readouterr().out
    assert gate(["card", str(run / "report.json"), "--out", str(tmp_path / "deep" / "card.md")]) == 0
    assert (tmp_path / "deep" / "card.md").read_text() == printed
    card = ModelCard(printed)
    assert [r.metric_value for r in card.data.eval_results if r.metric_type == "verdict"] == ["PASS"]
    assert card.text.startswith(f"\n{BEGIN}")
