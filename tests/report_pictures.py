"""A report as people see it: narrow and wide, light, dark and printed. `python -m tests.report_pictures docs` keeps
the pictures of docs/check.md."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, sync_playwright

from tests.system.needs import browser


@dataclass(frozen=True)
class Face:
    """One way to look at the report."""

    name: str
    width: int
    scheme: Literal["light", "dark"]
    media: Literal["screen", "print"] = "screen"


FACES = (
    Face("report-390-light", 390, "light"),
    Face("report-390-dark", 390, "dark"),
    Face("report-1280-light", 1280, "light"),
    Face("report-1280-dark", 1280, "dark"),
    Face("report-1280-print", 1280, "light", "print"),
    Face("report-390-print", 390, "light", "print"),
)
HEIGHTS = {390: 844, 1280: 1000}


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium; nothing is downloaded."""
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=str(browser()), args=["--no-sandbox", "--disable-gpu"])
        try:
            yield found
        finally:
            found.close()


@contextlib.contextmanager
def shown(found: Browser, report: Path, face: Face) -> Iterator[Page]:
    """The report as that face shows it."""
    context = found.new_context(viewport={"width": face.width, "height": HEIGHTS[face.width]}, color_scheme=face.scheme)
    try:
        page = context.new_page()
        page.emulate_media(media=face.media)
        page.goto(report.as_uri())
        yield page
    finally:
        context.close()


def report_of(folder: Path) -> Path:
    """A report with something of everything."""
    from tests.sample_report import sample

    path = folder / "report.html"
    path.write_text(sample(), encoding="utf-8")
    return path


def main(target: str) -> None:
    """Keep a picture of each face."""
    with tempfile.TemporaryDirectory() as folder, chromium() as found:
        report = report_of(Path(folder))
        for face in FACES:
            with shown(found, report, face) as page:
                options: dict[str, Any] = {"path": Path(target, f"{face.name}.png"), "scale": "css"}
                page.screenshot(**options)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))
    main(sys.argv[1])
