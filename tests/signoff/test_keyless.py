"""Keyless: sigstore-python signs and verifies against a sigstore of our own; what it does not verify is refused.

Neither Fulcio nor Rekor are asked: the certificates, receipts and entries are real ones of `fakes.sigstore`.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.sigstore import ISSUER, WORKFLOW, FakeSigstore, in_a_job
from signoff.conftest import Place

from resurgence_gate.cli import run as gate
from resurgence_gate.errors import AttestationRefused, UsageError
from resurgence_gate.signoff.keyless import Sigstore, Who, read_keyless
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Verdict

Shown = pytest.CaptureFixture[str]
CODES = {Verdict.PASS: 0, Verdict.FAIL: 10, Verdict.INCONCLUSIVE: 11}
WHO = Who(identity=WORKFLOW, issuer=ISSUER)
BY = ("--identity", WORKFLOW, "--issuer", ISSUER)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeSigstore]:
    """A sigstore, and a CI job that may sign with it."""
    pytest.importorskip("sigstore", reason="of the extra sigstore")
    with FakeSigstore().serve() as served:
        in_a_job(served, monkeypatch)
        (tmp_path / "config.json").write_text(json.dumps(served.trust_config()))
        (tmp_path / "root.json").write_text(json.dumps(served.trusted_root()))
        yield served


def attest(place: Place, tmp_path: Path, verdict: Verdict = Verdict.PASS, *more: str) -> int:
    out = ("--out", str(tmp_path / "bundle.json"), "--trust-config", str(tmp_path / "config.json"))
    return gate(["attest", str(place.runs[verdict]), "--keyless", *out, *more])


def attested(place: Place, tmp_path: Path, verdict: Verdict = Verdict.PASS, *more: str) -> Path:
    assert attest(place, tmp_path, verdict, *more) == 0
    return tmp_path / "bundle.json"


def verify(place: Place, bundle: Path, *more: str, by: tuple[str, ...] = BY, root: str = "root.json") -> int:
    asked = ["verify", str(bundle), "--model", str(place.model), "--policy", str(place.policy), *by]
    return gate([*asked, *(("--trusted-root", str(bundle.parent / root)) if root else ()), *more])


@pytest.mark.parametrize("verdict", Verdict)
def test_what_was_signed_is_verified_and_the_verdict_is_the_exit_code(
    verdict: Verdict, fake: FakeSigstore, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    bundle = attested(place, tmp_path, verdict)
    told = capsys.readouterr().out
    assert f"--identity {WORKFLOW} --issuer {ISSUER}" in told
    assert fake.requests == ["/token", "/api/v2/signingCert", "/api/v1/log/entries"]
    assert verify(place, bundle) == CODES[verdict]
    told = capsys.readouterr().out
    assert f"VERIFIED, and the verdict is {verdict}" in told
    assert f"by {WORKFLOW}, for whom {ISSUER} vouches" in told
    assert len(fake.requests) == 3  # verified from the file alone


def test_a_person_approves(fake: FakeSigstore, place: Place, tmp_path: Path) -> None:
    fake.identity, fake.issuer = "ada@example.org", "https://accounts.example.org"
    bundle = attested(place, tmp_path, Verdict.PASS, "--approver", "Ada Lovelace")
    by = ("--identity", "ada@example.org", "--issuer", "https://accounts.example.org")
    assert verify(place, bundle, "--approved-by", "Ada Lovelace", by=by) == 0
    assert verify(place, bundle, "--approved-by", "Eve", by=by) == 12


def test_it_lies_beside_the_report_under_a_name_of_its_own(
    fake: FakeSigstore, place: Place, tmp_path: Path
) -> None:
    import shutil

    run = shutil.copytree(place.runs[Verdict.PASS], tmp_path / "run")
    config = ("--keyless", "--trust-config", str(tmp_path / "config.json"))
    assert gate(["attest", str(run), *config]) == 0
    assert gate(["attest", str(run), *config, "--approver", "Ada"]) == 0
    assert {p.name for p in run.glob("*.sigstore.json")} == {
        "attestation.sigstore.json",
        "approval.sigstore.json",
    }
    assert json.loads((run / "attestation.sigstore.json").read_text())["mediaType"].startswith(
        "application/vnd.dev.sigstore.bundle"
    )


@pytest.mark.parametrize(
    ("identity", "issuer"),
    [
        (WORKFLOW.replace("main", "evil"), ISSUER),
        (WORKFLOW[:-1], ISSUER),
        (WORKFLOW.upper(), ISSUER),
        (f"{WORKFLOW} ", ISSUER),
        (".*", ISSUER),
        (WORKFLOW, ISSUER + "/"),
        (WORKFLOW, "https://accounts.google.com"),
    ],
)
def test_another_identity_is_refused(
    identity: str, issuer: str, fake: FakeSigstore, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    bundle = attested(place, tmp_path)
    capsys.readouterr()
    assert verify(place, bundle, by=("--identity", identity, "--issuer", issuer)) == 12
    shown = capsys.readouterr()
    assert "is not verified as signed by" in shown.err
    assert shown.out == ""


def other_statement(bundle: dict[str, Any]) -> None:
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    payload["predicate"]["resurgenceGate"]["attested"] = "2026-01-02T03:04:06Z"
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()


def other_signature(bundle: dict[str, Any]) -> None:
    signature = bundle["dsseEnvelope"]["signatures"][0]
    raw = bytearray(base64.b64decode(signature["sig"]))
    raw[-1] ^= 1
    signature["sig"] = base64.b64encode(bytes(raw)).decode()


def other_kind(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["payloadType"] = "text/plain"


def two_signatures(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] *= 2


def no_entry(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["tlogEntries"] = []


def no_promise(bundle: dict[str, Any]) -> None:
    del bundle["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"]


def no_envelope(bundle: dict[str, Any]) -> None:
    del bundle["dsseEnvelope"]


def later_entry(bundle: dict[str, Any]) -> None:
    entry = bundle["verificationMaterial"]["tlogEntries"][0]
    entry["integratedTime"] = str(int(entry["integratedTime"]) + 60)


def other_leaf(bundle: dict[str, Any]) -> None:
    proof = bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
    proof["hashes"] = [base64.b64encode(b"x" * 32).decode()]


def certificate_of_another(bundle: dict[str, Any]) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    other = FakeSigstore().certificate(ec.generate_private_key(ec.SECP256R1()).public_key())
    raw = base64.b64encode(other.public_bytes(Encoding.DER)).decode()
    bundle["verificationMaterial"]["certificate"]["rawBytes"] = raw


@pytest.mark.parametrize(
    "change",
    [
        other_statement,
        other_signature,
        other_kind,
        two_signatures,
        no_entry,
        no_promise,
        no_envelope,
        later_entry,
        other_leaf,
        certificate_of_another,
    ],
)
def test_a_tampered_bundle_is_refused(
    change: Callable[[dict[str, Any]], None], fake: FakeSigstore, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    bundle = attested(place, tmp_path)
    body = json.loads(bundle.read_text())
    change(body)
    bundle.write_text(json.dumps(body))
    assert verify(place, bundle) == 12
    assert "VERIFIED, and" not in capsys.readouterr().out


def test_the_entry_of_another_statement_does_not_serve(
    fake: FakeSigstore, place: Place, tmp_path: Path
) -> None:
    failed = json.loads(attested(place, tmp_path, Verdict.FAIL).read_text())
    bundle = attested(place, tmp_path)
    passed = json.loads(bundle.read_text())
    bundle.write_text(json.dumps({**failed, "dsseEnvelope": passed["dsseEnvelope"]}))
    assert verify(place, bundle) == 12
    bundle.write_text(json.dumps({**passed, "dsseEnvelope": failed["dsseEnvelope"]}))
    assert verify(place, bundle) == 12


def test_one_changed_byte_anywhere_is_refused_or_changes_nothing(
    fake: FakeSigstore, place: Place, tmp_path: Path
) -> None:
    bundle = attested(place, tmp_path)
    content = bundle.read_bytes()
    whole = read_keyless(bundle, WHO, trusted_root=tmp_path / "root.json")
    refused = 0
    places = range(0, len(content), max(1, len(content) // 150))
    for i in places:
        bundle.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        try:
            read = read_keyless(bundle, WHO, trusted_root=tmp_path / "root.json")
        except AttestationRefused:
            refused += 1
        else:
            assert read == whole
    assert refused > 0.9 * len(places)


def test_keys_of_another_sigstore_verify_nothing(
    fake: FakeSigstore, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    bundle = attested(place, tmp_path)
    ours, other = fake.trusted_root(), FakeSigstore().trusted_root()
    for part in ("tlogs", "certificateAuthorities", "ctlogs"):
        (tmp_path / "other.json").write_text(json.dumps({**ours, part: other[part]}))
        assert verify(place, bundle, root="other.json") == 12, part
    assert "VERIFIED, and" not in capsys.readouterr().out


def test_an_entry_from_after_the_certificate_is_refused(
    fake: FakeSigstore, place: Place, tmp_path: Path
) -> None:
    fake.late = 3600
    assert verify(place, attested(place, tmp_path)) == 12


def test_what_holds_for_keys_holds_here(
    fake: FakeSigstore, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    bundle = attested(place, tmp_path)
    assert verify(place, bundle, "--model", str(tiny_model_folder(tmp_path / "other", seed=8))) == 12
    assert verify(place, bundle, "--policy", "object") == 12
    assert verify(place, bundle, "--max-age", "1") == 12
    (tmp_path / "report.json").write_text("{}")
    assert verify(place, bundle) == 12


def test_a_key_does_not_verify_it_and_an_identity_no_key(
    fake: FakeSigstore, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    bundle = attested(place, tmp_path)
    assert verify(place, bundle, by=("--key", str(place.keys["ed25519"][1])), root="") == 12
    assert "is signed with sigstore, not with a key" in capsys.readouterr().err
    signed = tmp_path / "signed.json"
    key = str(place.keys["p256"][0])
    assert gate(["attest", str(place.runs[Verdict.PASS]), "--key", key, "--out", str(signed)]) == 0
    assert verify(place, signed) == 12
    for text in ("", "{", "[]", '{"a": 1, "a": 2}', "{}", '{"mediaType": "x"}'):
        signed.write_text(text)
        assert verify(place, signed) == 12


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError("y"), RecursionError(), ValueError("")])
def test_every_error_of_the_library_is_a_refusal(
    error: Exception, fake: FakeSigstore, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = attested(place, tmp_path)

    def fail(*anything: object, **more: object) -> None:
        raise error

    monkeypatch.setattr("sigstore.verify.Verifier.verify_dsse", fail)
    assert verify(place, bundle) == 12


@pytest.mark.parametrize("answer", [("text/plain", b"{}"), ("application/vnd.in-toto+json", None)])
def test_a_payload_of_another_kind_is_refused(
    answer: tuple[str, Any], fake: FakeSigstore, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = attested(place, tmp_path)
    monkeypatch.setattr("sigstore.verify.Verifier.verify_dsse", lambda self, bundle, policy: answer)
    assert verify(place, bundle) == 12


def test_a_trusted_root_that_is_none_is_a_usage_error(
    fake: FakeSigstore, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    bundle = attested(place, tmp_path)
    assert verify(place, bundle, root="missing.json") == 2
    for text in ("", "{}", json.dumps({**fake.trusted_root(), "tlogs": []})):
        (tmp_path / "bad.json").write_text(text)
        assert verify(place, bundle, root="bad.json") == 2
        assert "bad.json: is no trusted root of sigstore" in capsys.readouterr().err


def test_keys_that_cannot_be_had_are_worth_a_retry(
    fake: FakeSigstore, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    from sigstore.errors import TUFError

    def unreachable(*anything: object, **more: object) -> None:
        raise TUFError("Failed to refresh TUF metadata")

    monkeypatch.setattr("sigstore.models.ClientTrustConfig.from_tuf", unreachable)
    bundle = attested(place, tmp_path)
    assert verify(place, bundle, root="") == 3
    assert "--trusted-root" in capsys.readouterr().err
    assert gate(["attest", str(place.runs[Verdict.PASS]), "--keyless", "--out", str(bundle)]) == 3


def test_sigstores_own_keys_verify_nothing_of_ours(
    fake: FakeSigstore, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --offline those that came with sigstore-python, which ask nobody."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = attested(place, tmp_path)
    assert verify(place, bundle, "--offline", root="") == 12


@pytest.mark.parametrize("path", ["/api/v2/signingCert", "/api/v1/log/entries"])
@pytest.mark.parametrize("status", [401, 429, 500])
def test_where_sigstore_does_not_sign_nothing_is_written(
    path: str, status: int, fake: FakeSigstore, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    fake.fails = {path: status}
    assert attest(place, tmp_path) == 3
    shown = capsys.readouterr()
    assert "sigstore did not sign" in shown.err
    assert fake.token()[:40] not in shown.err + shown.out
    assert not (tmp_path / "bundle.json").exists()


def test_no_identity_no_signature(
    fake: FakeSigstore, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    fake.fails = {"/token": 403}
    assert attest(place, tmp_path) == 2
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    assert attest(place, tmp_path) == 2
    assert "id-token: write" in capsys.readouterr().err
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert attest(place, tmp_path) == 2
    assert "no identity is at hand" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{}")
    assert attest(place, tmp_path) == 2
    assert not (tmp_path / "bundle.json").exists()
    assert set(fake.requests) == {"/token"}


def test_without_the_extra_it_is_named(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sigstore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sigstore", None)  # type: ignore[arg-type]
    assert gate(["attest", str(place.runs[Verdict.PASS]), "--keyless", "--out", str(tmp_path / "b")]) == 2
    assert "pip install 'resurgence-gate[sigstore]'" in capsys.readouterr().err
    (tmp_path / "b").write_text("{}")
    assert verify(place, tmp_path / "b", root="") == 2
    assert "pip install 'resurgence-gate[sigstore]'" in capsys.readouterr().err
    with pytest.raises(UsageError):
        Sigstore()


@pytest.mark.parametrize(
    "by",
    [
        ("--identity", WORKFLOW),
        ("--issuer", ISSUER),
        ("--identity", "", "--issuer", ISSUER),
        ("--identity", WORKFLOW, "--issuer", ""),
        ("--identity", WORKFLOW, "--issuer", " "),
        (*BY, "--key", "gate.pub"),
        ("--key", "gate.pub", "--trusted-root", "root.json"),
        ("--trusted-root", "root.json"),
    ],
)
def test_an_identity_needs_who_vouches_for_it(by: tuple[str, ...], place: Place, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("{}")
    assert verify(place, tmp_path / "b", by=by, root="") == 2


@pytest.mark.parametrize("more", [("--keyless", "--key", "gate.pem"), ("--trust-config", "config.json")])
def test_options_that_contradict_each_other(more: tuple[str, ...], place: Place) -> None:
    assert gate(["attest", str(place.runs[Verdict.PASS]), *more]) == 2
