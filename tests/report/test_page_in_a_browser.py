"""The HTML page in a real Chromium: quiet, usable, readable, and deaf to hostile text."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from report.browser import launched, visited
from report.example import example, incomplete, unmeasured
from report.hostile import PAYLOADS, poisoned
from report.pictured import pictured

from resurgence_gate.report.json import Report
from resurgence_gate.report.page import to_html
from resurgence_gate.vocabulary import Verdict

VISIBLE = ".pair:not([hidden])"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


def written(report: Report, folder: Path, name: str) -> Path:
    file = folder / f"{name}.html"
    file.write_text(to_html(report, folder), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def pages(folder: Path) -> dict[str, Path]:
    reports: dict[str, Report] = {
        **{verdict.lower(): pictured(example(verdict), folder) for verdict in Verdict},
        "unmeasured": unmeasured(),
        "incomplete": incomplete(),
        "blurred": pictured(example(Verdict.FAIL), folder, display="blurred"),
        "many": pictured(example(Verdict.FAIL), folder, every=1),
    }
    return {name: written(report, folder, name) for name, report in reports.items()}


@pytest.mark.parametrize("name", ["fail", "pass", "inconclusive", "unmeasured", "incomplete"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_quietly_and_can_be_read(
    browser: Any, pages: dict[str, Path], name: str, scheme: str
) -> None:
    with visited(browser, pages[name], color_scheme=scheme) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        assert visit.page.evaluate(CONTRAST) == []
        paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, paper[4:-1].split(","))) < 60) == (scheme == "dark")
        visit.assert_quiet()


@pytest.mark.parametrize("name", ["fail", "unmeasured", "incomplete", "many"])
def test_a_phone_need_not_scroll_sideways(browser: Any, pages: dict[str, Path], name: str) -> None:
    with visited(browser, pages[name], **PHONE) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
        visit.assert_quiet()


@pytest.mark.parametrize("width", [320, 360, 640, 1280])
@pytest.mark.parametrize("name", ["inconclusive", "incomplete"])
def test_the_verdict_is_one_line(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    with visited(browser, pages[name], viewport={"width": width, "height": 740}) as visit:
        lines = "h => h.offsetHeight / parseFloat(getComputedStyle(h).lineHeight)"
        assert visit.page.locator("h1").evaluate(lines) < 1.5
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["fail", "pass", "inconclusive"])
def test_the_numbers_at_a_glance_stand_on_one_line(browser: Any, pages: dict[str, Path], name: str) -> None:
    with visited(browser, pages[name]) as visit:
        tops = visit.page.locator(".tile .number").evaluate_all("all => all.map(n => n.offsetTop)")
        assert len(tops) == 4
        assert len(set(tops)) == 1


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_stays_text(browser: Any, folder: Path, payload: str) -> None:
    report = pictured(example(Verdict.FAIL), folder, every=20)
    harmless = written(report, folder, "harmless")
    hostile = written(poisoned(report, PAYLOADS[payload]), folder, "hostile")
    names = "[...document.querySelectorAll('*')].map((e) => [e.tagName, ...e.getAttributeNames()].join(' '))"
    with visited(browser, harmless, **PHONE) as visit:
        expected = visit.page.evaluate(names)
    with visited(browser, hostile, **PHONE) as visit:
        assert visit.page.evaluate(names) == expected
        visit.page.locator(".compare").first.click()
        visit.page.keyboard.press("Escape")
        visit.page.mouse.move(100, 400)
        assert visit.page.evaluate("window.hacked") is None
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
        visit.assert_quiet()


def test_what_is_put_into_the_page_later_is_not_run_nor_fetched(browser: Any, pages: dict[str, Path]) -> None:
    """Should text become markup in spite of all: the page's own policy still stops it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        visited(browser, pages["fail"], offline=False) as visit,
    ):
        visit.page.evaluate(
            """(port) => {
                const script = document.createElement("script");
                script.textContent = "window.hacked = 1";
                const picture = new Image();
                picture.src = `http://127.0.0.1:${port}/x.png`;
                const handler = document.createElement("div");
                handler.innerHTML = "<b onclick='window.hacked = 1'>x</b>";
                document.body.append(script, picture, handler);
                handler.firstChild.click();
                return fetch(`http://127.0.0.1:${port}/x`).catch(() => null);
            }""",
            server.getsockname()[1],
        )
        assert visit.page.evaluate("window.hacked") is None
        assert sum("Content Security Policy" in words for words in visit.said) >= 4
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_filters_show_what_they_name(browser: Any, pages: dict[str, Path]) -> None:
    with visited(browser, pages["many"]) as visit:
        page = visit.page
        total = page.locator(".pair").count()
        assert page.locator(VISIBLE).count() == 24 < total
        page.get_by_role("button", name="Show 24 more").click()
        assert page.locator(VISIBLE).count() == 48
        for kind, other in (("concept", "change"), ("change", "concept")):
            for option in page.locator(f"#by-{kind} option").all()[1:]:
                page.locator(f"#by-{kind}").select_option(option.get_attribute("value"))
                named = int(option.text_content().rpartition("(")[2].rstrip(")"))
                shown = ", 24 shown" if named > 24 else ""
                assert page.locator("#count").text_content() == f"{named} of {total} draws{shown}"
                values = page.locator(VISIBLE).evaluate_all(f"pairs => pairs.map(p => p.dataset.{kind})")
                assert set(values) == {option.get_attribute("value")}
                assert len(values) == min(named, 24)
            page.locator(f"#by-{kind}").select_option("")
            assert page.locator(f"#by-{other}").input_value() == ""
        page.locator("#by-order").select_option("concept")
        assert set(page.locator(VISIBLE).evaluate_all("pairs => pairs.map(p => p.dataset.concept)")) == {"c0"}
        visit.assert_quiet()


def test_a_concept_leads_to_its_pictures(browser: Any, pages: dict[str, Path]) -> None:
    with visited(browser, pages["many"]) as visit:
        visit.page.get_by_role("link", name="Pictures of ship", exact=True).first.click()
        assert visit.page.locator(f"{VISIBLE} h3 bdi").all_text_contents() == ["ship"] * 24
        assert visit.page.locator("#count").text_content().startswith("40 of")
        visit.assert_quiet()


def test_blurred_pictures_are_shown_one_by_one(browser: Any, pages: dict[str, Path]) -> None:
    with visited(browser, pages["blurred"]) as visit:
        page = visit.page
        pictures = page.locator(".pair img")

        def blurred() -> list[bool]:
            return list(
                pictures.evaluate_all("all => all.map(i => getComputedStyle(i).filter.includes('blur'))")
            )

        assert all(blurred())
        page.locator(".veil").nth(0).click()
        page.locator(".veil").nth(2).focus()
        page.keyboard.press("Enter")
        assert [i for i, hidden in enumerate(blurred()) if not hidden] == [0, 2]
        page.locator(".compare").first.click()
        assert "blur" in page.locator("#left").evaluate("image => getComputedStyle(image).filter")
        page.locator("#lens-veil").click()
        assert page.locator("#left").evaluate("image => getComputedStyle(image).filter") == "none"
        page.locator("#next").click()
        assert "blur" in page.locator("#left").evaluate("image => getComputedStyle(image).filter")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Show all pictures").click()
        assert not any(blurred())
        page.get_by_role("button", name="Blur all pictures").click()
        assert all(blurred())
        visit.assert_quiet()


def test_blurred_without_scripts(browser: Any, pages: dict[str, Path]) -> None:
    with visited(browser, pages["blurred"], java_script_enabled=False) as visit:
        assert visit.page.locator(".veil:visible").count() > 0
        assert not visit.page.locator("#filters").is_visible()
    with visited(browser, pages["many"], java_script_enabled=False) as visit:
        assert visit.page.locator(VISIBLE).count() == 200


def test_the_keyboard_reaches_everything(browser: Any, pages: dict[str, Path]) -> None:
    with visited(browser, pages["fail"]) as visit:
        page = visit.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        reached = set()
        for _ in range(400):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
            if page.evaluate("document.activeElement.className") == "compare":
                break
        assert {"A", "SUMMARY", "by-concept", "by-change", "by-order"} <= reached
        page.keyboard.press("Enter")
        assert page.locator("#lens").evaluate("lens => lens.open")
        assert page.evaluate("document.activeElement.id") == "slide"
        page.keyboard.press("ArrowRight")
        assert page.locator("#stage").evaluate("stage => stage.style.getPropertyValue('--at')") == "51%"
        title = page.locator("#where").text_content()
        page.locator("#next").focus()
        page.keyboard.press("Enter")
        assert page.locator("#where").text_content() != title
        while not page.locator("#next").is_disabled():
            page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "slide"
        page.keyboard.press("Escape")
        assert not page.locator("#lens").evaluate("lens => lens.open")
        assert page.evaluate("document.activeElement.className") == "compare"
        visit.assert_quiet()


def test_the_lens_lays_the_chosen_pictures_over_each_other(browser: Any, pages: dict[str, Path]) -> None:
    with visited(browser, pages["fail"]) as visit:
        page = visit.page
        pair = page.locator(VISIBLE).first
        sources = pair.locator("img").evaluate_all("all => all.map(i => i.src)")
        pair.locator(".compare").click()
        assert page.locator("#left").get_attribute("src") == sources[1]
        assert page.locator("#right").get_attribute("src") == sources[-1]
        page.locator("#left-of").select_option(index=0)
        assert page.locator("#left").get_attribute("src") == sources[0]
        assert page.locator("#left-tag").text_content() == "reference"
        box = page.locator("#stage").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
        assert page.locator("#slide").input_value() == "25"
        visit.assert_quiet()


def test_print_is_light_and_shows_what_is_folded(browser: Any, pages: dict[str, Path]) -> None:
    with visited(browser, pages["fail"], color_scheme="dark") as visit:
        page = visit.page
        page.evaluate(
            "addEventListener('beforeprint', () => {"
            " window.folded = document.querySelectorAll('details:not([open])').length; })"
        )
        assert page.pdf().startswith(b"%PDF")
        assert page.evaluate("window.folded") == 0
        assert page.locator("details[open]").count() == 0
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.locator("nav").is_visible()
        assert page.evaluate(CONTRAST) == []
        assert all(
            part.is_visible() for part in page.locator("summary").all()
        )  # what is unfolded has its heading
        visit.assert_quiet()


def test_print_says_of_how_many_draws_it_shows_some(browser: Any, pages: dict[str, Path]) -> None:
    with visited(browser, pages["many"]) as visit:
        visit.page.emulate_media(media="print")
        assert visit.page.locator("#count").is_visible()
        assert visit.page.locator("#count").text_content() == "200 of 200 draws, 24 shown"
        assert not any(button.is_visible() for button in visit.page.locator("button").all())
        visit.assert_quiet()


def test_every_picture_and_chart_is_told_in_words(browser: Any, pages: dict[str, Path]) -> None:
    with visited(browser, pages["fail"]) as visit:
        page = visit.page
        assert page.locator(".pair img:not([alt]), .pair img[alt='']").count() == 0
        charts = page.locator("svg[role=img]").evaluate_all(
            "all => all.map(s => s.getAttribute('aria-label'))"
        )
        assert len(charts) > 5
        assert all(len(words) > 20 for words in charts)
        unnamed = page.locator("svg:not([role=img] *, [aria-hidden=true], [aria-hidden=true] *, [role=img])")
        assert unnamed.count() == 0
        visit.assert_quiet()


@pytest.mark.parametrize("name", ["fail", "pass", "unmeasured", "incomplete"])
def test_headings_and_regions_make_a_table_of_contents(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    with visited(browser, pages[name]) as visit:
        levels = visit.page.locator("h1, main h2, main h3, main h4").evaluate_all(
            "all => all.map(h => +h.tagName[1])"
        )
        assert levels[0] == 1
        assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
        regions = visit.page.locator("[role=region]").evaluate_all(
            "all => all.map(r => r.getAttribute('aria-label'))"
        )
        assert len(set(regions)) == len(regions)
