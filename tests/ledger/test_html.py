"""The HTML report as text: it shows what the audit's document says, and nothing in the document can harm its reader."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ledger.audit.html import render
from ledger.audit.report import plain
from ledger.figures import MOST_SHOWN, figures
from ledger.manifest import Score
from tests.documents import (
    BEGINNING,
    CHECKS,
    Json,
    document,
    finding,
    hostile,
    incomplete,
    private,
    scored,
    unreadable,
    violated,
)

ROOT = Path(__file__).resolve().parents[2]
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Elements and text of a page; every element is closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            self.texts.setdefault(tag, []).append(data)

    def text(self, tag: str) -> str:
        return "".join(self.texts[tag])

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def embedded(page: str) -> Any:
    return json.loads(page.split('<script type="application/json" id="audit">')[1].split("</script>")[0])


DOCUMENTS: dict[str, Callable[[], Json]] = {
    "verified": document,
    "violated": violated,
    "incomplete": incomplete,
    "unreadable": unreadable,
    "hostile": hostile,
    "private": private,
    "scored": scored,
    "empty": lambda: document(0, 0),
    "small": lambda: document(1, 1),
}
every_document = pytest.mark.parametrize("name", DOCUMENTS)


@cache
def page_of(name: str) -> str:
    return render(DOCUMENTS[name]())


@every_document
def test_the_page_is_well_formed_and_shows_verdict_checks_and_every_finding(name: str) -> None:
    audit = DOCUMENTS[name]()
    page = Page(page_of(name))
    assert audit["verdict"].capitalize() in page.text("title")
    main = " ".join(page.text("main").split())
    shown = [check["summary"] for check in audit["checks"]]
    shown += [one["text"] for check in audit["checks"] for one in check["findings"]]
    for text in shown:
        assert " ".join(plain(text).split()) in main


@every_document
def test_the_document_is_embedded_as_it_is(name: str) -> None:
    audit = DOCUMENTS[name]()
    assert embedded(page_of(name)) == audit


@every_document
def test_no_id_occurs_twice_and_every_link_leads_somewhere(name: str) -> None:
    page = Page(page_of(name))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [(attributes.get("href") or "") for tag, attributes in page.elements if tag in ("a", "use")]
    named = [attributes.get("aria-labelledby") for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert {link.removeprefix("#") for link in links} | set(named) <= set(ids)


@every_document
def test_headings_come_in_order_under_one_title(name: str) -> None:
    levels = [int(tag[1]) for tag, _ in Page(page_of(name)).elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@every_document
def test_nothing_is_fetched_and_only_the_hashed_style_and_script_are_allowed(name: str) -> None:
    text = page_of(name)
    page = Page(text)
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    styles, scripts = re.findall(r"<style>(.*?)</style>", text, re.S), re.findall(r"<script>(.*?)</script>", text, re.S)
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in styles + scripts]
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert [one.get("type") for one in page.all("script")] == ["application/json", None]
    for tag, attributes in page.elements:
        assert tag in ALLOWED
        assert not {"style", "src", "srcset", "action"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))


ALLOWED = {
    *("html", "head", "meta", "title", "link", "style", "body", "header", "nav", "main", "section", "footer", "div"),
    *("p", "h1", "h2", "h3", "ul", "ol", "li", "dl", "dt", "dd", "a", "span", "strong", "code", "bdi", "br", "time"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "button", "details", "summary"),
    *("script", "svg", "g", "defs", "path", "use", "text", "clippath", "rect"),
}


def test_hostile_names_are_shown_and_do_nothing() -> None:
    text = page_of("hostile")
    page = Page(text)
    assert "parent.harmed" in page.text("main")
    assert "\\u202eyraM" in page.text("main")
    assert "first\\nsecond\\r\\n\\x00third" in page.text("main")
    assert "x" * 199 + "…" in page.text("main")
    assert "x" * 200 not in text.split('<script type="application/json"')[0]
    assert {char for char in text if not char.isprintable()} == {"\n"}


def test_a_finding_shows_all_its_evidence_and_nothing_that_is_not_given() -> None:
    evidence = {
        "round": 7301,
        "member": {"id": 7302, "name": "Basel", "account": "0x7303"},
        "cid": "bafy7304",
        "entry": 7305,
        "block": 7306,
        "expected": "e7307",
        "found": "f7308",
        "by": "the aggregator 7309",
    }
    for given in ([], *([name] for name in evidence), list(evidence)):
        found = finding("violated", "it differs", **{name: evidence[name] for name in given})
        text = render(document(0, 0, {"settlement": [found]}))
        shown = text.split('id="finding-8-1"')[1].split("</li>")[0]
        assert re.findall("73[0-9]{2}", shown) == re.findall("73[0-9]{2}", json.dumps([evidence[n] for n in given]))
        assert ("<dl>" in shown) == bool(given)


def test_every_check_says_what_it_proves_on_whose_word_and_what_it_leaves_open() -> None:
    page = Page(render(document()))
    for texts in CHECKS.values():
        for text in texts:
            assert text in page.text("dd")


def test_the_matrix_tells_counted_excluded_recorded_absent_and_not_eligible_apart_in_words() -> None:
    update = {"cid": "bafy", "at": BEGINNING, "relayed": False, "reason": None, "weight": None}
    audit = document(1, 5)
    audit["timeline"][0]["eligible"] = [1, 2, 3, 4]
    audit["timeline"][0]["updates"] = [
        {**update, "member": 1, "outcome": "counted", "weight": 1303},
        {**update, "member": 2, "outcome": "excluded", "reason": "malformed"},
        {**update, "member": 3, "outcome": "recorded"},
    ]
    table = render(audit).split('<table class="matrix">')[1].split("</table>")[0]
    cells = ["".join(Page(cell).texts["td"]) for cell in re.findall("<td.*?</td>", table)]
    assert cells == ["✓ 1,303", "✗ malformed", "○ recorded", "– absent", "· not eligible"]


def test_the_matrix_has_ten_rounds_in_a_table_so_that_it_fits_paper() -> None:
    captions = re.findall("<caption>(Rounds? .*?)</caption>", render(document(23, 3)))
    assert captions == ["Rounds 1 to 10", "Rounds 11 to 20", "Rounds 21 to 23"]


def test_what_it_rests_on_and_what_it_leaves_open_stand_on_top() -> None:
    audit = incomplete()
    head = Page(render(audit).split("</header>")[0] + "</header></body></html>").text("header")
    assert audit["head"] in head
    assert audit["rests_on"][0]["text"] in head
    assert audit["scope"]["left_open"] in head
    assert "3–7, 11" in head
    assert audit["scope"]["since"] in head
    assert audit["checks"][5]["findings"][0]["text"] in head


def test_times_are_utc_and_a_time_that_no_calendar_has_is_a_number_of_seconds() -> None:
    audit = document(1, 1)
    audit["timeline"][0]["deadline"] = 2**64 - 1
    text = render(audit)
    assert '<time datetime="2026-09-21T14:13:20Z"><span>2026-09-21</span> <span>14:13:20</span></time>' in text
    assert f"second {2**64 - 1}" in text


def test_what_there_is_nothing_of_has_no_plot() -> None:
    assert len(Page(render(document())).all("svg")) == 4
    assert len(Page(render(document(0, 4))).all("svg")) == 0
    audit = document()
    for one in audit["timeline"]:
        one |= {"quality": None, "gas": None, "bytes": None}
        one["updates"] = [{**update, "weight": None} for update in one["updates"]]
    assert [one["aria-label"] for one in Page(render(audit)).all("svg")] == [
        "Timeline of 20 rounds; the table below has the same times."
    ]


def test_privacy_is_told_where_plans_are_private_with_whose_word_it_rests_on() -> None:
    assert 'id="privacy"' not in render(document())
    page = Page(render(private()))
    labels = [one["aria-label"] for one in page.all("svg")]
    assert "Epsilon by round and site; the table below has the same values." in labels
    words = page.text("main")
    assert "is that site's word: no audit proves it" in words
    assert {"1.100", "unlimited", "unknown"} <= set(page.texts["td"])
    assert "not computed: dp-accounting was not installed" in words
    assert page.text("svg").count("budget") == 1


def test_how_models_fared_is_told_where_sites_say_it_by_model_and_as_their_own_words() -> None:
    assert 'id="fared"' not in render(document())
    audit = scored(9, 4)
    page = Page(render(audit))
    words = " ".join(page.text("section").split())
    assert "These are the sites' own words: no audit computes them again." in words
    labels = [one["aria-label"] for one in page.all("svg")]
    for metric in ("auc", "loss"):
        assert f"{metric} by model and site; the tables below have the figures." in labels
    assert "worst: 3  Switzerland" in page.text("svg")
    last = [one for one in audit["timeline"] if one["scores"]][-1]
    figure = last["scores"]["figures"]["loss"]
    assert f"of round {last['base_round']}" in page.texts["th"]
    assert {f"{figure['mean']:.4g}", f"{figure['spread']:.4g}", f"{figure['deviation']:.4g}"} <= set(page.texts["td"])
    assert f"worst: {figure['worst']['value']:.4g}" in page.texts["strong"]
    assert figure["worst"]["value"] == max(site["metrics"]["loss"] for site in last["scores"]["sites"].values())


def test_whose_eyes_sealed_scores_are_for_is_said_where_the_page_has_some() -> None:
    audit = scored(9, 4)
    warning = "they are not for everybody, and whoever has this page can read them"
    assert warning in render(audit)
    for one in audit["timeline"]:
        if one["scores"]:
            one["scores"]["sealed"] = False
    assert warning not in render(audit)


def test_who_was_filtered_is_told_whether_its_scores_can_be_read_or_not() -> None:
    audit = scored(20, 4)
    filtered = [one["round"] for one in audit["timeline"] for row in one["updates"] if row["reason"] == "filtered"]
    known = {
        one["round"]: one["scores"]["sites"]["2"]["norm"]
        for one in audit["timeline"]
        if one["scores"] and one["round"] in filtered
    }
    assert filtered
    assert set(filtered) - known.keys()
    table = render(audit).split('aria-label="Filtered updates"')[1].split("</table>")[0]
    norms = [re.findall('<td class="n">(.*?)</td>', row)[0] for row in table.split("<tr>")[2:]]
    assert norms == [f"{known[number]:.4g}" if number in known else "–" for number in filtered]


def test_of_many_metrics_those_that_most_sites_say_are_shown_and_the_rest_is_counted() -> None:
    audit = scored(5, 4)
    scores = {member: Score(metrics={"auc": 0.5} | {f"own {member} {at}": 1.0 for at in range(9)}) for member in (1, 2)}
    for one in audit["timeline"]:
        one["scores"] = one["scores"] and {
            "sealed": False,
            "sites": {str(member): score.model_dump(mode="json") for member, score in scores.items()},
            "figures": {metric: figure.document() for metric, figure in figures(scores).items()},
        }
    text = render(audit)
    assert text.count("by model and site, as the sites say.") == MOST_SHOWN
    assert f"the JSON has {19 - MOST_SHOWN} more" in text
    assert "auc by model and site, as the sites say." in text


def test_fifty_rounds_of_twenty_sites_are_under_two_megabytes() -> None:
    assert len(render(document(50, 20)).encode()) < 2_000_000
    assert len(render(scored(50, 20)).encode()) < 2_000_000


def test_the_same_document_gives_the_same_bytes_in_another_process() -> None:
    program = (
        "import hashlib; from tests.documents import violated; from ledger.audit.html import render; "
        "print(hashlib.sha256(render(violated()).encode()).hexdigest())"
    )
    output = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stdout.strip() == hashlib.sha256(render(violated()).encode()).hexdigest()


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_without_its_extra_the_report_says_what_to_install(package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; import ledger.audit.html"
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert output.stderr.splitlines()[-1] == (
        "ledger.errors.UsageError: the HTML report needs a package that is not installed "
        f"({package}): pip install 'fedledger[report]'"
    )
