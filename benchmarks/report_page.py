"""How large report.html is, and how fast it opens: a report with 1,000 pictures of noise, the worst for compression.

    python benchmarks/report_page.py [--screenshot RUN FILE]

writes benchmarks/results/report_page.md. With --screenshot it takes a picture of the top of RUN/report.html instead, as
the README shows it: `make demo`, then `--screenshot demo-report docs/report-page.png`. Needs Chromium.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from resurgence_gate.report import read_report
from resurgence_gate.report.page import to_html
from resurgence_gate.report.pictures import LIMIT, keep_pictures
from resurgence_gate.vocabulary import Draw, GateReport

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "tests" / "report" / "golden" / "fail.json"
OUT = ROOT / "benchmarks" / "results" / "report_page.md"
PROMPT = "a photo of a ship on the open sea, in the style of an old master"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screenshot", nargs=2, type=Path, metavar=("RUN", "FILE"))
    asked = parser.parse_args()
    if asked.screenshot:
        screenshot(asked.screenshot[0] / "report.html", asked.screenshot[1])
        return
    lines = ["| pictures | on disk | page | written in | opened in |", "|---|---:|---:|---:|---:|"]
    for what, side in (("64 x 64, lossless", 64), ("512 x 512, kept at 256", 512)):
        with tempfile.TemporaryDirectory() as folder:
            line = measured(Path(folder), side)
        lines.append(f"| {LIMIT} of {what} | {line} |")
    text = (
        "# The page of a report with 1,000 pictures\n\n"
        "Noise, which compresses worst. Opened: from the start of loading to its end (median of five), in a headless\n"
        "Chromium on the machine at hand. `python benchmarks/report_page.py`.\n\n" + "\n".join(lines) + "\n"
    )
    OUT.write_text(text)
    print(text)


def measured(folder: Path, side: int) -> str:
    """A row of the table."""
    report = read_report(EXAMPLE)
    assert isinstance(report, GateReport)
    looks = [look for look in report.looks if (look.arm.probe, look.arm.dose) != ("full", 50)]
    draws = -(-LIMIT // len(looks))
    kept = keep_pictures(noise(side), folder)
    names = [picture.picture for picture in kept]
    times = -(-draws // len(report.draws))
    report = replace(
        report,
        draws=tuple(Draw(concept=d.concept, prompt=PROMPT, seed=d.seed) for d in report.draws * times)[
            :draws
        ],
        looks=tuple(
            replace(
                look,
                pictures=tuple(names[k * draws : (k + 1) * draws]),
                outcomes=(look.outcomes * times)[:draws],
                scores=(look.scores * times)[:draws],
                seen=(look.seen * times)[:draws],
                reasons=(look.reasons * times)[:draws],
            )
            for k, look in enumerate(looks)
        ),
        pictures=kept,
    )
    before = time.perf_counter()
    page = folder / "report.html"
    page.write_text(to_html(report, folder), encoding="utf-8")
    written = time.perf_counter() - before
    on_disk = sum(path.stat().st_size for path in (folder / "pictures").iterdir())
    opened = sorted(seconds for _ in range(5) for seconds in [opening(page)])[2]
    return f"{on_disk / 1e6:.1f} MB | {page.stat().st_size / 1e6:.1f} MB | {written:.1f} s | {opened:.2f} s"


def noise(side: int) -> Iterator[tuple[str, np.ndarray]]:
    random = np.random.default_rng(0)
    for i in range(LIMIT):
        yield (
            hashlib.sha256(f"{i}".encode()).hexdigest(),
            random.integers(0, 256, (side, side, 3), dtype=np.uint8),
        )


def opening(page: Path) -> float:
    """Seconds until the page has loaded."""
    with sync_playwright() as playwright:
        tab = browser(playwright).new_page(viewport={"width": 1280, "height": 900})
        tab.goto(page.as_uri())
        return float(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")) / 1000


def screenshot(page: Path, out: Path) -> None:
    """The verdict, the dose curve and the first concepts, in few colours."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        tab = browser(playwright).new_page(viewport={"width": 1180, "height": 1480})
        tab.goto(page.resolve().as_uri())
        tab.screenshot(path=f"{folder}/page.png")
        image = Image.open(f"{folder}/page.png").convert("RGB")
        image.quantize(128, dither=Image.Dither.NONE).save(out, optimize=True)


def browser(playwright: object) -> Browser:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        raise SystemExit("no Chromium; on Debian: apt-get install chromium")
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
