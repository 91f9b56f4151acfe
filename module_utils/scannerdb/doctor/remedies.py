"""What is to be typed against what the check finds, so that the finding is gone afterwards. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..finding import Finding
from .diagnosis import Diagnosis, fine, wrong

PERFORMANCE = ("table.", "index.", "schema.index")
TROUBLE_ROWS = 1000  # fewer dead rows slow nothing down; the next vacuum takes them
CONSENT = re.compile(r"it needs consent: (scannerdb_\w+=true)")
REPORTED = re.compile(r"(scannerdb_fix_\w+) is report")
OTHER_JOB = re.compile(r"(\w+\.yml) repairs it(?: with (scannerdb_\w+=\w+))?")
EXCLUSIVE = "scannerdb_vacuum_allow_exclusive=true"  # what pg_repack does without; it stops a table's writers
CHOICES = {"scannerdb_fix_dates": "evidence"}  # the others are `unverify`
RIGHTS = "schema.privilege.missing"
BY_HAND = "by hand, as the report of playbooks/check.yml says"
SHOWN = 3


def diagnoses(findings: Sequence[Finding], skipped: Sequence[Mapping[str, Any]]) -> Iterator[Diagnosis]:
    """Rights that the application lacks; inconsistent data and a broken view; missing indexes, dead rows and bloat.

    `skipped` is what a fix with the site's policy would leave, each with its `why`.
    """
    left = {(item["id"], item["object"]): str(item["why"]) for item in skipped}
    severe = [finding for finding in findings if finding.severity != "info" and not _harmless(finding)]
    yield _rights([finding for finding in severe if finding.id == RIGHTS], left)
    severe = [finding for finding in severe if finding.id != RIGHTS]
    slow = [finding for finding in severe if finding.id.startswith(PERFORMANCE)]
    for cause, group in (("consistency", [f for f in severe if f not in slow]), ("performance", slow)):
        if not group:
            yield fine(cause, "The check finds nothing.")
            continue
        more = f" And {len(group) - SHOWN} more." if len(group) > SHOWN else ""
        yield wrong(cause, " ".join(finding.message for finding in group[:SHOWN]) + more, _hint(group, left))


def _rights(lacking: Sequence[Finding], left: Mapping[tuple[str, str], str]) -> Diagnosis:
    """What the application and other roles of the contract may not do, and what its programs say then."""
    if not lacking:
        return fine("application", "Its role may do what the contract gives it.")
    more = f" And {len(lacking) - SHOWN} more." if len(lacking) > SHOWN else ""
    told = " ".join(finding.message for finding in lacking[:SHOWN])
    absent = [finding for finding in lacking if finding.object.startswith("role ")]
    if absent:
        return wrong(
            "application", f"{told}{more}", "Run playbooks/deploy.yml: it makes the role, and grants what it needs."
        )
    creates = any("CREATE" in finding.evidence.get("privileges", ()) for finding in lacking)
    why = " Its programs make tables at every start, and stop where they may not." if creates else ""
    message = f'{told}{more} Its programs end with "permission denied" there.{why}'
    return wrong("application", message, _hint(lacking, left))


def _harmless(finding: Finding) -> bool:
    return finding.id == "table.dead_tuples" and int(finding.evidence.get("dead", TROUBLE_ROWS)) < TROUBLE_ROWS


def _hint(group: Sequence[Finding], left: Mapping[tuple[str, str], str]) -> str:
    """Everything that is to be typed, each with the objects that it is for; what repairs most comes first."""
    objects: dict[str, list[str]] = {}
    for finding in group:
        objects.setdefault(remedy(left.get((finding.id, finding.object))), []).append(finding.object)
    order = sorted(objects, key=lambda what: (what == BY_HAND, -len(objects[what])))
    parts = [f"{what} ({', '.join(dict.fromkeys(objects[what]))})" for what in order]
    return f"Run {'; '.join(parts)}." if order[0] != BY_HAND else f"Repair it {'; '.join(parts)}."


def remedy(why: str | None) -> str:
    """What repairs a finding that a fix leaves for this reason; without one, the fix itself."""
    if why is None:
        return "playbooks/fix.yml"
    consent, reported, other = CONSENT.search(why), REPORTED.search(why), OTHER_JOB.search(why)
    if consent:
        return f"playbooks/fix.yml -e {consent[1]}"
    if reported:
        return f"playbooks/fix.yml -e {reported[1]}={CHOICES.get(reported[1], 'unverify')}"
    if other:
        asked = [other[2], EXCLUSIVE if EXCLUSIVE in why else ""]
        return " -e ".join([f"playbooks/{other[1]}", *filter(None, asked)])
    return BY_HAND
