"""A reduced study from end to end."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from resurgence_gate.errors import UsageError
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.toy.decomposition import decompose
from resurgence_gate.toy.figures import figures, require_matplotlib
from resurgence_gate.toy.study import QUICK, Settings, Stage, Study, run_study
from resurgence_gate.toy.table import summary, tables
from resurgence_gate.toy.training import Dose

REDUCED = replace(QUICK, seeds=2, rhos=(0.0, 0.3), width=32, samples=500, likelihood_steps=100)


@pytest.fixture(scope="module")
def study() -> Study:
    return run_study(REDUCED, SilentProgress())


def masses(study: Study, stage: Stage) -> dict[float, list[float]]:
    return {
        rho: [look.mass for look in study.looks if look.stage is stage and look.rho == rho]
        for rho in (1.0, *study.settings.rhos)
    }


def test_every_cell_is_looked_at_once(study: Study) -> None:
    cells = [(look.stage, look.rho, look.seed) for look in study.looks]
    assert len(cells) == len(set(cells)) == 2 + 3 * 2 * 2
    assert all(len(look.log_likelihood) == 5 for look in study.looks)


def test_control_the_model_knew_the_concept_and_unlearning_took_it(study: Study) -> None:
    known, unlearned = masses(study, Stage.LEARNED)[1.0], masses(study, Stage.UNLEARNED)[0.0]
    assert min(known) > 0.28
    assert max(unlearned) < 0.6 * min(known)


def test_samples_agree_with_the_mass(study: Study) -> None:
    for look in study.looks:
        assert look.inside / study.settings.samples == pytest.approx(look.mass, abs=0.08)


def test_first_moment_is_the_unlearned_model(study: Study) -> None:
    before = {(o.rho, o.seed): o.mass for o in study.looks if o.stage is Stage.UNLEARNED}
    start = {(m.rho, m.seed): m.mass for m in study.moments if m.stage is Stage.TUNED and m.steps == 0}
    assert start == pytest.approx(before)


def test_parts_add_up(study: Study) -> None:
    for p in decompose(study):
        assert p.residual + p.inherited + p.fresh == pytest.approx(p.after)
        assert p.exact_lift <= 0
        assert p.lift == pytest.approx(p.after - p.before)


def test_study_is_reproduced() -> None:
    few = Dose(steps=10)
    small = replace(REDUCED, learn=few, unlearn=few, tune=few, doses=(0, 10), likelihood_steps=20)
    first, again = (run_study(small, SilentProgress()) for _ in range(2))
    for one, other in zip(first.looks, again.looks, strict=True):
        assert one.inside == pytest.approx(other.inside, abs=1)
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-3)
        assert one.mass == pytest.approx(other.mass, abs=1e-4)


COLUMNS = {
    "figure4.csv": ["stage", "rho", "seed", "x", "log_likelihood", "exact_log_likelihood"],
    "figure5.csv": ["stage", "rho", "seed", "samples", "inside", "exact_inside"],
    "smoothing.csv": ["rho", "seed", "before", "exact_before", "after", "residual", "inherited", "fresh"],
    "doses.csv": ["stage", "rho", "seed", "steps", "mass"],
}


def test_tables_have_their_columns_and_rows(study: Study) -> None:
    written = tables(study)
    read = {name: list(csv.DictReader(io.StringIO(text))) for name, text in written.items()}
    assert {name: list(rows[0]) for name, rows in read.items()} == COLUMNS
    assert {name: len(rows) for name, rows in read.items()} == {
        "figure4.csv": 14 * 5,
        "figure5.csv": 14,
        "smoothing.csv": 4,
        "doses.csv": 2 * 4 * 6,
    }


def test_summary_is_short_and_plain(study: Study) -> None:
    lines = summary(study).splitlines()
    assert lines[0].startswith("Inside the concept, of 500 samples (mean of 2 seeds")
    assert len(lines) == 9
    assert max(map(len, lines)) <= 100


def test_figures_are_pictures(study: Study) -> None:
    drawn = figures(study)
    assert sorted(drawn) == [
        f"{n}.{kind}" for n in ("figure4", "figure5", "smoothing") for kind in ("png", "svg")
    ]
    for name, content in drawn.items():
        if name.endswith("svg"):
            assert ElementTree.fromstring(content).tag.endswith("svg")
        else:
            assert content.startswith(b"\x89PNG")


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"resurgence-gate\[figures\]"):
        require_matplotlib()


@pytest.mark.parametrize(
    "wrong", [{"seeds": 0}, {"rhos": ()}, {"rhos": (1.5,)}, {"doses": (0, 2000)}, {"kl_weight": -1.0}]
)
def test_settings_must_be_sound(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(Settings(), **wrong)  # type: ignore[arg-type]
