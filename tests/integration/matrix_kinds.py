"""The kinds of objects and names that a backup has to bring back.

The files in tests/fixtures/matrix have them: a line `-- kind`, and its statements, one on each line, which run by
themselves in a schema `{s}` of their own. The kinds of one file share a database. Roles are those of `ROLES`.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "matrix"
GROUPS = ("relations", "constraints", "programs")
ROLES = ("mx_owner", "mx_reader", "mx_other")
NAMES = [
    'we"ird',
    "a=b",
    "new\nline",
    "tab\tand back\\slash",
    "Grüße 表",
    "select",
    "{it}",
    "%I %s",
    "x" * 63,
    "a; DROP TABLE b; --",
    " lead",
    "it's",
    "$1",
    "a.b",
    "A",
    "-- comment",
    "/* open",
    "ß" * 31,
]


def kinds_of(group: str) -> dict[str, list[str]]:
    """The kinds of a group and their statements."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / f"{group}.sql").read_text(encoding="utf-8").splitlines():
        if line.startswith("-- "):
            statements = found.setdefault(line[3:], [])
        elif line:
            statements.append(line)
    return found
