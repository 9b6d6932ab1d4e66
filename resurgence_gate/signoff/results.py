"""The numbers of a report as the Hub keeps them: `model-index`, in the metadata of a model card.

All of one policy are one result; what is told of it apart from others is its dataset: `resurgence-gate`, and in its
configuration the policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.repocard_data import eval_results_to_model_index

from resurgence_gate.checkpoints.ref import model_of
from resurgence_gate.report.card import section_key
from resurgence_gate.report.tables import Column, Table, erased_tables, retained_tables
from resurgence_gate.visible import one_line
from resurgence_gate.vocabulary import GateReport

DATASET = "resurgence-gate"
_LONGEST = 200  # signs of a name


def eval_results(report: GateReport, url: str | None = None) -> list[EvalResult]:
    """The verdict, and the pooled rate of every look at the erased and at the retained concepts."""
    policy = report.policy
    shared: dict[str, Any] = {
        "task_type": "text-to-image",
        "task_name": "Text-to-image",
        "dataset_type": DATASET,
        "dataset_name": f"resurgence-gate policy {_line(policy.name)}",
        "dataset_config": section_key(policy.name),
        "dataset_revision": _line(policy.digest),
        "source_name": "resurgence-gate report" if url else None,
        "source_url": url,
    }
    verdict = EvalResult(
        metric_type="verdict",
        metric_name="Verdict of resurgence-gate",
        metric_value=str(report.decision.verdict),
        **shared,
    )
    rates = (
        EvalResult(
            metric_type=f"{kind}_concepts_seen",
            metric_name=f"{kind} concepts seen {_when(column)}",
            metric_value=round(column.pooled.hits / column.pooled.trials, 4),
            metric_args=_counts(column),
            **shared,
        )
        for kind, tables in (("erased", erased_tables(report)), ("retained", retained_tables(report)))
        for column in _columns(tables)
        if column.pooled is not None
    )
    return [verdict, *rates]


def result_of(report: GateReport, url: str | None = None) -> dict[str, Any]:
    """The one entry of `model-index[].results` that these results are."""
    (entry,) = eval_results_to_model_index("", eval_results(report, url))[0]["results"]
    return dict(entry)


def card_of(report: GateReport, section: str, url: str | None = None) -> str:
    """A whole card with nothing else in it: the metadata, and the section below."""
    data = ModelCardData(model_name=model_name(report), eval_results=eval_results(report, url))
    return str(ModelCard(f"---\n{data.to_yaml(line_break=chr(10))}\n---\n\n{section}"))


def model_name(report: GateReport) -> str:
    """What the model is called in its results: the last part of its reference, without the commit."""
    name = model_of(report.suspect.ref).rstrip("/").rpartition("/")[2].partition("@")[0]
    return _line(name) or "model"


def _columns(tables: Iterable[Table]) -> Iterator[Column]:
    """Every look once: those at the reference and before a fine-tune stand in every table."""
    seen = set()
    for table in tables:
        for column in table.columns:
            if column.arm not in seen:
                seen.add(column.arm)
                yield column


def _when(column: Column) -> str:
    arm = column.arm
    match arm.probe:
        case "reference":
            return "in the reference"
        case "before":
            return "before any fine-tune"
    again = f", replicate {arm.replicate + 1}" if arm.replicate else ""
    return f"after {arm.dose} steps of {_line(arm.probe)}{again}"


def _counts(column: Column) -> dict[str, Any]:
    rate = column.pooled
    if rate is None:
        return {}
    bounds = rate.interval
    return {
        "pictures": rate.trials,
        "seen": rate.hits,
        "undetermined": rate.undetermined,
        "lower": round(bounds.lower, 4),
        "upper": round(bounds.upper, 4),
        "confidence": bounds.confidence,
    }


def _line(text: str) -> str:
    return one_line(text, longest=_LONGEST)
