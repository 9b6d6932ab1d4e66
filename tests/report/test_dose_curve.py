"""What the picture of the dose curve shows, and that no shape of curves breaks it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report.example import curve, example, unmeasured

from resurgence_gate.decision.rates import rate
from resurgence_gate.report.canvas import INK, SERIES
from resurgence_gate.report.dose_curve import dose_curve
from resurgence_gate.report.doses import bar, crossing, crossing_in_short
from resurgence_gate.report.tracks import tracks_of
from resurgence_gate.vocabulary import DoseCurve, DosePoint, GateReport, Verdict


def points(hits: tuple[int | None, ...], doses: tuple[int, ...] = (0, 50, 100)) -> tuple[DosePoint, ...]:
    return tuple(
        DosePoint(
            dose=dose,
            erased=None if hit is None else rate(hit, 0, 160, 0.95),
            retained=rate(70, 0, 80, 0.95),
        )
        for dose, hit in zip(doses, hits, strict=True)
    )


def report(*curves: DoseCurve) -> GateReport:
    return replace(example(Verdict.FAIL), curves=curves)


def colours(of: GateReport) -> set[str]:
    pixels = np.unique(np.asarray(dose_curve(of)).reshape(-1, 3), axis=0)
    return {"#" + bytes(pixel).hex() for pixel in pixels}


CHAIN = (
    curve("updates/one", points((8, 20, 60))),
    curve("updates/two", points((60, 70, 90)), follows="updates/one", offset=100),
)


def test_every_probe_has_a_colour_of_its_own() -> None:
    three = report(*(curve(name, points((8, 20, 60))) for name in ("full", "cross-attention", "lora")))
    assert {*SERIES[:3], INK} <= colours(three)
    assert not set(SERIES[3:]) & colours(three)


def test_a_chain_is_one_line() -> None:
    (track,) = tracks_of(CHAIN)
    assert track.name == "updates"
    assert track.links == (("one", 0, 100), ("two", 100, 200))
    (run,) = track.runs
    assert [look.steps for look in run] == [0, 50, 100, 150, 200]
    assert [look.steps for look in run if look.crosses] == [50]


def test_replicates_share_a_track() -> None:
    (track,) = tracks_of([curve("lora", points((8, 20, 60)), replicate=i) for i in range(3)])
    assert len(track.runs) == 3
    assert track.name == "lora, 3 replicates"


def test_same_curves_same_pixels() -> None:
    assert dose_curve(report(*CHAIN)).tobytes() == dose_curve(report(*CHAIN)).tobytes()


@pytest.mark.parametrize("hits", [(8, None, 60), (None, None, None), (None, 9, None), (0, 0, 0), (160,) * 3])
def test_whatever_was_measured_is_drawn(hits: tuple[int | None, ...]) -> None:
    assert dose_curve(report(curve("a very long name of a probe, indeed " * 3, points(hits)))).width == 1280


def test_many_probes_make_a_taller_picture() -> None:
    few, many = (report(*(curve(f"p{i}", points((8, 20, 60))) for i in range(n))) for n in (2, 14))
    assert dose_curve(many).height > dose_curve(few).height


def test_nothing_measured_is_a_picture_too() -> None:
    assert dose_curve(unmeasured()).width == 1280


def test_what_was_not_measured_is_told() -> None:
    broken = curve("full", points((8, None, 60)))
    assert "Not measured: 50 steps" in crossing(broken)
    assert crossing_in_short(broken).endswith("1 of 3 doses not measured")
    assert (bar(broken), bar(broken, ascii_only=True)) == ("▁?▄", "_?=")
