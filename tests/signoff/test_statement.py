"""What is attested is what was measured, and nothing is attested that was not."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from signoff.conftest import Place
from signoff.runs import assay_of, report_of, write_policy, write_run

from resurgence_gate.cli import run as gate
from resurgence_gate.decision.saved import contradiction, recount
from resurgence_gate.errors import AttestationRefused, InfrastructureError, UsageError
from resurgence_gate.report import to_json, write_report
from resurgence_gate.signoff.attest import attest_run
from resurgence_gate.signoff.statement import from_bytes, make_approval, to_bytes
from resurgence_gate.vocabulary import IncompleteReport, Outcome, Verdict

NOW = datetime(2026, 1, 3, tzinfo=UTC)


@pytest.fixture
def model(place: Place) -> Path:
    return place.model


@pytest.fixture
def runs(place: Place) -> dict[Verdict, Path]:
    return place.runs


@pytest.mark.parametrize("verdict", Verdict)
def test_the_verdict_of_the_report_is_that_of_the_statement(
    verdict: Verdict, runs: dict[Verdict, Path]
) -> None:
    statement = attest_run(runs[verdict], now=NOW)
    assert statement.said.verdict is verdict
    assert statement.predicate.result == ("PASSED" if verdict is Verdict.PASS else "FAILED")
    assert bool(statement.predicate.failed_tests) is (verdict is not Verdict.PASS)
    assert from_bytes(to_bytes(statement), where="it") == statement


def test_the_subjects_are_the_files_and_only_they(runs: dict[Verdict, Path], model: Path) -> None:
    body = json.loads(to_bytes(attest_run(runs[Verdict.PASS], now=NOW)))
    assert body["_type"] == "https://in-toto.io/Statement/v1"
    assert body["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    found = {s["name"]: s["digest"]["sha256"] for s in body["subject"]}
    report = json.loads((runs[Verdict.PASS] / "report.json").read_text())
    assert found == {f["name"]: f["sha256"] for f in report["suspect"]["files"]}
    for name, sha256 in found.items():
        shown = subprocess.run(["sha256sum", model / name], capture_output=True, text=True, check=True).stdout
        assert shown.split()[0] == sha256
    (policy, *others) = body["predicate"]["configuration"]
    assert policy["digest"]["sha256"] == report["policy"]["digest"]
    assert others[0]["name"] == "reference"
    shown = subprocess.run(
        ["sha256sum", runs[Verdict.PASS] / "report.json"], capture_output=True, text=True, check=True
    ).stdout
    assert body["predicate"]["resurgenceGate"]["report"]["digest"]["sha256"] == shown.split()[0]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (3, InfrastructureError),
        (129, InfrastructureError),
        (130, InfrastructureError),
        (1, UsageError),
        (12, UsageError),
    ],
)
def test_a_check_without_a_verdict_attests_nothing(code: int, error: type[Exception], tmp_path: Path) -> None:
    report = IncompleteReport(
        policy="p",
        suspect="m",
        exit_code=code,
        message="error: the Hub\nis away",
        created="2026-01-02T03:04:05Z",
        tool_version="0.1.0",
    )
    write_report(report, tmp_path)
    with pytest.raises(error, match=r"nothing is attested\. It said: error: the Hub is away"):
        attest_run(tmp_path, now=NOW)
    assert gate(["attest", str(tmp_path)]) == (3 if error is InfrastructureError else 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_a_whole_report_follows_from_itself(runs: dict[Verdict, Path]) -> None:
    from resurgence_gate.report import read_report

    for run in runs.values():
        report = read_report(run)
        assert contradiction(report) is None  # type: ignore[arg-type]
        assert recount(report, 0.8) == report.ledger  # type: ignore[arg-type, union-attr]


def edits(model: Path, folder: Path):
    """A report of a FAIL, made to look better by hand in each of these ways."""
    report = report_of(assay_of(Verdict.FAIL, write_policy(folder / "edited.yaml")), str(model))
    good = report_of(assay_of(Verdict.PASS, write_policy(folder / "edited.yaml")), str(model))
    yield "verdict", replace(report, decision=replace(report.decision, verdict=Verdict.PASS))
    yield "decision", replace(report, decision=good.decision)
    yield "ledger", replace(report, decision=good.decision, ledger=good.ledger)
    yield "looks", replace(report, decision=good.decision, looks=good.looks)
    yield "an arm less", replace(report, looks=report.looks[:-1])
    yield "an arm twice", replace(report, looks=(*report.looks, report.looks[-1]))
    yield "a draw less", replace(report, draws=report.draws[:-1])
    yield "no looks", replace(report, looks=())
    said = json.loads(json.dumps(report.policy.said))
    said["rules"]["RG102"]["max_rate_after"] = 0.99
    yield "thresholds", replace(report, policy=replace(report.policy, said=said))
    look = report.looks[-1]
    flipped = replace(look, outcomes=(Outcome.ABSENT, *look.outcomes[1:]))
    yield "one picture", replace(report, looks=(*report.looks[:-1], flipped))
    yield (
        "a finding",
        replace(report, decision=replace(report.decision, findings=report.decision.findings[1:])),
    )


def test_a_report_that_was_edited_attests_nothing(model: Path, tmp_path: Path) -> None:
    tried = 0
    for name, report in edits(model, tmp_path):
        tried += 1
        write_run(tmp_path / name, report)
        with pytest.raises(AttestationRefused, match="contradicts itself"):
            attest_run(tmp_path / name, now=NOW)
    assert tried == 11


def test_a_report_from_the_future_attests_nothing(runs: dict[Verdict, Path]) -> None:
    with pytest.raises(AttestationRefused, match="from the future"):
        attest_run(runs[Verdict.PASS], now=datetime(2025, 12, 31, tzinfo=UTC))


@pytest.mark.parametrize("name", ["", "  ", "Ada\nPASS", "A\x1b[2J", "x" * 201])
def test_names_that_would_mislead_are_no_approvers(name: str) -> None:
    with pytest.raises(UsageError, match="--approver"):
        make_approval(name, None)


def test_a_note_is_somebodys() -> None:
    with pytest.raises(UsageError, match="--note goes with --approver"):
        make_approval(None, "well done")
    assert make_approval("Ada", None).note == ""  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "kind", [["-algorithm", "ed25519"], ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]]
)
def test_openssl_agrees_with_the_signature(
    kind: list[str], runs: dict[Verdict, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The documented lines make keys, and what is signed is the PAE of DSSE, as others compute it."""
    key, public = tmp_path / "gate.pem", tmp_path / "gate.pub"
    subprocess.run(["openssl", "genpkey", *kind, "-out", key], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    out = tmp_path / "a.json"
    arguments = ["attest", str(runs[Verdict.PASS]), "--key", str(key), "--out", str(out)]
    assert gate([*arguments, "--approver", "Ada", "--note", "1.2"]) == 0
    assert "approved by Ada" in capsys.readouterr().out
    bundle = json.loads(out.read_text())
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", public, "-outform", "DER"], check=True, capture_output=True
    ).stdout
    assert bundle["signatures"][0]["keyid"] == hashlib.sha256(der).hexdigest()
    payload = base64.b64decode(bundle["payload"])
    kind_ = bundle["payloadType"].encode()
    (tmp_path / "pae").write_bytes(
        b"DSSEv1 "
        + str(len(kind_)).encode()
        + b" "
        + kind_
        + b" "
        + str(len(payload)).encode()
        + b" "
        + payload
    )
    (tmp_path / "sig").write_bytes(base64.b64decode(bundle["signatures"][0]["sig"]))
    check = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", tmp_path / "pae"]
    subprocess.run([*check, "-sigfile", tmp_path / "sig"], check=True, capture_output=True)
    assert json.loads(payload)["predicate"]["resurgenceGate"]["approval"] == {
        "approver": "Ada",
        "note": "1.2",
    }


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "another kind"),
        (["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], "another kind"),
        (["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], "another kind"),
        (["-algorithm", "X25519"], "another kind"),
    ],
)
def test_other_keys_are_refused(
    kind: list[str], why: str, runs: dict[Verdict, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "k.pem"
    subprocess.run(["openssl", "genpkey", *kind, "-out", key], check=True, capture_output=True)
    assert gate(["attest", str(runs[Verdict.PASS]), "--key", str(key)]) == 2
    shown = capsys.readouterr().err
    assert why in shown
    assert "accepted are Ed25519 and EC P-256" in shown


def test_a_passphrase_comes_from_the_environment(
    runs: dict[Verdict, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = tmp_path / "k.pem"
    make = ["openssl", "genpkey", "-algorithm", "ed25519", "-aes-256-cbc", "-pass", "pass:open", "-out", key]
    subprocess.run(make, check=True, capture_output=True)
    arguments = ["attest", str(runs[Verdict.PASS]), "--key", str(key), "--out", str(tmp_path / "a.json")]
    for passphrase, code in ((None, 2), ("wrong", 2), ("open", 0)):
        monkeypatch.delenv("RESURGENCE_GATE_KEY_PASSPHRASE", raising=False)
        if passphrase:
            monkeypatch.setenv("RESURGENCE_GATE_KEY_PASSPHRASE", passphrase)
        assert gate(arguments) == code, passphrase
        assert ("RESURGENCE_GATE_KEY_PASSPHRASE" in capsys.readouterr().err) is (code != 0)


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 10, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_told(
    content: bytes, runs: dict[Verdict, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "k.pem").write_bytes(content)
    for key in ("k.pem", "nothing.pem"):
        assert gate(["attest", str(runs[Verdict.PASS]), "--key", str(tmp_path / key)]) == 2
        assert "bug" not in capsys.readouterr().err


def test_without_a_key_it_says_that_nothing_is_proved(
    runs: dict[Verdict, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.json"
    assert gate(["attest", str(runs[Verdict.INCONCLUSIVE]), "--out", str(out)]) == 0
    assert "NOT SIGNED" in capsys.readouterr().out
    body = json.loads(out.read_text())
    assert body["predicate"]["result"] == "FAILED"
    assert body["predicate"]["resurgenceGate"]["verdict"] == "INCONCLUSIVE"


def test_attest_needs_no_torch(runs: dict[Verdict, Path], tmp_path: Path) -> None:
    arguments = ["attest", str(runs[Verdict.PASS]), "--out", str(tmp_path / "s.json")]
    code = (
        f"import sys; from resurgence_gate.cli import run; code = run({arguments!r}); "
        "heavy = [m for m in ('torch', 'diffusers', 'transformers', 'huggingface_hub') if m in sys.modules]; "
        "sys.exit(str(heavy) if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ.copy()
    )
    assert done.returncode == 0, done.stderr


def test_the_report_is_read_as_it_lies_there(runs: dict[Verdict, Path], tmp_path: Path) -> None:
    """The SHA-256 is of the bytes on the disk, not of how this version would write them."""
    from resurgence_gate.report import read_report

    text = to_json(read_report(runs[Verdict.PASS]))
    (tmp_path / "report.json").write_text(text + "\n")
    statement = attest_run(tmp_path, now=NOW)
    assert statement.said.report.digest != attest_run(runs[Verdict.PASS], now=NOW).said.report.digest
