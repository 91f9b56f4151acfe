"""The HTML report in the hands of somebody: keyboard, copying, printing, each way to look at it. In a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from scannerdb.checks import html
from scannerdb.finding import Finding, Fix

from tests.needs import needs
from tests.report_pictures import FACES, HEIGHTS, Face, chromium, report_of, shown
from tests.unit.report_support import HOSTILE, document_of, runs_of

pytestmark = needs("chromium")

SQL = f"DROP INDEX CONCURRENTLY IF EXISTS public.\"{HOSTILE}\"\n  -- and a second line with 'quotes' & <tags>"
FOCUSED = "document.activeElement.tagName + ' ' + (document.activeElement.textContent || '').trim()"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A report of two warnings, closed; it says nothing on the console, and asks for nothing."""
    fix = Fix("index.duplicate", (SQL,), None, "SHARE UPDATE EXCLUSIVE")
    findings = [Finding("index.duplicate", "warning", f"t.{n}", f"Twin number {n}.", {"n": n}, fix) for n in (1, 2)]
    path = tmp_path / "report.html"
    path.write_text(html.as_html(findings, document_of(findings), runs_of(3)), encoding="utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    found = context.new_page()
    found.on("console", lambda message: said.append(message.text))
    found.on("pageerror", lambda error: said.append(str(error)))
    found.on("request", lambda request: asked.append(request.url))
    found.goto(path.as_uri())
    yield found
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_everything_can_be_reached_and_used_by_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "A Skip to the findings"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0, "it shows once it has the focus"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#findings"
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUSED))
        if seen[-1].startswith("SUMMARY"):
            break
    assert seen[-1].startswith("SUMMARY Twin number 1."), seen
    assert "BUTTON Open all" in seen
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid", "whoever has the focus can be seen"
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open") is True
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "BUTTON Copy"
    page.keyboard.press(" ")
    page.get_by_role("button", name="Copied").first.wait_for()


def test_copying_gives_the_very_text(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("button[data-all]").first.click()
    assert page.locator("details[open]").count() == 2
    page.locator("button[data-copy]").first.click()
    page.get_by_role("button", name="Copied").first.wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == SQL + ";"


def test_where_nothing_can_be_copied_the_text_is_selected(page: Page) -> None:
    page.evaluate("Object.defineProperty(navigator,'clipboard',{value:undefined});document.execCommand=()=>false;1")
    page.locator("button[data-all]").first.click()
    page.locator("button[data-copy]").first.click()
    page.get_by_role("button", name="Press Ctrl+C").first.wait_for()
    assert page.evaluate("getSelection().toString().startsWith('DROP INDEX CONCURRENTLY')") is True


def test_printed_it_is_whole_and_without_buttons(page: Page) -> None:
    assert page.locator("details[open]").count() == 0
    page.evaluate(
        "window.most=0;addEventListener('beforeprint',()=>{most=document.querySelectorAll('details[open]').length});1"
    )
    assert page.pdf().startswith(b"%PDF")
    assert page.evaluate("most") == 2, "what is closed on the screen is printed"
    assert page.locator("details[open]").count() == 0, "and closed again"
    page.emulate_media(media="print")
    hidden = "[...document.querySelectorAll('button,.skip')].every(e=>getComputedStyle(e).display==='none')"
    assert page.evaluate(hidden) is True
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_of(tmp_path_factory.mktemp("whole"))


# What hangs over the edge, but for what scrolls in a box of its own.
WIDE = """
[...document.querySelectorAll('body *')].filter(e=>e.getBoundingClientRect().right>innerWidth+1)
 .filter(e=>{for(;e;e=e.parentElement)if(getComputedStyle(e).overflowX!=='visible')return 0;return 1})
 .map(e=>e.outerHTML.slice(0,80))
"""
# Texts of the page that lie on each other, by the boxes of their words.
OVERLAPS = """
(()=>{const all=[...document.querySelectorAll('.plot span,.key li,.tile span,.tile b,.sizes dt,.sizes .n,th,h2')]
 .map(e=>[e,e.getBoundingClientRect()]).filter(([e,r])=>r.width*r.height>0),bad=[];
 for(let i=0;i<all.length;i++)for(let j=i+1;j<all.length;j++){const [a,p]=all[i],[b,q]=all[j];
  if(a.contains(b)||b.contains(a))continue;
  if(Math.min(p.right,q.right)-Math.max(p.left,q.left)>1&&Math.min(p.bottom,q.bottom)-Math.max(p.top,q.top)>1)
   bad.push(a.textContent+' | '+b.textContent)}
 return bad})()
"""
# The contrast of each small text with what it stands on (WCAG 2: 4.5 for small text).
CONTRAST = """
(()=>{const lum=c=>{const v=c.map(x=>{x/=255;return x<=.03928?x/12.92:((x+.055)/1.055)**2.4});
  return .2126*v[0]+.7152*v[1]+.0722*v[2]};
 const rgba=t=>t.match(/[\\d.]+/g).map(Number);
 const under=e=>{for(;e;e=e.parentElement){const c=rgba(getComputedStyle(e).backgroundColor);if(c[3]!==0)return c}
  return [255,255,255]};
 return [...document.querySelectorAll('.soft,.n,.axis span,.ends span,.key li,th,.tile span,.count,summary code')]
  .filter(e=>e.textContent.trim()&&e.getBoundingClientRect().width>0).map(e=>{
   const a=lum(rgba(getComputedStyle(e).color).slice(0,3)),b=lum(under(e).slice(0,3));
   return [(Math.max(a,b)+.05)/(Math.min(a,b)+.05),e.textContent.slice(0,30)]})
  .filter(([c])=>c<4.5)})()
"""


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_it_can_be_read_however_it_is_looked_at(browser: Browser, whole: Path, face: Face) -> None:
    with shown(browser, whole, face) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= face.width
        assert page.evaluate(WIDE) == []
        assert page.evaluate(OVERLAPS) == []
        assert page.evaluate(CONTRAST) == []
        charts = (
            "[...document.querySelectorAll('.plot')].map(e=>e.getBoundingClientRect()).filter(r=>r.width*r.height>0)"
        )
        assert page.evaluate(f"{charts}.length") == 3, "findings, size and what vacuum gave back"
        for text in ("Since the last check", "Gauges", "Backups", "scanner-eu"):
            assert page.get_by_text(text).first.is_visible(), text
        paint = page.evaluate(
            "getComputedStyle(document.body).color+' '+getComputedStyle(document.body).backgroundColor"
        )
        numbers = [int(n) for n in re.findall(r"\d+", paint)]
        lighter = sum(numbers[:3]) - sum(numbers[3:6])
        assert lighter > 400 if face.scheme == "dark" else lighter < -400, "text and paper, far apart"
        assert page.screenshot().startswith(b"\x89PNG")


def test_in_print_the_parts_of_a_chart_are_told_apart_without_colour(browser: Browser, whole: Path) -> None:
    """Each part and its mark in the legend have a filling of their own, drawn: backgrounds are not printed."""
    fills = "[...document.querySelectorAll('{}')].map(e=>getComputedStyle(e).fill)"
    with shown(browser, whole, next(face for face in FACES if face.media == "print")) as page:
        for kinds in (("f-critical", "f-warning", "f-info"), ("f-bar", "f-bar2")):
            found = [set(page.evaluate(fills.format(f".{kind}"))) for kind in kinds]
            assert all(len(one) == 1 for one in found), kinds
            assert len(set.union(*found)) == len(kinds)
            assert sum("url(" not in one for fill in found for one in fill) == 1, (
                "one is whole, the others have a pattern"
            )
            marks = [set(page.evaluate(fills.format(f".key .{kind}"))) for kind in kinds]
            assert marks == found, "the legend shows what the chart shows"


def test_the_pictures_of_the_documentation_are_small_and_of_every_face() -> None:
    for face in FACES:
        path = ROOT / "docs" / f"{face.name}.png"
        head = path.read_bytes()[:24]
        assert (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")) == (
            face.width,
            HEIGHTS[face.width],
        )
        assert path.stat().st_size < 200_000, path
        assert path.name in (ROOT / "docs" / "check.md").read_text()
