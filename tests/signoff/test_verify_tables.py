"""A policy names a table of prompts by its path: what `verify` vouches for are its rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from signoff.conftest import Place
from signoff.runs import assay_of, report_of, write_policy, write_run

from resurgence_gate.cli import run as gate
from resurgence_gate.data.used import prompt_sources
from resurgence_gate.policy.load import load_policy
from resurgence_gate.vocabulary import Verdict

Shown = pytest.CaptureFixture[str]
ROWS = "prompt,note\n" + "".join(
    f"a {animal} in a field,{n}\n" for n, animal in enumerate(("cow", "hen", "ram"))
)


@pytest.fixture
def bundle(place: Place, tmp_path: Path) -> Path:
    """An attestation of a check whose policy takes the prompts of its benign pictures from a table."""
    (tmp_path / "fields.csv").write_text(ROWS)
    policy = tmp_path / "policy.yaml"
    write_policy(policy)
    body = yaml.safe_load(policy.read_text())
    del body["benign"]["prompts"]
    body["benign"] |= {"concepts": ["cow"], "prompt_set": {"source": "fields.csv", "column": "prompt"}}
    policy.write_text(yaml.safe_dump(body))
    loaded = load_policy(policy)
    report = report_of(assay_of(Verdict.PASS, loaded), str(place.model))
    run = write_run(tmp_path / "run", replace(report, sources=prompt_sources(loaded)))
    out = tmp_path / "a.json"
    assert gate(["attest", str(run), "--key", str(place.keys["ed25519"][0]), "--out", str(out)]) == 0
    return out


def verify(place: Place, bundle: Path, policy: Path | None = None) -> int:
    with_policy = ["--policy", str(policy or bundle.parent / "policy.yaml")]
    public = ["--key", str(place.keys["ed25519"][1])]
    return gate(["verify", str(bundle), "--model", str(place.model), *with_policy, *public])


def test_the_same_rows_are_verified_however_they_are_written(place: Place, bundle: Path) -> None:
    assert verify(place, bundle) == 0
    table = bundle.parent / "fields.csv"
    table.write_text(ROWS.replace("prompt,note", "prompt,remark").replace("\n", "\r\n"))
    assert verify(place, bundle) == 0


@pytest.mark.parametrize(
    "rows", [ROWS.replace("hen", "dog"), ROWS + "an ox,4\n", "prompt\na cow in a field\n"]
)
def test_other_rows_are_refused(rows: str, place: Place, bundle: Path, capsys: Shown) -> None:
    (bundle.parent / "fields.csv").write_text(rows)
    assert verify(place, bundle) == 12
    assert (
        "benign prompts: fields.csv has other rows here than those that were read" in capsys.readouterr().err
    )


@pytest.mark.parametrize("content", [None, "", "text\na cow\n"])
def test_a_table_that_cannot_be_read_is_no_reason_to_believe(
    content: str | None, place: Place, bundle: Path, capsys: Shown
) -> None:
    table = bundle.parent / "fields.csv"
    table.unlink() if content is None else table.write_text(content)
    assert verify(place, bundle) == 12
    assert "benign prompts: the policy names a table that cannot be read here: " in capsys.readouterr().err


def test_a_statement_that_tells_of_no_rows_vouches_for_none(
    place: Place, bundle: Path, capsys: Shown
) -> None:
    policy = load_policy(bundle.parent / "policy.yaml")
    run = write_run(bundle.parent / "older", report_of(assay_of(Verdict.PASS, policy), str(place.model)))
    out = bundle.parent / "b.json"
    assert gate(["attest", str(run), "--key", str(place.keys["ed25519"][0]), "--out", str(out)]) == 0
    assert verify(place, out) == 12
    assert "benign prompts: fields.csv has other rows here" in capsys.readouterr().err
