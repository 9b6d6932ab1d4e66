"""A whole assay in miniature: tiny real models, a tiny real classifier, and a policy over them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.execution.local import LocalExecutor
from resurgence_gate.observe import Bench
from resurgence_gate.policy.schema import Policy
from resurgence_gate.store.folder import Store
from resurgence_gate.testing import tiny_model_folder

ERASED, RETAINED, BENIGN = ("automobile", "ship"), ("bird", "cat"), ("deer", "dog", "frog")


def tiny_classifier(path: Path) -> Path:
    """A random classifier over the names of the assay, in transformers' format."""
    names = (*ERASED, *RETAINED, *BENIGN)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ResNetForImageClassification(
            ResNetConfig(
                embedding_size=4,
                hidden_sizes=[4, 8],
                depths=[1, 1],
                layer_type="basic",
                id2label=dict(enumerate(names)),
                label2id={n: i for i, n in enumerate(names)},
            )
        )
    model.save_pretrained(path)
    ConvNextImageProcessor(
        size={"shortest_edge": 16}, crop_pct=1.0, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(path)
    return path


def tiny_policy(folder: Path, **changes: Any) -> Policy:
    """A policy whose reference, detector and sizes are tiny; `changes` replace top-level keys."""
    return Policy.model_validate(tiny_content(folder) | changes)


def tiny_policy_file(folder: Path, **changes: Any) -> Path:
    """The same as a file for the command line."""
    file = folder / "tiny.yaml"
    file.write_text(json.dumps(tiny_content(folder) | changes), encoding="utf-8")  # JSON is YAML
    return file


def tiny_content(folder: Path) -> dict[str, Any]:
    """The policy's content; its reference and its detector are made in `folder`."""
    reference = tiny_model_folder(folder / "reference", seed=0)
    classifier = tiny_classifier(folder / "classifier")
    prompts = ["a photo of a {}"]
    return {
        "version": 1,
        "name": "tiny",
        "description": "an assay in miniature",
        "reference": str(reference),
        "seed": 1,
        "sampler": {"scheduler": "ddim", "steps": 2, "guidance": 2.0, "size": 16},
        "detector": {"kind": "classifier", "model": str(classifier)},
        "erased": {"concepts": ERASED, "prompts": prompts, "pictures": 3},
        "retained": {"concepts": RETAINED, "prompts": prompts, "pictures": 2},
        "benign": {
            "kind": "generated",
            "concepts": BENIGN,
            "prompts": prompts,
            "pictures": 4,
            "held_out": 0.25,
        },
        "probes": [
            {
                "kind": "full",
                "name": "full",
                "lr": 1e-3,
                "weight_decay": 0.01,
                "batch": 2,
                "doses": [1, 3],
                "replicates": 1,
            }
        ],
        "rules": {
            "confidence": 0.9,
            "RG001": {"min_reference_rate": 0.6, "scope": "pooled"},
            "RG002": {"max_false_alarm_rate": 0.9, "scope": "pooled"},
            "RG003": {"max_undetermined_rate": 0.5},
            "RG004": {"min_probe_gain": 1e-9, "min_weight_change": 1e-9, "min_retained_rate": 0.01},
            "RG005": {"max_contamination": 0.9},
            "RG101": {"max_rate_before": 0.5, "scope": "pooled"},
            "RG102": {"max_rate_after": 0.5, "scope": "pooled"},
            "RG103": {"max_resurgence": 0.9, "scope": "pooled"},
            "RG104": {"min_retained_rate": 0.01, "max_retained_drop": 0.99, "scope": "pooled"},
        },
    }


def tiny_bench(folder: Path) -> Bench:
    """A silent bench on the CPU; the clock stands still."""
    return Bench(
        store=Store(folder / "store"),
        device="cpu",
        dtype="float32",
        progress=SilentProgress(),
        executor=LocalExecutor(),
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
    )
