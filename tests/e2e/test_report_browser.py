"""The HTML report in a real browser: Debian's chromium, without a head, driven by playwright."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ledger.audit.html import render
from tests.documents import Json, document, hostile, incomplete, private, scored, unreadable, violated

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")


def excluded_everywhere(audit: Json) -> Json:
    """That document with every update excluded, for the reason with the longest name."""
    for one in audit["timeline"]:
        one["updates"] = [
            {**update, "outcome": "excluded", "weight": None, "reason": "unavailable"} for update in one["updates"]
        ]
    return audit


DOCUMENTS: dict[str, Callable[[], Json]] = {
    "verified": document,
    "violated": violated,
    "incomplete": incomplete,
    "unreadable": unreadable,
    "hostile": hostile,
    "private": private,
    "scored": scored,
    "scored by many": lambda: scored(50, 20),
    "large": lambda: document(50, 20),
    "wide": lambda: excluded_everywhere(document(10, 6)),
}
PHONE, DESKTOP = 390, 1280

pytestmark = pytest.mark.xdist_group("browser")  # one worker starts it for all


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'fedledger[dev]'")
    if not CHROMIUM.exists():
        pytest.skip("no chromium: scripts/setup_chromium installs it")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports, each under its name."""
    reports = tmp_path_factory.mktemp("reports")
    for name, made in DOCUMENTS.items():
        (reports / f"{name}.html").write_text(render(made()), encoding="utf-8")
    return reports


@pytest.fixture
def show(browser: Browser, folder: Path) -> Iterator[Callable[..., Page]]:
    """Opens a report; afterwards nothing must have been complained of, and nothing fetched but the file itself."""
    complaints: list[str] = []
    fetched: set[str] = set()
    context = browser.new_context(offline=True)

    def open_(name: str, width: int = DESKTOP) -> Page:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: fetched.add(request.url))
        page.goto((folder / f"{name}.html").as_uri())
        return page

    yield open_
    context.close()
    assert complaints == []
    assert len(fetched) == 1
    assert fetched.pop().startswith("file:")


every_report = pytest.mark.parametrize("name", DOCUMENTS)


@every_report
def test_it_shows_the_verdict_and_lays_out_every_plot(name: str, show: Callable[..., Page]) -> None:
    page = show(name)
    verdict = DOCUMENTS[name]()["verdict"].capitalize()
    assert page.title().startswith(verdict)
    assert verdict in page.locator("#verdict").inner_text()
    assert page.locator("#verdict").is_visible()
    for plot in page.locator("svg").all():
        box = plot.bounding_box()
        assert box
        assert min(box["width"], box["height"]) > 100


@every_report
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_the_page_never_scrolls_sideways_only_the_tables_in_it_do(
    name: str, width: int, show: Callable[..., Page]
) -> None:
    page = show(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(BEYOND_THE_EDGE, ".scroll > *, details, .hidden") == []


BEYOND_THE_EDGE = """besides => [...document.querySelectorAll("body *")]
  .filter(one => !one.closest(besides) && one.getBoundingClientRect().right > innerWidth + 0.5)
  .map(one => one.outerHTML.slice(0, 200))"""
"""Elements that reach beyond the page's right edge, besides those in these."""


@pytest.mark.parametrize("name", ["verified", "scored"])
def test_at_a_desk_all_of_an_ordinary_report_is_seen_without_scrolling_sideways(
    name: str, show: Callable[..., Page]
) -> None:
    page = show(name)
    wider = "() => [...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).length"
    assert page.evaluate(wider) == 0


def test_the_button_downloads_the_document(show: Callable[..., Page], tmp_path: Path) -> None:
    page = show("violated")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download audit.json").click()
    assert download.value.suggested_filename == "audit.json"
    download.value.save_as(tmp_path / "audit.json")
    assert json.loads((tmp_path / "audit.json").read_text()) == violated()


def test_the_keyboard_reaches_every_link_table_and_the_button_and_shows_where_it_is(show: Callable[..., Page]) -> None:
    page = show("violated", PHONE)
    reachable = page.locator("a[href], .scroll, button, summary").count()
    reached: list[tuple[str, str]] = []
    for _ in range(reachable):
        page.keyboard.press("Tab")
        where = "() => [document.activeElement.outerHTML, getComputedStyle(document.activeElement).outlineStyle]"
        reached.append(tuple(page.evaluate(where)))
    assert len(set(reached)) == reachable
    assert {outline for _, outline in reached} == {"solid"}
    table = page.locator(".scroll:has(.matrix)").first.element_handle()
    table.focus()
    page.keyboard.press("ArrowRight")
    page.evaluate(
        "table => new Promise(moved => { if (table.scrollLeft) moved(); else table.onscroll = moved; })", table
    )


def test_enter_on_the_button_downloads_too(show: Callable[..., Page]) -> None:
    page = show("verified")
    page.get_by_role("button", name="Download audit.json").focus()
    with page.expect_download():
        page.keyboard.press("Enter")


def test_everything_that_is_reached_has_a_name_for_those_who_do_not_see(show: Callable[..., Page]) -> None:
    page = show("violated")
    tree = page.locator("body").aria_snapshot()
    for wanted in (
        "- banner:",
        "- main:",
        "- contentinfo:",
        '- navigation "Contents":',
        '- heading "Audit of the training history',
        '- img "Quality by round; the table below has the same values."',
        'region "Sites by rounds: Rounds 1 to 10"',
        '- columnheader "Round 10"',
        '- rowheader "Hungary (2)"',
        '- cell "– absent"',
        '- button "Download audit.json"',
    ):
        assert wanted in tree


@pytest.mark.parametrize("name", ["verified", "violated", "incomplete", "scored"])
def test_every_text_stands_out_from_what_is_behind_it(name: str, show: Callable[..., Page]) -> None:
    texts = show(name).evaluate(CONTRASTS)
    assert len(texts) > 500
    assert [text for text in texts if text["contrast"] < 4.5] == []


CONTRASTS = """() => {
  const parse = color => color.match(/[0-9.]+/g).map(Number);
  const luminance = color => parse(color).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if ((parse(color)[3] ?? 1) === 1) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const own = element => [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim());
  return [...document.querySelectorAll("body *")].filter(one => own(one) && one.checkVisibility()).map(one => {
    const style = getComputedStyle(one);
    const pair = [luminance(one.closest("svg") ? style.fill : style.color), luminance(behind(one))];
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    return { text: one.textContent.slice(0, 60), contrast };
  });
}"""
"""Every element that shows text of its own, with the contrast ratio of WCAG 2."""


def test_hostile_names_run_nothing(show: Callable[..., Page]) -> None:
    page = show("hostile")
    assert page.evaluate("typeof harmed") == "undefined"
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert page.locator("#verdict").is_visible()


def test_the_policy_stops_a_script_and_a_style_that_are_not_the_reports_own(browser: Browser, folder: Path) -> None:
    text = (folder / "verified.html").read_text(encoding="utf-8")
    evil = "<script>harmed = 1</script><style>main { display: none }</style><p style='display: none' onclick='1'>x</p>"
    (folder / "changed.html").write_text(text.replace("<main>", evil + "<main>"), encoding="utf-8")
    page = browser.new_page()
    page.goto((folder / "changed.html").as_uri())
    assert page.evaluate("typeof harmed") == "undefined"
    assert page.locator("main").is_visible()
    page.close()


def test_from_a_server_nothing_but_the_page_is_asked_for(browser: Browser, folder: Path) -> None:
    with served(folder) as (url, asked):
        page = browser.new_page()
        page.goto(f"{url}/verified.html", wait_until="networkidle")
        page.close()
    assert asked == ["/verified.html"]


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_without_scripts_the_report_and_its_json_are_read_all_the_same(browser: Browser, folder: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "violated.html").as_uri())
    assert "Violated" in page.locator("#verdict").inner_text()
    assert not page.locator("button").is_visible()
    page.locator("summary").click()
    assert json.loads(page.locator("#audit").inner_text()) == violated()
    context.close()


@every_report
def test_it_prints_and_nothing_is_cut_off_at_the_papers_edge(name: str, show: Callable[..., Page]) -> None:
    page = show(name)
    assert page.pdf(format="A4", prefer_css_page_size=True).startswith(b"%PDF")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": A4_WITHOUT_MARGINS, "height": 900})
    assert page.evaluate(BEYOND_THE_EDGE, "details, .hidden") == []
    assert page.locator("nav").is_hidden()


A4_WITHOUT_MARGINS = int((210 - 2 * 15) * 96 / 25.4)
"""Of `report.html.j2`: 210 mm less 15 mm at each side, in CSS pixels."""
