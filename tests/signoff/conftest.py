"""One model, one policy, one passed check, and two keys."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from signoff.runs import assay_of, report_of, write_policy, write_run

from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Verdict

KINDS = {
    "ed25519": ["-algorithm", "ed25519"],
    "p256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where everything lies."""

    model: Path
    policy: Path
    runs: dict[Verdict, Path]
    keys: dict[str, tuple[Path, Path]]  # name -> (private, public)


def make_key(folder: Path, name: str, kind: str) -> tuple[Path, Path]:
    key, public = folder / f"{name}.pem", folder / f"{name}.pub"
    subprocess.run(["openssl", "genpkey", *KINDS[kind], "-out", key], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    return key, public


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("signoff")
    model = tiny_model_folder(folder / "suspect", seed=3)
    policy = write_policy(folder / "policy.yaml")
    return Place(
        model=model,
        policy=folder / "policy.yaml",
        runs={
            verdict: write_run(folder / verdict.lower(), report_of(assay_of(verdict, policy), str(model)))
            for verdict in Verdict
        },
        keys={
            "ed25519": make_key(folder, "gate", "ed25519"),
            "p256": make_key(folder, "gate256", "p256"),
            "other": make_key(folder, "other", "ed25519"),
            "other256": make_key(folder, "other256", "p256"),
        },
    )
