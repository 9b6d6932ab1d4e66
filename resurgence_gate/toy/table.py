"""The study as CSV, one row for each number of a figure, and as a short table to print."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from statistics import fmean

from resurgence_gate.toy.decomposition import decompose
from resurgence_gate.toy.study import Look, Stage, Study

Rows = Iterable[Sequence[object]]


def tables(study: Study) -> dict[str, str]:
    """The CSV text of each file name."""
    return {
        "figure4.csv": _csv(
            ("stage", "rho", "seed", "x", "log_likelihood", "exact_log_likelihood"), _likelihoods(study)
        ),
        "figure5.csv": _csv(("stage", "rho", "seed", "samples", "inside", "exact_inside"), _counts(study)),
        "smoothing.csv": _csv(
            ("rho", "seed", "before", "exact_before", "after", "residual", "inherited", "fresh"),
            _parts(study),
        ),
        "doses.csv": _csv(("stage", "rho", "seed", "steps", "mass"), _doses(study)),
    }


def summary(study: Study) -> str:
    """For the terminal: what was in the concept at each stage, and how far it rose on the way."""
    control = [look for look in study.looks if look.stage is Stage.LEARNED]
    n, parts = study.settings.samples, decompose(study)
    lines = [
        f"Inside the concept, of {n:,} samples (mean of {_seeds(study)}; exact score in brackets).",
        "smoothing: the network's share of what is inside after the fine-tune with the KL penalty.",
        "rise: the highest during the fine-tune, in percentage points, and after how many steps.",
        "",
        f"before unlearning: {_inside(study, control)}",
        "",
        f"{'rho':>4}{'unlearned':>13}{'tuned, KL':>13}{'no KL':>11}"
        f"{'smoothing':>12}{'rise, KL':>15}{'rise, no KL':>15}",
    ]
    for rho in study.settings.rhos:
        unlearned, tuned, freely = (
            _inside(study, [look for look in study.looks if look.stage is stage and look.rho == rho])
            for stage in (Stage.UNLEARNED, Stage.TUNED, Stage.TUNED_FREELY)
        )
        smoothed = fmean((p.inherited + p.fresh) / p.after for p in parts if p.rho == rho)
        rises = [_highest(study, stage, rho) for stage in (Stage.TUNED, Stage.TUNED_FREELY)]
        lines.append(
            f"{rho:4.2f}{unlearned:>13}{tuned:>13}{freely:>11}{smoothed:>12.0%}{rises[0]:>15}{rises[1]:>15}"
        )
    return "\n".join(lines)


def _highest(study: Study, stage: Stage, rho: float) -> str:
    """The rise over the start, mean over the seeds, at the dose where it is highest."""
    mean = {
        steps: fmean(m.mass for m in study.moments if (m.stage, m.rho, m.steps) == (stage, rho, steps))
        for steps in study.settings.doses
    }
    top = max(mean, key=lambda steps: mean[steps])
    return f"{100 * (mean[top] - mean[min(mean)]):+.2f} at {top}"


def _inside(study: Study, looks: Sequence[Look]) -> str:
    found = fmean(look.inside for look in looks)
    return f"{found:.0f} ({study.settings.samples * looks[0].exact_mass:.0f})"


def _likelihoods(study: Study) -> Rows:
    for look in study.looks:
        rows = zip(study.points, look.log_likelihood, look.exact_log_likelihood, strict=True)
        for x, found, exact in rows:
            yield look.stage, look.rho, look.seed, x, f"{found:.5f}", f"{exact:.5f}"


def _counts(study: Study) -> Rows:
    n = study.settings.samples
    for look in study.looks:
        yield look.stage, look.rho, look.seed, n, look.inside, f"{n * look.exact_mass:.1f}"


def _parts(study: Study) -> Rows:
    for p in decompose(study):
        masses = (p.before, p.exact_before, p.after, p.residual, p.inherited, p.fresh)
        yield p.rho, p.seed, *(f"{m:.5f}" for m in masses)


def _doses(study: Study) -> Rows:
    for m in study.moments:
        yield m.stage, m.rho, m.seed, m.steps, f"{m.mass:.5f}"


def _csv(header: Sequence[str], rows: Rows) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _seeds(study: Study) -> str:
    return "1 seed" if study.settings.seeds == 1 else f"{study.settings.seeds} seeds"
