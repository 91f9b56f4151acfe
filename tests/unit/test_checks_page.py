"""The HTML report in the hands of somebody: keyboard, copying, printing. In a real browser, where there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from scannerdb.checks import html
from scannerdb.finding import Finding, Fix

from tests.browser import Browser
from tests.needs import needs
from tests.unit.test_checks_report import HOSTILE, document_of, runs_of

pytestmark = needs("chromium")

SQL = f"DROP INDEX CONCURRENTLY IF EXISTS public.\"{HOSTILE}\"\n  -- and a second line with 'quotes' & <tags>"
FOCUSED = "document.activeElement.tagName + ' ' + (document.activeElement.textContent || '').trim()"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser that shows a report of two warnings, closed."""
    fix = Fix("index.duplicate", (SQL,), None, "SHARE UPDATE EXCLUSIVE")
    findings = [Finding("index.duplicate", "warning", f"t.{n}", f"Twin number {n}.", {"n": n}, fix) for n in (1, 2)]
    path = tmp_path / "report.html"
    path.write_text(html.as_html(findings, document_of(findings), runs_of(3)), encoding="utf-8")
    with Browser(tmp_path / "profile") as found:
        found.open(path)
        yield found
        assert found.console == []
        assert [url for url in found.requests if not url.startswith(("file:", "data:"))] == []


def test_everything_can_be_reached_and_used_by_keyboard(browser: Browser) -> None:
    browser.press("Tab")
    assert browser.value(FOCUSED) == "A Skip to the findings"
    assert browser.value("document.activeElement.getBoundingClientRect().left") >= 0, "it shows once it has the focus"
    browser.press("Enter")
    assert browser.value("location.hash") == "#findings"
    seen = []
    for _ in range(40):
        browser.press("Tab")
        seen.append(browser.value(FOCUSED))
        if seen[-1].startswith("SUMMARY"):
            break
    assert seen[-1].startswith("SUMMARY Twin number 1."), seen
    assert "BUTTON Open all" in seen
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert browser.value(outline) == "solid", "whoever has the focus can be seen"
    browser.press("Enter")
    assert browser.value("document.querySelector('details').open") is True
    browser.press("Tab")
    assert browser.value(FOCUSED) == "BUTTON Copy"
    browser.press(" ")
    assert browser.value(soon("button[data-copy]", "Copied")) is True


def soon(selector: str, text: str) -> str:
    """A promise that an element says this within a minute."""
    return (
        f"new Promise(done=>{{const end=Date.now()+60000;(function look(){{"
        f"const ok=document.querySelector('{selector}').textContent==='{text}';"
        f"ok||Date.now()>end?done(ok):setTimeout(look,20)}})()}})"
    )


def test_copying_gives_the_very_text(browser: Browser) -> None:
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.click("button[data-all]")
    assert browser.value("document.querySelectorAll('details[open]').length") == 2
    browser.click("button[data-copy]")
    assert browser.value(soon("button[data-copy]", "Copied")) is True
    assert browser.value("navigator.clipboard.readText()") == SQL + ";"


def test_where_nothing_can_be_copied_the_text_is_selected(browser: Browser) -> None:
    browser.value("Object.defineProperty(navigator,'clipboard',{value:undefined});document.execCommand=()=>false;1")
    browser.click("button[data-all]")
    browser.click("button[data-copy]")
    assert browser.value(soon("button[data-copy]", "Press Ctrl+C")) is True
    assert browser.value("getSelection().toString().startsWith('DROP INDEX CONCURRENTLY')") is True


def test_printed_it_is_whole_and_without_buttons(browser: Browser) -> None:
    assert browser.value("document.querySelectorAll('details[open]').length") == 0
    browser.value(
        "window.most=0;addEventListener('beforeprint',()=>{most=document.querySelectorAll('details[open]').length});1"
    )
    assert browser.pdf().startswith(b"%PDF")
    assert browser.value("most") == 2, "what is closed on the screen is printed"
    assert browser.value("document.querySelectorAll('details[open]').length") == 0, "and closed again"
    browser.call("Emulation.setEmulatedMedia", media="print")
    hidden = "[...document.querySelectorAll('button,.skip')].every(e=>getComputedStyle(e).display==='none')"
    assert browser.value(hidden) is True
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


WIDE = "[...document.querySelectorAll('body *')].filter(e=>e.getBoundingClientRect().right>innerWidth+1).length"


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_hangs_over_the_edge(browser: Browser, width: int) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    browser.click("button[data-all]")
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    hidden = "(e=>{for(;e;e=e.parentElement)if(getComputedStyle(e).overflowX!=='visible')return 1})"
    assert browser.value(WIDE.replace(".length", f".filter(e=>!{hidden}(e)).length")) == 0
    charts = "[...document.querySelectorAll('svg')].map(e=>e.getBoundingClientRect()).filter(r=>r.width*r.height>0)"
    assert browser.value(f"{charts}.length") >= 3, "findings, size and tables"


def test_it_is_dark_where_that_is_wished(browser: Browser) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        paint = "getComputedStyle(document.body)"
        said = browser.value(f"{paint}.color + ' ' + {paint}.backgroundColor")
        numbers = [int(n) for n in re.findall(r"\d+", said)]
        seen[scheme] = sum(numbers[:3]) - sum(numbers[3:6])
    assert seen["light"] < -400 < 400 < seen["dark"], "text and paper change places, far apart"
