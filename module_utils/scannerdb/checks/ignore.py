"""Suppressions: findings a site has decided not to hear about, with a reason and an end. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput, quoted
from ..finding import Finding, matches
from ..nearest import nearest


@dataclass(frozen=True)
class Ignore:
    """One suppression; `id` and `object` may be globs. After `until` (a date) it no longer holds."""

    id: str
    object: str
    reason: str
    until: datetime.date | None = None


def parse_ignores(items: Sequence[Mapping[str, Any]]) -> list[Ignore]:
    """Out of `scannerdb_check_ignore`; raises `InvalidInput` where an entry has no id, no reason or no real date."""
    ignores = []
    for item in items:
        if not isinstance(item, Mapping) or not item.get("id") or not item.get("reason"):
            raise InvalidInput(
                f"scannerdb_check_ignore: an entry needs an id and a reason, not {item!r}.",
                "For example {id: index.unused, object: 'models.*', reason: used once a year, until: 2026-12-31}.",
            )
        until = item.get("until")
        try:
            day = datetime.date.fromisoformat(str(until)) if until else None
        except ValueError:
            raise InvalidInput(f"scannerdb_check_ignore: {until!r} is not a date.", "Write 2026-12-31.") from None
        ignores.append(Ignore(str(item["id"]), str(item.get("object") or "*"), str(item["reason"]), day))
    return ignores


def unknown_ids(ignores: Sequence[Ignore], known: Iterable[str]) -> list[str]:
    """A sentence for each id to ignore that no finding has, with the nearest one that there is."""
    ids = sorted(known)
    said = []
    for one in ignores:
        if not any(matches(known_id, [one.id]) for known_id in ids):
            said.append(f"scannerdb_check_ignore: no finding has the id {quoted(one.id)}{nearest(one.id, ids)}")
    return said


def split(
    findings: Sequence[Finding], ignores: Sequence[Ignore], today: datetime.date
) -> tuple[list[Finding], list[dict[str, str]]]:
    """The findings that count, and the suppressed ones with the reason."""
    kept: list[Finding] = []
    suppressed: list[dict[str, str]] = []
    for finding in findings:
        why = next((i for i in ignores if _holds(i, finding, today)), None)
        if why is None:
            kept.append(finding)
        else:
            until = why.until.isoformat() if why.until else ""
            suppressed.append({"id": finding.id, "object": finding.object, "reason": why.reason, "until": until})
    return kept, suppressed


def _holds(ignore: Ignore, finding: Finding, today: datetime.date) -> bool:
    in_time = ignore.until is None or today <= ignore.until
    return in_time and matches(finding.id, [ignore.id]) and matches(finding.object, [ignore.object])
