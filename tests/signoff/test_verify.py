"""Whatever was tampered with, is refused; only what was signed, whole and as it was, is verified."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from signoff.conftest import Place
from signoff.runs import assay_of, report_of, write_policy, write_run

from resurgence_gate.cli import run as gate
from resurgence_gate.errors import AttestationRefused, UsageError
from resurgence_gate.signoff.attest import attest_run, sign_statement
from resurgence_gate.signoff.envelope import PAYLOAD_TYPE, pae, to_json
from resurgence_gate.signoff.keys import read_private_key, read_public_key, sign
from resurgence_gate.signoff.statement import to_bytes
from resurgence_gate.signoff.verify import read_signed
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Verdict

Shown = pytest.CaptureFixture[str]
CODES = {Verdict.PASS: 0, Verdict.FAIL: 10, Verdict.INCONCLUSIVE: 11}


def attested(
    place: Place, out: Path, verdict: Verdict = Verdict.PASS, key: str = "ed25519", *more: str
) -> Path:
    arguments = [
        "attest",
        str(place.runs[verdict]),
        "--key",
        str(place.keys[key][0]),
        "--out",
        str(out),
        *more,
    ]
    assert gate(arguments) == 0
    return out


def verify(
    place: Place, bundle: Path, *more: str, key: str | Path = "ed25519", model: Path | None = None
) -> int:
    public = key if isinstance(key, Path) else place.keys[key][1]
    arguments = ["verify", str(bundle), "--model", str(model or place.model), "--policy", str(place.policy)]
    return gate([*arguments, "--key", str(public), *more])


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("key", ["ed25519", "p256"])
def test_what_was_signed_is_verified_and_the_verdict_is_the_exit_code(
    verdict: Verdict, key: str, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    bundle = attested(place, tmp_path / "a.json", verdict, key)
    assert verify(place, bundle, key=key) == CODES[verdict]
    shown = capsys.readouterr().out
    assert f"VERIFIED, and the verdict is {verdict}: " in shown
    assert f"{verdict}: {verdict}: " not in shown


def test_without_a_key_nothing_is_called_verified(place: Place, tmp_path: Path, capsys: Shown) -> None:
    bundle = attested(place, tmp_path / "a.json")
    capsys.readouterr()
    arguments = ["verify", str(bundle), "--model", str(place.model), "--policy", str(place.policy)]
    assert gate(arguments) == 2
    shown = capsys.readouterr()
    assert "nothing is verified without a key" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(("key", "first"), [("ed25519", 0), ("p256", 2)])
def test_one_changed_byte_of_the_bundle_anywhere(key: str, first: int, place: Place, tmp_path: Path) -> None:
    """Payload, payloadType, signature, keyid and what is between them: one flipped bit, in every fourth byte."""
    bundle = attested(place, tmp_path / "a.json", Verdict.FAIL, key)
    content, public = bundle.read_bytes().rstrip(), read_public_key(place.keys[key][1])
    assert read_signed(bundle, public).said.verdict is Verdict.FAIL
    changed = tmp_path / "b.json"
    for i in range(first, len(content), 4):
        changed.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        with pytest.raises(AttestationRefused):
            read_signed(changed, public)


def edited(bundle: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    body = json.loads(bundle.read_text())
    change(body)
    bundle.write_text(json.dumps(body))
    return bundle


def test_base64_of_other_letters_for_the_same_bytes(place: Place, tmp_path: Path, capsys: Shown) -> None:
    """64 bytes end in a letter of which 4 bits count: its neighbours decode to the same signature."""

    def change(body: dict[str, Any]) -> None:
        text = body["signatures"][0]["sig"]
        assert text.endswith("==")
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        other = letters[letters.index(text[-3]) ^ 1]
        body["signatures"][0]["sig"] = f"{text[:-3]}{other}=="
        assert base64.b64decode(body["signatures"][0]["sig"]) == base64.b64decode(text)

    bundle = edited(attested(place, tmp_path / "a.json"), change)
    assert verify(place, bundle) == 12
    assert "canonical" in capsys.readouterr().err


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "two signatures": (lambda b: b["signatures"].append(b["signatures"][0]), "has 2 signatures"),
    "a stranger's signature beside it": (
        lambda b: b["signatures"].insert(0, {"keyid": "", "sig": "AAAA"}),
        "has 2 signatures",
    ),
    "no signature": (lambda b: b["signatures"].clear(), "has 0 signatures"),
    "an empty signature": (lambda b: b["signatures"][0].update(sig=""), "signature is not base64"),
    "no list": (lambda b: b.update(signatures="x"), "are no list"),
    "a payloadType of JSON": (lambda b: b.update(payloadType="application/json"), "payloadType is"),
    "a payloadType of nothing": (lambda b: b.update(payloadType=None), "payloadType is None"),
    "an algorithm": (lambda b: b["signatures"][0].update(alg="none"), "more than a keyid and a sig"),
    "another keyid": (lambda b: b["signatures"][0].update(keyid="0" * 64), "signed with another key"),
    "a keyid of another kind": (lambda b: b["signatures"][0].update(keyid=7), "more than a keyid"),
    "more in the envelope": (lambda b: b.update(note="trust me"), "is not a DSSE envelope: 'note'"),
    "no payload": (lambda b: b.pop("payload"), "'payload' is missing"),
    "a payload in clear": (lambda b: b.update(payload={"_type": 1}), "payload is not base64"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_envelopes(name: str, place: Place, tmp_path: Path, capsys: Shown) -> None:
    change, why = FORGERIES[name]
    bundle = edited(attested(place, tmp_path / "a.json"), change)
    capsys.readouterr()
    assert verify(place, bundle) == 12
    shown = capsys.readouterr()
    assert why in shown.err
    assert shown.out == ""


def test_without_a_keyid_the_signature_decides(place: Place, tmp_path: Path) -> None:
    bundle = edited(attested(place, tmp_path / "a.json"), lambda b: b["signatures"][0].update(keyid=""))
    assert verify(place, bundle) == 0
    assert verify(place, bundle, key="other") == 12


@pytest.mark.parametrize(
    ("signed", "asked"),
    [("ed25519", "other"), ("p256", "other256"), ("ed25519", "p256"), ("p256", "ed25519")],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_wrong_key_of_the_same_or_of_another_algorithm(
    signed: str, asked: str, named: bool, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    bundle = attested(place, tmp_path / "a.json", Verdict.PASS, signed)
    if not named:
        edited(bundle, lambda b: b["signatures"][0].update(keyid=""))
    assert verify(place, bundle, key=asked) == 12
    assert ("another key" in capsys.readouterr().err) is True


def test_a_signature_of_another_curve_or_hash_is_none(place: Place, tmp_path: Path) -> None:
    """RSA, P-384 and SHA-512 signatures of the true statement, under the keys that made them."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    envelope = json.loads(attested(place, tmp_path / "a.json", Verdict.PASS, "p256").read_text())
    message = pae(base64.b64decode(envelope["payload"]))
    p256 = load_pem_private_key(place.keys["p256"][0].read_bytes(), None)
    assert isinstance(p256, ec.EllipticCurvePrivateKey)
    made = [(p256.sign(message, ec.ECDSA(hashes.SHA512())), p256, 12)]
    p384 = ec.generate_private_key(ec.SECP384R1())
    made.append((p384.sign(message, ec.ECDSA(hashes.SHA256())), p384, 2))
    for key in (rsa.generate_private_key(65537, 2048),):
        made.append((key.sign(message, padding.PKCS1v15(), hashes.SHA256()), key, 2))  # type: ignore[arg-type]
    for i, (signature, owner, code) in enumerate(made):
        signatures = [{"keyid": "", "sig": base64.b64encode(signature).decode()}]
        (tmp_path / f"{i}.json").write_text(json.dumps(envelope | {"signatures": signatures}))
        public = tmp_path / f"{i}.pub"
        public.write_bytes(owner.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        assert verify(place, tmp_path / f"{i}.json", key=public) == code


def test_the_payload_is_signed_with_its_type(place: Place, tmp_path: Path) -> None:
    """A signature over the bare statement, or over it as another type, is none."""
    payload = to_bytes(attest_run(place.runs[Verdict.PASS], now=datetime.now(UTC)))
    key = read_private_key(place.keys["ed25519"][0])
    other = b"DSSEv1 16 application/json %d %s" % (len(payload), payload)
    for message in (payload, other):
        body = {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": "", "sig": base64.b64encode(sign(key, message)).decode()}],
        }
        (tmp_path / "a.json").write_text(json.dumps(body))
        assert verify(place, tmp_path / "a.json") == 12


def test_a_private_key_is_not_what_one_verifies_with(place: Place, tmp_path: Path, capsys: Shown) -> None:
    bundle = attested(place, tmp_path / "a.json")
    assert verify(place, bundle, key=place.keys["ed25519"][0]) == 2
    assert "is a private key" in capsys.readouterr().err


def test_keys_that_stand_twice(place: Place, tmp_path: Path, capsys: Shown) -> None:
    text = attested(place, tmp_path / "a.json").read_text()
    (tmp_path / "b.json").write_text(text.replace("{", '{"payloadType": "x",', 1))
    assert verify(place, tmp_path / "b.json") == 12
    assert "'payloadType' stands there twice" in capsys.readouterr().err


def signed_payload(place: Place, payload: bytes, out: Path) -> Path:
    """Someone with the key signs whatever they like."""
    key = read_private_key(place.keys["ed25519"][0])
    statement = attest_run(place.runs[Verdict.PASS], now=datetime.now(UTC))
    envelope = replace(sign_statement(statement, key), payload=payload, signature=sign(key, pae(payload)))
    out.write_text(to_json(envelope))
    return out


BAD_STATEMENTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another type": (lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"), "its _type is"),
    "another predicate": (
        lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"),
        "predicateType",
    ),
    "no subject": (lambda s: s.update(subject=[]), "does not hold together at subject"),
    "a subject twice": (lambda s: s["subject"].append(s["subject"][0]), "named twice"),
    "a digest of another kind": (lambda s: s["subject"][0].update(digest={"sha1": "0" * 40}), "sha256"),
    "a digest that is none": (lambda s: s["subject"][0]["digest"].update(sha256="xyz"), "sha256"),
    "PASSED without a PASS": (
        lambda s: s["predicate"]["resurgenceGate"].update(verdict="FAIL"),
        "the result is PASSED, the verdict FAIL",
    ),
    "no verdict": (lambda s: s["predicate"]["resurgenceGate"].pop("verdict"), "verdict"),
    "another verdict": (lambda s: s["predicate"]["resurgenceGate"].update(verdict="OK"), "verdict"),
    "no policy": (lambda s: s["predicate"].update(configuration=[]), "has not one policy"),
    "two policies": (
        lambda s: s["predicate"]["configuration"].append(s["predicate"]["configuration"][0]),
        "has not one policy",
    ),
    "no zone": (
        lambda s: s["predicate"]["resurgenceGate"]["measured"].update(created="2026-01-01T00:00:00"),
        "created",
    ),
    "signed before it was measured": (
        lambda s: s["predicate"]["resurgenceGate"].update(attested="2001-01-01T00:00:00Z"),
        "attested before it was measured",
    ),
    "a later version": (lambda s: s["predicate"]["resurgenceGate"].update(version=2), "version"),
    "no extension": (lambda s: s["predicate"].pop("resurgenceGate"), "resurgenceGate"),
}


@pytest.mark.parametrize("name", BAD_STATEMENTS)
def test_signed_nonsense_is_refused(name: str, place: Place, tmp_path: Path, capsys: Shown) -> None:
    change, why = BAD_STATEMENTS[name]
    body = json.loads(to_bytes(attest_run(place.runs[Verdict.PASS], now=datetime.now(UTC))))
    change(body)
    bundle = signed_payload(place, json.dumps(body).encode(), tmp_path / "a.json")
    assert verify(place, bundle) == 12
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    "payload", [b"[]", b"null", b"\xff\xfe", b'{"_type": NaN}', b"[" * 100_000, b'{"a": 1, "a": 2}', b"{}"]
)
def test_signed_payloads_that_are_no_statement(payload: bytes, place: Place, tmp_path: Path) -> None:
    assert verify(place, signed_payload(place, payload, tmp_path / "a.json")) == 12


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\x00\x01", b'{"payload": 1}', b"x" * (17 * 2**20)])
def test_what_is_no_bundle(content: bytes, place: Place, tmp_path: Path, capsys: Shown) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert verify(place, tmp_path / "a.json") == 12
    assert verify(place, tmp_path / "nothing.json") == 2
    assert "bug" not in capsys.readouterr().err


def test_a_statement_that_nobody_signed(place: Place, tmp_path: Path, capsys: Shown) -> None:
    assert gate(["attest", str(place.runs[Verdict.PASS]), "--out", str(tmp_path / "s.json")]) == 0
    assert verify(place, tmp_path / "s.json") == 12
    assert "nobody signed" in capsys.readouterr().err


# What was signed is whole; what lies here is not it.


def test_one_changed_byte_of_any_file_of_the_model(place: Place, tmp_path: Path) -> None:
    bundle = attested(place, tmp_path / "a.json")
    names = [
        s["name"]
        for s in json.loads((place.runs[Verdict.PASS] / "report.json").read_text())["suspect"]["files"]
    ]
    assert len(names) > 8
    for name in names:
        model = shutil.copytree(place.model, tmp_path / "model")
        content = bytearray((model / name).read_bytes())
        content[-9] ^= 1
        (model / name).write_bytes(bytes(content))
        assert verify(place, bundle, model=model) in (2, 12), name  # 2: not JSON any more, or no pipeline
        shutil.rmtree(model)


def test_the_changed_file_is_named(place: Place, tmp_path: Path, capsys: Shown) -> None:
    bundle = attested(place, tmp_path / "a.json")
    model = shutil.copytree(place.model, tmp_path / "model")
    file = model / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    assert verify(place, bundle, model=model) == 12
    shown = capsys.readouterr()
    assert "unet/diffusion_pytorch_model.safetensors: its content is not what was attested" in shown.err
    assert "NOT VERIFIED" in shown.err
    assert "VERIFIED" not in shown.out


def test_a_copy_elsewhere_is_the_same_model(place: Place, tmp_path: Path) -> None:
    bundle = attested(place, tmp_path / "a.json")
    assert verify(place, bundle, model=shutil.copytree(place.model, tmp_path / "copy")) == 0


def test_a_swapped_model(place: Place, tmp_path: Path, capsys: Shown) -> None:
    bundle = attested(place, tmp_path / "a.json")
    other = tiny_model_folder(tmp_path / "other", seed=4)
    assert verify(place, bundle, model=other) == 12
    assert "content is not what was attested" in capsys.readouterr().err
    assert (
        verify(
            place,
            bundle,
            "--base",
            str(place.model),
            model=other / "unet" / "diffusion_pytorch_model.safetensors",
        )
        == 12
    )
    shown = capsys.readouterr().err
    assert "diffusion_pytorch_model.safetensors: is loaded, and not attested" in shown


def test_files_that_changed_places(place: Place, tmp_path: Path, capsys: Shown) -> None:
    bundle = attested(place, tmp_path / "a.json")
    model = shutil.copytree(place.model, tmp_path / "model")
    (model / "tokenizer" / "added_tokens.json").write_text("{}")
    assert verify(place, bundle, model=model) == 12
    assert "tokenizer/added_tokens.json: is loaded, and not attested" in capsys.readouterr().err


def test_a_file_that_is_gone(place: Place, tmp_path: Path, capsys: Shown) -> None:
    bundle = attested(place, tmp_path / "a.json")
    model = shutil.copytree(place.model, tmp_path / "model")
    names = {
        s["name"]
        for s in json.loads((place.runs[Verdict.PASS] / "report.json").read_text())["suspect"]["files"]
    }
    (optional,) = names & {"tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json"} or {""}
    if not optional:
        pytest.skip("every file of this version's tokenizer is needed")
    (model / optional).unlink()
    assert verify(place, bundle, model=model) in (2, 12)


@pytest.mark.parametrize(
    "name",
    [
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "pytorch_lora_weights.safetensors",
        "model.ckpt",
    ],
)
def test_weights_beside_the_attested_ones(name: str, place: Place, tmp_path: Path, capsys: Shown) -> None:
    bundle = attested(place, tmp_path / "a.json")
    model = shutil.copytree(place.model, tmp_path / "model")
    shutil.copy(model / "unet" / "diffusion_pytorch_model.safetensors", model / name)
    assert verify(place, bundle, model=model) == 12
    assert f"{name}: is not attested, and some loader may take it" in capsys.readouterr().err


def test_what_a_check_never_runs_may_lie_there(place: Place, tmp_path: Path) -> None:
    bundle = attested(place, tmp_path / "a.json")
    model = shutil.copytree(place.model, tmp_path / "model")
    (model / "safety_checker").mkdir()
    (model / "safety_checker" / "model.safetensors").write_bytes(b"x")
    (model / "README.md").write_text("a model")
    assert verify(place, bundle, model=model) == 0


@pytest.mark.parametrize("change", ["max_rate_after: 0.4", "max_rate_after: 0.39"])
def test_an_older_policy(change: str, place: Place, tmp_path: Path, capsys: Shown) -> None:
    bundle = attested(place, tmp_path / "a.json")
    text = place.policy.read_text()
    assert text.count("max_rate_after: 0.4}") == 1
    newer = tmp_path / "policy.yaml"
    newer.write_text(f"# another comment\n{text.replace('max_rate_after: 0.4', change)}")
    code = gate(
        [
            "verify",
            str(bundle),
            "--model",
            str(place.model),
            "--policy",
            str(newer),
            "--key",
            str(place.keys["ed25519"][1]),
        ]
    )
    same = change.endswith("0.4")  # what it says counts, not how it is written
    assert code == (0 if same else 12)
    assert ("another policy or another version" in capsys.readouterr().err) is not same


@pytest.mark.parametrize("beside", [True, False])
def test_one_changed_byte_of_the_report(beside: bool, place: Place, tmp_path: Path, capsys: Shown) -> None:
    run = shutil.copytree(place.runs[Verdict.PASS], tmp_path / "run")
    assert gate(["attest", str(run), "--key", str(place.keys["ed25519"][0])]) == 0
    bundle = run / "attestation.json"
    assert verify(place, bundle) == 0
    report = run / "report.json"
    report.write_bytes(report.read_bytes().replace(b'"cpu"', b'"cpv"'))
    more = []
    if not beside:
        bundle = shutil.copy(bundle, tmp_path / "a.json")
        assert verify(place, bundle) == 0  # of a report that is not there nothing is said
        more = ["--report", str(run)]
    capsys.readouterr()
    assert verify(place, bundle, *more) == 12
    assert "is not the one that was attested" in capsys.readouterr().err


def run_of(place: Place, folder: Path, model: Path, created: datetime) -> Path:
    policy = write_policy(folder.parent / "again.yaml")
    report = report_of(assay_of(Verdict.PASS, policy), str(model), created=created.isoformat())
    return write_run(folder, report)


def test_a_replay_for_a_newer_model(place: Place, tmp_path: Path) -> None:
    """The bundle of the last release, shown with this one."""
    old = attested(place, tmp_path / "a.json")
    newer = tiny_model_folder(tmp_path / "newer", seed=5)
    assert verify(place, old) == 0
    assert verify(place, old, model=newer) == 12


def test_an_old_measurement(place: Place, tmp_path: Path, capsys: Shown) -> None:
    """Signing it again makes it no younger."""
    now = datetime.now(UTC)
    run = run_of(place, tmp_path / "run", place.model, now - timedelta(days=31))
    assert gate(["attest", str(run), "--key", str(place.keys["ed25519"][0])]) == 0
    bundle = run / "attestation.json"
    assert verify(place, bundle, "--max-age", "32") == 0
    assert verify(place, bundle) == 0
    capsys.readouterr()
    assert verify(place, bundle, "--max-age", "30") == 12
    assert "was measured 31 days ago" in capsys.readouterr().err


def test_a_bundle_from_the_future(place: Place, tmp_path: Path, capsys: Shown) -> None:
    key = read_private_key(place.keys["ed25519"][0])
    for minutes, code in ((1, 0), (60, 12)):
        statement = attest_run(place.runs[Verdict.PASS], now=datetime.now(UTC) + timedelta(minutes=minutes))
        (tmp_path / "a.json").write_text(to_json(sign_statement(statement, key)))
        capsys.readouterr()
        assert verify(place, tmp_path / "a.json") == code
    assert "signed in the future" in capsys.readouterr().err


def test_who_approved(place: Place, tmp_path: Path, capsys: Shown) -> None:
    alone = attested(place, tmp_path / "a.json")
    hers = attested(
        place, tmp_path / "b.json", Verdict.PASS, "ed25519", "--approver", "Ada", "--note", "for 1.2"
    )
    capsys.readouterr()
    assert verify(place, hers, "--approved-by", "Ada") == 0
    assert "by Ada: for 1.2" in capsys.readouterr().out
    for bundle, by in ((alone, "nobody"), (hers, "Ada")):
        assert verify(place, bundle, "--approved-by", "Bob") == 12
        assert f"it was approved by {by}, not by Bob" in capsys.readouterr().err


def test_every_refusal_is_told(place: Place, tmp_path: Path, capsys: Shown) -> None:
    bundle = attested(place, tmp_path / "a.json")
    other = tiny_model_folder(tmp_path / "other", seed=4)
    shutil.copy(place.runs[Verdict.FAIL] / "report.json", tmp_path / "report.json")
    newer = tmp_path / "policy.yaml"
    newer.write_text(place.policy.read_text().replace("max_rate_after: 0.4", "max_rate_after: 0.3"))
    arguments = ["verify", str(bundle), "--model", str(other), "--policy", str(newer), "--max-age", "0"]
    assert gate([*arguments, "--approved-by", "Ada", "--key", str(place.keys["ed25519"][1])]) == 12
    shown = capsys.readouterr().err
    for why in ("measured", "another policy", "approved by nobody", "is not the one", "its content is not"):
        assert why in shown


def test_a_failed_verdict_is_no_success_however_well_signed(place: Place, tmp_path: Path) -> None:
    bundle = attested(
        place, tmp_path / "a.json", Verdict.FAIL, "ed25519", "--approver", "Ada", "--note", "ship it"
    )
    assert verify(place, bundle, "--approved-by", "Ada") == 10


def test_verify_needs_no_torch(place: Place, tmp_path: Path) -> None:
    bundle = attested(place, tmp_path / "a.json")
    arguments = ["verify", str(bundle), "--model", str(place.model), "--policy", str(place.policy)]
    arguments += ["--key", str(place.keys["ed25519"][1])]
    code = (
        f"import sys; from resurgence_gate.cli import run; code = run({arguments!r}); "
        "heavy = [m for m in ('torch', 'diffusers', 'transformers', 'huggingface_hub') if m in sys.modules]; "
        "sys.exit(str(heavy) if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ.copy()
    )
    assert done.returncode == 0, done.stderr


def test_a_bundle_that_is_a_folder(place: Place, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no attestation can be read"):
        read_signed(tmp_path, read_public_key(place.keys["ed25519"][1]))
