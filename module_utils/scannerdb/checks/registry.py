"""Every finding the bundle knows: id, severity, what it means, what repairs it. docs/checks.md is made from this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..finding import Finding, Fix
from .entries_database import DATABASE
from .entries_server import SERVER
from .entry import BY_FIX, BY_HAND, BY_VACUUM, CheckEntry

__all__ = ["BY_FIX", "BY_HAND", "BY_VACUUM", "ENTRIES", "CheckEntry", "by_hand", "finding"]


def _entries(*entries: CheckEntry) -> dict[str, CheckEntry]:
    return {entry.id: entry for entry in entries}


ENTRIES: dict[str, CheckEntry] = _entries(
    CheckEntry(
        "schema.table.missing",
        "critical",
        "A table of the contract does not exist.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE on the tables it references",
    ),
    CheckEntry(
        "schema.table.unexpected", "info", "A table the contract does not know. Normal; declare it to have it checked."
    ),
    CheckEntry(
        "schema.column.missing", "critical", "A column of the contract does not exist.", BY_FIX, lock="ACCESS EXCLUSIVE"
    ),
    CheckEntry(
        "schema.column.unexpected",
        "info",
        "A column the contract does not know. Normal; declare it to have it checked.",
    ),
    CheckEntry(
        "schema.column.type",
        "critical",
        "A column has another type. Changing it rewrites the table: plan that.",
        how="ALTER COLUMN … TYPE in a window, or allow the type in the overlay.",
        lock="ACCESS EXCLUSIVE, rewrites the table",
    ),
    CheckEntry(
        "schema.column.default", "warning", "A column has another default, or none.", BY_FIX, lock="ACCESS EXCLUSIVE"
    ),
    CheckEntry(
        "schema.column.nullable",
        "critical",
        "A column allows NULL though it must not (or the other way round, without a default).",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
    ),
    CheckEntry(
        "schema.primary_key.missing", "critical", "A table has no primary key.", BY_FIX, lock="ACCESS EXCLUSIVE"
    ),
    CheckEntry(
        "schema.foreign_key.missing",
        "critical",
        "A foreign key is missing, so orphans can appear.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE",
    ),
    CheckEntry(
        "schema.foreign_key.on_delete",
        "warning",
        "A foreign key has another ON DELETE rule; the old layout kept results of deleted models.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
    ),
    CheckEntry(
        "schema.foreign_key.not_enforced",
        "critical",
        "A foreign key is NOT ENFORCED (PostgreSQL 18), so orphans can appear.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
    ),
    CheckEntry(
        "schema.foreign_key.rules",
        "warning",
        "A foreign key differs in ON UPDATE, MATCH or DEFERRABLE. Replaced only with consent.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
    ),
    CheckEntry(
        "schema.foreign_key.not_valid",
        "warning",
        "A foreign key was never checked against old rows.",
        BY_FIX,
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    CheckEntry(
        "schema.foreign_key.blocks_delete",
        "warning",
        "A foreign key of another table refuses the delete of rows that it references, so DELETE FROM servers fails."
        " Repaired only where scannerdb_fix_foreign_keys is cascade or set_null, or the overlay names the key.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
    ),
    CheckEntry(
        "schema.unique.missing",
        "critical",
        "A unique constraint is missing, so duplicates can appear.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
    ),
    CheckEntry(
        "schema.unique.deferrable",
        "critical",
        "A unique constraint is DEFERRABLE: INSERT … ON CONFLICT fails, and so does every write to servers.",
        how="Put one that is not in its place: the SQL is in the report.",
        lock="ACCESS EXCLUSIVE",
    ),
    CheckEntry(
        "schema.index.missing",
        "warning",
        "An index that the application's queries need is missing.",
        BY_FIX,
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    CheckEntry(
        "schema.view.missing", "critical", "The view servers does not exist.", BY_FIX, lock="SHARE ROW EXCLUSIVE"
    ),
    CheckEntry(
        "schema.view.not_a_view", "critical", "servers is a table, as in an older layout: playbooks/migrate.yml."
    ),
    CheckEntry(
        "schema.view.definition",
        "warning",
        "The view servers shows something else than endpoints with a link. Replaced only with consent.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
    ),
    CheckEntry(
        "schema.view.trigger",
        "critical",
        "Writes to servers do not reach the tables: an INSTEAD OF trigger is missing or outdated.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE",
    ),
    CheckEntry(
        "schema.view.trigger_foreign",
        "warning",
        "servers has INSTEAD OF triggers of somebody else. Replaced only with consent.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE",
    ),
    CheckEntry("schema.relation.unexpected", "info", "A view the contract does not know. Normal."),
    CheckEntry(
        "schema.index.unexpected",
        "info",
        "An index that the contract does not ask for, on a table of its own. Normal.",
    ),
    CheckEntry(
        "schema.constraint.unexpected",
        "info",
        "A constraint that the contract does not know, on a table of its own: it may refuse the application's rows.",
        how="Read it; if it is this site's own, suppress the finding with that reason.",
    ),
    CheckEntry(
        "schema.object.unexpected",
        "info",
        "A function, sequence, type, or a rule or policy on a table of the contract, that the contract does not know.",
        how="Read it; if it is this site's own, suppress the finding with that reason.",
    ),
    CheckEntry(
        "schema.trigger.missing",
        "info",
        "A row trigger that stamps a date on endpoints is missing.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE",
    ),
    CheckEntry(
        "schema.trigger.disabled",
        "critical",
        "A trigger is disabled, also one behind a foreign key.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE",
    ),
    CheckEntry(
        "schema.privilege.missing",
        "critical",
        "A role lacks a privilege that the contract gives it.",
        BY_FIX,
        lock="none",
    ),
    CheckEntry(
        "data.endpoints.verification_date_null",
        "warning",
        "A verified endpoint has no verification_date. (NULL on an unverified endpoint is right.)",
        BY_FIX,
        lock="ROW EXCLUSIVE",
    ),
    CheckEntry(
        "data.endpoints.last_check_date_null",
        "warning",
        "An endpoint has no last_check_date.",
        BY_FIX,
        lock="ROW EXCLUSIVE",
    ),
    CheckEntry(
        "data.endpoints.verified_range",
        "warning",
        "verified is neither 0, 1 nor 2. Reported only: nobody but the application knows what was meant.",
        how="The SQL goes by the link: 1 with one, else 0; a honeypot or inactive endpoint loses it.",
        lock="ROW EXCLUSIVE",
    ),
    CheckEntry(
        "data.verified.link_missing",
        "critical",
        "An endpoint with verified = 1 has no row in verified_endpoints, so it is not in servers.",
        BY_FIX,
        lock="ROW EXCLUSIVE",
    ),
    CheckEntry(
        "data.verified.link_stale",
        "critical",
        "A row in verified_endpoints belongs to an endpoint that is not verified.",
        BY_FIX,
        lock="ROW EXCLUSIVE",
    ),
    CheckEntry("data.verified.honeypot", "warning", "A honeypot counts as verified.", BY_FIX, lock="ROW EXCLUSIVE"),
    CheckEntry(
        "data.verified.inactive",
        "warning",
        "An inactive endpoint counts as verified. Repaired only where scannerdb_fix_inactive is unverify.",
        BY_FIX,
        lock="ROW EXCLUSIVE",
    ),
    CheckEntry(
        "data.orphan",
        "warning",
        "Rows whose parent is gone, where no foreign key watches.",
        BY_FIX,
        lock="ROW EXCLUSIVE",
    ),
    CheckEntry(
        "index.invalid",
        "critical",
        "An index is invalid: it is maintained but never used.",
        BY_FIX,
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    CheckEntry(
        "index.duplicate",
        "warning",
        "Two indexes are the same. One is dropped only with consent.",
        BY_FIX,
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    CheckEntry(
        "index.redundant",
        "info",
        "An index is a prefix of another one. Drop it if its queries run as well without.",
        how="Drop it; the longer index serves its queries, if somewhat slower where that one is much larger.",
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    CheckEntry(
        "index.unused",
        "info",
        "No query has used an index since statistics were reset, on this server or a standby that was seen.",
        how="Drop it, once statistics go back over a month's end and every standby was looked at.",
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    CheckEntry(
        "table.dead_tuples",
        "warning",
        "A large share of a table's rows is dead.",
        BY_VACUUM,
        lock="SHARE UPDATE EXCLUSIVE",
    ),
    CheckEntry(
        "table.bloat",
        "warning",
        "A table takes much more space than its rows need.",
        BY_VACUUM,
        lock="SHARE UPDATE EXCLUSIVE to ACCESS EXCLUSIVE, by method",
    ),
    CheckEntry("check.run.failed", "warning", "A check could not look; its message says why."),
    CheckEntry(
        "check.run.not_allowed",
        "info",
        "What only a superuser (or a member of pg_monitor) may look at was not looked at.",
        how="GRANT pg_monitor TO the role; password hashes and pg_hba.conf need a superuser.",
    ),
    *DATABASE,
    *SERVER,
)


def finding(
    finding_id: str, place: str, message: str, evidence: Mapping[str, Any] | None = None, fix: Fix | None = None
) -> Finding:
    """A finding with its registered severity, and with the registered way to repair it where it has no fix."""
    entry = ENTRIES[finding_id]
    return Finding(finding_id, entry.severity, place, message, evidence or {}, fix, "" if fix else entry.how)


def by_hand(finding_id: str, *statements: str, rows: int | None = None) -> Fix:
    """The exact statements for people: the bundle shows them and leaves the decision to you."""
    entry = ENTRIES[finding_id]
    return Fix(
        finding_id,
        statements,
        rows,
        entry.lock or "none",
        job=entry.how or "a decision of yours: the SQL is in the report",
    )
