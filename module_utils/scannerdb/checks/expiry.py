"""Rows that a site's rules let go: how many are due, and rules that cannot be applied."""

from __future__ import annotations

from collections.abc import Iterator

from ..connection import SQL, fetch, text_of
from ..expiry import ExpiryRule, expired, removal, unfit
from ..finding import Finding, Fix
from ..finding_kinds import BY_FIX, FindingKind, finding
from .context import Context
from .unit import check

DUE, RULE = "data.expired", "data.expired.rule"
ORDER = 80  # after rows are repaired, and before they are counted
_REFERENCED = """
SELECT DISTINCT c.relname::text AS name FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace n ON n.oid = p.relnamespace
 WHERE k.contype = 'f' AND k.conrelid <> k.confrelid AND n.nspname = %s AND p.relname = %s ORDER BY 1
"""
_COLUMNS = """
SELECT a.attname::text AS name, format_type(a.atttypid, NULL) AS type
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
"""


@check(
    "rows that go by a rule",
    FindingKind(
        "data.expired",
        "info",
        "Rows are older than the site's rule (scannerdb_retention_rules) keeps them.",
        BY_FIX,
        how="Where a fresh, verified backup exists. They come back out of that backup only.",
        lock="ROW EXCLUSIVE",
    ),
    FindingKind(
        "data.expired.rule",
        "warning",
        "A rule of scannerdb_retention_rules cannot be applied to its table as it is.",
        how="Change the rule: its table needs a number as id and a date, and no table may reference it.",
    ),
    deep=False,
)
def due_rows(context: Context) -> Iterator[Finding]:
    """One finding for each rule that has something to do, and for each that cannot be applied."""
    for rule in context.expiry:
        yield from _rule(context, rule)


def columns_of(context: Context, table: str) -> dict[str, str]:
    """The columns of a table, with their types; none where there is no such table."""
    return {row["name"]: row["type"] for row in fetch(context.conn, _COLUMNS, [context.schema, table])}


def _rule(context: Context, rule: ExpiryRule) -> Iterator[Finding]:
    columns = columns_of(context, rule.table)
    others = [row["name"] for row in fetch(context.conn, _REFERENCED, [context.schema, rule.table])]
    why = unfit(rule, columns, others)
    if why:
        message = f"The rule of scannerdb_retention_rules for {rule.table} is not applied: {why}."
        yield finding(RULE, rule.table, message, {"rule": vars(rule)})
        return
    rows = context.number(SQL("SELECT count(*) FROM ({}) q").format(expired(context.schema, rule, columns)))
    if not rows:
        return
    evidence = {"rows": rows, "rule": vars(rule)}
    sql = text_of(removal(context.schema, rule, columns))
    yield finding(
        DUE,
        rule.table,
        f"{rows} rows of {rule.table} go by the site's rule: {rule.sentence}.",
        evidence,
        Fix(DUE, (sql,), rows, "ROW EXCLUSIVE", order=ORDER),
    )
