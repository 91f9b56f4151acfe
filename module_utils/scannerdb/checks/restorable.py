"""What a restore will not be able to make by itself, as far as it can be seen: the rest shows in a restore drill.

pg_restore works with an empty search_path, and so do, from PostgreSQL 17 on, all index builds and refreshes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..connection import Connection, fetch
from ..finding import Finding
from ..finding_kinds import FindingKind, finding
from .context import Context
from .unit import check

# Functions that run while a restore fills tables and makes indexes, through whatever views lie between.
_USED = """
WITH RECURSIVE roots (kind, name, classid, objid) AS (
    SELECT 'CHECK', k.conname::text, 'pg_constraint'::regclass, k.oid FROM pg_constraint k WHERE k.contype = 'c'
    UNION ALL SELECT 'index', x.oid::regclass::text, 'pg_class'::regclass, x.oid FROM pg_class x
     WHERE x.relkind IN ('i', 'I')
    UNION ALL SELECT 'generated column', d.adrelid::regclass::text, 'pg_attrdef'::regclass, d.oid
      FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
     WHERE a.attgenerated <> ''
    UNION ALL SELECT 'materialized view', r.ev_class::regclass::text, 'pg_rewrite'::regclass, r.oid
      FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.relkind = 'm' AND c.relispopulated),
reached (kind, name, classid, objid) AS (
    SELECT kind, name, classid, objid FROM roots
    UNION SELECT r.kind, r.name, 'pg_rewrite'::regclass, v.oid
      FROM reached r JOIN pg_depend d ON d.classid = r.classid AND d.objid = r.objid
       AND d.refclassid = 'pg_class'::regclass AND r.classid = 'pg_rewrite'::regclass
      JOIN pg_rewrite v ON v.ev_class = d.refobjid)
SELECT DISTINCT r.kind, r.name, p.oid::regprocedure::text AS function, p.prosrc AS source,
       coalesce(p.proconfig::text, '') LIKE '%%search_path=%%' AS fixed
  FROM reached r
  JOIN pg_depend d ON d.classid = r.classid AND d.objid = r.objid AND d.refclassid = 'pg_proc'::regclass
  JOIN pg_proc p ON p.oid = d.refobjid
  JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_language l ON l.oid = p.prolang AND l.lanname NOT IN ('c', 'internal')
 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.deptype = 'e' AND e.classid = 'pg_proc'::regclass
                      AND e.objid = p.oid)
 ORDER BY 1, 2, 3
"""
_NAMES = """
SELECT relname::text AS name, relkind IN ('r', 'p', 'v', 'm', 'f') AS readable FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
UNION SELECT proname::text, false FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""


@check(
    "functions that a restore runs",
    FindingKind(
        "restore.function.search_path",
        "warning",
        "A function in an index, a CHECK, a generated column or a materialized view finds its tables by the search_path"
        " of the session, and a restore has none.",
        how="ALTER FUNCTION … SET search_path; prove it with a restore drill.",
        lock="none",
    ),
    FindingKind(
        "restore.check.other_table",
        "info",
        "The function of a CHECK reads a table. A restore may fill that one later, and then needs a second attempt.",
        how="A foreign key or a trigger instead; prove it with a restore drill.",
        lock="ACCESS EXCLUSIVE",
    ),
)
def functions(context: Context) -> Iterator[Finding]:
    """Functions in indexes, CHECKs, generated columns and materialized views that a restore cannot run as they are."""
    used = fetch(context.conn, _USED)
    names = _names(context.conn) if used else {}
    for row in used:
        told = {"function": row["function"], "of": row["name"], "kind": row["kind"]}
        place = f"{row['kind']} {row['name']}"
        bare = [] if row["fixed"] else [name for name in names if _mentions(row["source"], name, qualified=False)]
        if bare:
            message = (
                f"The {place} calls {row['function']}, which names {', '.join(bare[:3])} without a schema and has no"
                " search_path of its own: a restore cannot make it at the first attempt, from PostgreSQL 17 on not at"
                " all."
            )
            yield finding("restore.function.search_path", row["name"], message, told)
        elif row["kind"] == "CHECK" and any(
            _mentions(row["source"], name, qualified=True) for name, readable in names.items() if readable
        ):
            message = f"The {place} calls {row['function']}, which reads a table: a restore may fill that one later."
            yield finding("restore.check.other_table", row["name"], message, told)


def _names(conn: Connection) -> dict[str, bool]:
    """The names of what functions may name, and whether that is something to read."""
    return {row["name"]: row["readable"] for row in fetch(conn, _NAMES)}


def _mentions(source: str, name: str, qualified: bool) -> bool:
    """Whether a function's source has a name, as a word of its own; without `qualified` only if no schema is before it.

    Pure.
    """
    before = r"(?<![\w$\"])" if qualified else r"(?<![\w$\".])"
    call = r"\s*(?:$|[\s,;()\[])"
    words = rf'{before}(?:{re.escape(name)}(?![\w$"])|"{re.escape(name)}")'
    code = re.sub(r"'(?:[^']|'')*'|--[^\n]*", "''", source)
    return bool(re.search(words + call, code, re.IGNORECASE))
