"""The reports: HTML, JSON, JUnit and SARIF say the same, and hostile names stay text in all of them."""

from __future__ import annotations

import json
import re
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from scannerdb.checks import backups, charts, exports, html, report, since
from scannerdb.checks.registry import KINDS
from scannerdb.finding import SEVERITIES, Finding, Fix, ordered

from tests import sample_report
from tests.needs import needs
from tests.system.needs import browser
from tests.unit.report_support import HOSTILE, document_of, runs_of

ROOT = Path(__file__).resolve().parents[2]


def some_findings(name: str = "plain") -> list[Finding]:
    fix = Fix("index.invalid", (f'REINDEX INDEX "{name}"',), 3, "SHARE UPDATE EXCLUSIVE")
    evidence = {"rows": 3, "bytes": 5 << 20, "query": f"SELECT '{name}'", "list": [name], name: {"a": name}}
    return ordered(
        [
            Finding("index.invalid", "critical", name, f"About {name}.", evidence, fix),
            Finding("data.orphan", "warning", name, f"About {name}.", {}, None, f"Because {name}."),
            Finding("index.unused", "info", name, f"About {name}."),
        ]
    )


def page(name: str = "plain", runs: int = 3) -> str:
    findings = some_findings(name)
    return html.as_html(findings, document_of(findings, name), runs_of(runs))


class Reader(HTMLParser):
    """What a browser makes of a page: its tags in nesting order, its attributes, its text."""

    VOID = frozenset({"meta", "link", "br", "img", "rect", "polygon", "polyline", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_says_what_was_found() -> None:
    read = Reader(page())
    assert read.open == []
    for said in (
        "Critical",
        "Warnings",
        "Informational",
        "About plain.",
        "index.invalid",
        "5.0 MB",
        "118 MB",
        "Suppressed",
    ):
        assert said in read.text, said
    assert 'REINDEX INDEX "plain";' in read.text
    assert "by fix.yml" in read.text and "SHARE UPDATE EXCLUSIVE" in read.text
    assert [t for t, _ in read.tags].count("details") == 3
    assert [a.get("role") for t, a in read.tags if t == "svg"].count("img") == 3, "trend, size, and a bar for the table"


def test_the_page_asks_for_nothing_from_outside() -> None:
    read = Reader(page())
    for tag, attributes in read.tags:
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert not re.search(r"url\((?!#)", page()) and "@import" not in page() and "http" not in html.SCRIPT
    policy = next(a["content"] for t, a in read.tags if t == "meta" and a.get("http-equiv"))
    assert policy and policy.startswith("default-src 'none'") and "script-src 'sha256-" in policy


def shape(text: str) -> list[str]:
    return [tag for tag, _ in Reader(text).tags]


def test_hostile_names_stay_text() -> None:
    assert shape(page(HOSTILE)) == shape(page())
    assert "document.title=" in Reader(page(HOSTILE)).text
    assert not [n for _, a in Reader(page(HOSTILE)).tags for n in a if n.startswith("on")]


@given(st.text(max_size=40))
def test_any_name_stays_text(name: str) -> None:
    assert shape(page(name)) == shape(page())


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_name_stays_text_for_pipelines(name: str) -> None:
    findings = some_findings(name)
    suite = ET.fromstring(exports.as_junit(findings, document_of(findings, name)).encode())
    assert (len(suite.findall("testcase")), len(suite.findall(".//failure"))) == (len(KINDS), 2)
    log = json.loads(exports.as_sarif(findings, document_of(findings, name)))
    assert [r["level"] for r in log["runs"][0]["results"]] == ["error", "warning", "note"]


def test_the_first_run_has_no_trend_yet() -> None:
    assert "the trend begins with the next" in page(runs=1)
    assert "run by run" not in page(runs=1)


@pytest.mark.parametrize(
    ("counts", "tone"), [((1, 0, 0), "critical"), ((0, 2, 1), "warning"), ((0, 0, 4), "good"), ((0, 0, 0), "good")]
)
def test_the_verdict(counts: tuple[int, int, int], tone: str) -> None:
    assert html.verdict_of(dict(zip(SEVERITIES, counts)))[0] == tone


def test_an_empty_report_is_a_page() -> None:
    document = {**document_of([]), "suppressed": [], "tables": [], "database_bytes": None}
    read = Reader(html.as_html([], document, runs_of(1)))
    assert read.open == [] and "All is well." in read.text


def test_the_vacuum_runs_are_shown() -> None:
    run = {"seconds": 2.0, "bytes_before": 3 << 20, "bytes_after": 1 << 20, "max_lock_ms": 31.0}
    runs = [{"at": f"2026-05-{day:02d}T04:00:00Z", **run} for day in range(1, 31)]
    document = {**document_of([]), "vacuum": runs}
    read = Reader(html.as_html([], document, runs_of(1)))
    assert read.open == [] and "2026-05-30 04:00:00 UTC" in read.text and "31 ms" in read.text
    assert "2.0 MB" in read.text and "2026-05-01 04:00:00 UTC" not in read.text, "the table has the last ones"
    assert "| 2026-05-30T04:00:00Z | 2.0 MB | 2.0 s | 31 ms |" in report.as_markdown([], document)
    Draft202012Validator(schema()).validate(json.loads(report.as_json(document)))


def test_many_findings_stay_readable() -> None:
    many = [Finding("index.unused", "info", f"i{n}", f"Number {n}.") for n in range(html.MOST + 7)]
    assert "and 7 more in the JSON report" in html.as_html(many, document_of(many), runs_of(1))


def schema() -> dict[str, Any]:
    return dict(json.loads((ROOT / "docs" / "report.schema.json").read_text()))


def test_the_json_report_is_as_published() -> None:
    Draft202012Validator.check_schema(schema())
    findings = some_findings()
    document = json.loads(report.as_json(document_of(findings)))
    Draft202012Validator(schema()).validate(document)
    pattern = schema()["$defs"]["id"]["pattern"]
    assert [i for i in KINDS if not re.match(pattern, i)] == []


@pytest.mark.parametrize("key", ["findings", "summary", "server", "checked_at", "trend"])
def test_the_schema_misses_what_is_missing(key: str) -> None:
    document = document_of(some_findings())
    del document[key]
    assert not Draft202012Validator(schema()).is_valid(document)


def test_code_in_names_cannot_end_a_block_of_markdown() -> None:
    findings = some_findings("x\n```\n# Not a heading ````")
    text = report.as_markdown(findings, document_of(findings))
    assert "`````sql" in text and text.count("`````") == 2


def browse(tmp_path: Path, text: str, *flags: str) -> str:
    """A page's document after its script ran, in a headless browser."""
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    command = [
        *(str(browser()), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}"),
        *("--enable-logging=stderr", "--v=0", *flags, "--dump-dom", path.as_uri()),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


@needs("chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(tmp_path: Path, width: int) -> None:
    """The script runs (it shows the buttons), nothing hostile does, nothing is too wide, the console stays empty."""
    measured = "document.documentElement.setAttribute('data-wide',document.documentElement.scrollWidth>innerWidth);"
    text = page(HOSTILE + " and-a-very-long-name-" * 9)
    hashed = r"script-src &#x27;sha256-[A-Za-z0-9+/=]+&#x27;"
    allowed = re.sub(hashed, "script-src &#x27;unsafe-inline&#x27;", text)  # only so that we may measure
    assert allowed != text
    dom = browse(
        tmp_path, allowed.replace("</body>", f"<script>{measured}</script></body>"), f"--window-size={width},900"
    )
    assert 'data-wide="false"' in dom
    assert "<title>hit" not in dom
    as_made = browse(tmp_path, text, f"--window-size={width},900")
    assert 'data-copy="" hidden' not in as_made and 'data-copy=""' in as_made, (
        "the page's own policy lets its script run"
    )
    assert "<title>hit" not in as_made


@pytest.mark.parametrize(
    ("first", "last", "labels"),
    [
        ("2026-05-01T04:00:00Z", "2026-05-08T04:00:00Z", ("2026-05-01", "2026-05-08")),
        ("2026-05-01T04:00:00Z", "2026-05-01T16:30:00Z", ("2026-05-01 04:00", "2026-05-01 16:30")),
        ("2026-05-01T04:00:00Z", "2026-05-01T04:00:59Z", ("2026-05-01 04:00",)),
    ],
)
def test_an_axis_never_has_the_same_label_twice(first: str, last: str, labels: tuple[str, ...]) -> None:
    assert charts.ends(first, last) == labels


def test_what_is_new_and_what_is_gone_since_the_last_check(tmp_path: Path) -> None:
    before, now = some_findings("old"), [*some_findings("old")[:2], *some_findings("new")[2:]]
    assert since.difference(since.read_last(str(tmp_path), "db"), before) == {}, "nothing to compare with"
    assert since.keep(str(tmp_path), "db", "2026-05-01T04:00:00Z", before) == ""
    assert since.read_last(str(tmp_path), "another") == {}
    found = since.difference(since.read_last(str(tmp_path), "db"), now)
    assert found["at"] == "2026-05-01T04:00:00Z"
    assert [f["object"] for f in found["new"]] == ["new"] and [f["object"] for f in found["gone"]] == ["old"]
    (tmp_path / since.NAME).write_text('{"database": "db", "findings": [1]')
    assert since.read_last(str(tmp_path), "db") == {}, "torn"
    told = "\n".join(since.as_markdown(found, str))
    assert "New: 1" in told and "- info: About new." in told and "Gone: 1" in told


def test_a_report_of_the_whole_of_it_fits_its_schema_and_says_it_in_markdown() -> None:
    document = sample_report.document()
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text())
    Draft202012Validator(schema).validate(json.loads(report.as_json(document)))
    text = report.as_markdown(sample_report.found(), document)
    for said in (
        "## Gauges",
        "| connections | 42.3 % | 41 of 97 | 80 % |",
        "## Backups",
        "Proven restorable: ",
        "Gone: 1",
    ):
        assert said in text, text


def test_hostile_names_stay_text_in_what_is_new_and_in_backups() -> None:
    findings = some_findings(HOSTILE + "\x07")
    last = {"at": "2026-05-01T04:00:00Z", "findings": []}
    kept = sample_report.document()["backups"]
    more = {"since": since.difference(last, findings), "backups": {**kept, "dir": HOSTILE + "\x07"}}
    made = html.as_html(findings, {**document_of(findings), **more}, runs_of(3))
    assert [tag for tag, _ in Reader(made).tags].count("img") == 0 and "\x07" not in made


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"why": "no"}, "could not be looked at: no"),
        ({"sets": []}, "There is none in"),
        ({"proven": {}}, "None was proven by a restore"),
    ],
)
def test_backups_are_said_with_their_proof_or_the_want_of_it(change: dict[str, Any], said: str) -> None:
    assert said in backups.as_html({**sample_report.document()["backups"], **change})
