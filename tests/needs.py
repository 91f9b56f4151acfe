"""How a test says what it needs: the one way to leave a test out, or to fail where nothing may be left out.

    @needs("age", "rclone")                  # tests/system/needs.py has the names
    def test_…

    @pytest.mark.pg(17)                      # the server's version does not matter: on 17, or what --pg asks for
    @pytest.mark.pg(15, 17, always=True)     # it does matter: on these only

In a fixture, which learns it by trying: `lack("mounting", "mount: permission denied")`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import pytest

from tests.system import absences
from tests.system.needs import BY_NAME, NEXT, release, required

needs = pytest.mark.needs
# What is tested on the next version of PostgreSQL unless it is asked for with --pg: a part that stands for the rest.
ON_NEXT = (
    "integration/check/test_check.py",
    "integration/fix/test_fix_undo.py",
    "integration/matrix/test_matrix_objects.py",
    "integration/restore/test_restore_damaged.py",
    "integration/vacuum/test_vacuum_job.py",
    "security/test_reads.py",
)
WORDS = "NOT TESTED, for want of "


def lack(name: str, why: str = "not installed") -> NoReturn:
    """Leave this test out; a failure where everything is required and the thing can be had."""
    need = BY_NAME[name]
    text = f"{WORDS}{name}: {why}; {need.remedy(release())}"
    if required() and not need.lawful(release()):
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def check(item: pytest.Item) -> None:
    """Leave a test out whose marks name something that is absent."""
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            if not BY_NAME[name].found():
                lack(name)


def fits(item: pytest.Item, asked: Iterable[int]) -> bool:
    """Whether a test is meant for the version of PostgreSQL that it was given."""
    mark = item.get_closest_marker("pg")
    version = item.callspec.params.get("server") if hasattr(item, "callspec") else None
    if version == NEXT and not asked and not (mark and NEXT in mark.args) and not _on_next(item):
        return False
    if mark is None or version is None:
        return True
    return version in mark.args or (not mark.kwargs.get("always") and version in asked)


def _on_next(item: pytest.Item) -> bool:
    return item.nodeid.partition("::")[0].removeprefix("tests/") in ON_NEXT


def note(reports: Iterable[pytest.TestReport]) -> None:
    """Write down for the end of `make test` what these tests were left out for."""
    told: Counter[tuple[str, str]] = Counter()
    for report in reports:
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        name, _, rest = text.removeprefix("Skipped: ").removeprefix(WORDS).partition(": ")
        if name in BY_NAME:
            told[name, rest.partition("; ")[0]] += 1
    for (name, why), count in told.items():
        absences.note(name, why, count)
