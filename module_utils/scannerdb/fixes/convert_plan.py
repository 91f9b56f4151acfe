"""Which columns are converted, and which are left, with the reason: planned before anything is changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..connection import SQL, Composable, Connection, Identifier, Literal, Row, fetch
from ..contract import ddl
from ..contract.conversion import UNFINISHED
from ..contract.model import UNSPECIFIED, Column, Contract
from ..contract.needs import TYPE
from ..contract.retypable import convertible, needs_zone, too_short
from ..errors import InvalidInput, quoted
from ..finding import Finding, Fix
from ..lockbudget import relation
from .attached import Attached, attached
from .convert import Conversion, TypeFix
from .convert_default import default_kept
from .retyped import Retyped, Retyping, for_people

SHOWN = 20
ORDER = 11
# What a session of the application gets as TimeZone in this database: its own setting, the database's, the server's.
_ZONE = """
WITH set AS (
    SELECT s.setrole, s.setdatabase, r.rolname, pg_catalog.substr(w, pg_catalog.strpos(w, '=') + 1) AS zone
      FROM pg_catalog.pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) w
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
     WHERE lower(w) LIKE 'timezone=%%' AND (s.setdatabase = 0 OR d.datname = current_database()))
SELECT (SELECT zone FROM set WHERE setrole = 0 OR rolname = %(role)s
         ORDER BY (setrole <> 0 AND setdatabase <> 0) DESC, setrole <> 0 DESC, setdatabase <> 0 DESC LIMIT 1) AS named,
       (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'TimeZone') AS session,
       EXISTS (SELECT FROM set WHERE rolname = session_user) AS own
"""
_NAMED = """
SELECT n.name, EXISTS (SELECT FROM pg_catalog.pg_timezone_abbrevs a WHERE a.abbrev = pg_catalog.upper(n.name)) AS short
  FROM pg_catalog.pg_timezone_names n WHERE pg_catalog.lower(n.name) IN (pg_catalog.lower(%(zone)s),
                                                                         pg_catalog.lower('Etc/' || %(zone)s))
"""
Reader = Callable[[Composable], list[Row]]


def with_conversions(
    conn: Connection, contract: Contract, findings: Sequence[Finding], zone: str, reader: Reader
) -> tuple[list[Finding], dict[tuple[str, str], list[Any]]]:
    """The findings about types with their fixes, and those fixes by (id, object). `zone` is the site's, or empty."""
    places = {f"{table}.{name}": (table, name) for table, has in contract.tables.items() for name in has.columns}
    tables: dict[str, list[tuple[str, Finding]]] = {}
    for one in findings:
        if one.id == TYPE and convertible(one.evidence["actual"], one.evidence["expected"]):
            table, name = places[one.object]
            tables.setdefault(table, []).append((name, one))
    changed: dict[tuple[str, str], Finding] = {}
    fixes: dict[tuple[str, str], list[Any]] = {}
    for table, group in tables.items():
        planned = _planned(conn, contract, table, group, zone, reader)
        for finding, fix in planned:
            changed[finding.id, finding.object] = finding
            if fix:
                fixes[finding.id, finding.object] = [fix]
    going = {places[place][0] for _, place in fixes}
    return [_resumed(changed.get((f.id, f.object), f), going) for f in findings], fixes


def _resumed(finding: Finding, going: set[str]) -> Finding:
    """An interrupted conversion that can go on is not taken away first."""
    if finding.id == UNFINISHED and finding.object in going:
        return dataclasses.replace(finding, fix=None, why_no_fix=f"the fix of {TYPE} takes it up where it was")
    return finding


def _planned(
    conn: Connection, contract: Contract, table: str, group: Sequence[tuple[str, Finding]], zone: str, reader: Reader
) -> list[tuple[Finding, TypeFix | None]]:
    """One table's findings, each with its share of the conversion, or with the reason why there is none."""
    seen, why = attached(conn, contract.schema, table, [name for name, _ in group])
    types = [finding.evidence["actual"] for _, finding in group]
    said = ""
    if not why and any(map(needs_zone, types)):
        zone, said = zone_of(conn, zone, contract.application_role)
        why = "" if zone else said
    if not why and any(map(too_short, types)):
        why = f"a text of {table} is too short for a date, so that the way back could lose something"
    columns = tuple(_column(contract, table, name, f, seen, zone) for name, f in group)
    why = why or "; ".join(filter(None, (said for _, said in columns)))
    one = Retyping(contract.schema, table, tuple(column for column, _ in columns), zone)
    lost: dict[str, Any] = {}
    if not why:
        why, lost = _unreadable(one, contract.tables[table].primary_key, reader)
    if why:
        return [(_left(finding, why, lost.get(name)), None) for name, finding in group]
    rows = int(reader(SQL("SELECT pg_catalog.count(*) AS n FROM {}").format(relation(one.schema, table)))[0]["n"])
    conversion = Conversion(one)
    dressed = [_dressed(finding, one, column, rows, said) for (_, finding), column in zip(group, one.columns)]
    return [(finding, TypeFix(TYPE, (table,), conversion)) for finding in dressed]


def _dressed(finding: Finding, one: Retyping, column: Retyped, rows: int, said: str) -> Finding:
    """A finding with the fix that is going to be applied, and with the time zone that its values are read in."""
    fix = Fix(TYPE, (for_people(one, column),), rows, "ACCESS EXCLUSIVE for an instant", order=ORDER)
    evidence = {**finding.evidence, "unreadable": 0}
    if not needs_zone(column.have):
        return dataclasses.replace(finding, fix=fix, evidence=evidence)
    evidence["zone"] = one.zone
    return dataclasses.replace(finding, fix=fix, message=f"{finding.message} {said}", evidence=evidence)


def _left(finding: Finding, why: str, lost: Mapping[str, Any] | None) -> Finding:
    fix = dataclasses.replace(finding.fix, job=why) if finding.fix else None
    evidence = {**finding.evidence, **({"unreadable": lost["count"], "rows": lost["rows"]} if lost else {})}
    return dataclasses.replace(finding, fix=fix, why_no_fix=why, evidence=evidence)


def _column(
    contract: Contract, table: str, name: str, finding: Finding, seen: Attached, zone: str
) -> tuple[Retyped, str]:
    """A column's share, and why its default cannot be kept."""
    column: Column = contract.tables[table].columns[name]
    have, want = finding.evidence["actual"], finding.evidence["expected"]
    expression = seen.columns.get(name, {}).get("default")
    default, why = None, ""
    if expression is not None:
        try:
            default = default_kept(expression, have, want, zone)
        except ValueError:
            why = (
                f"{table}.{name} has the default {quoted(expression)}, which cannot be told in the other type: drop it"
            )
    elif column.default != UNSPECIFIED:
        default = ddl.default_of(column)
    return Retyped(name, have, want, default), why


def zone_of(conn: Connection, wanted: str, application: str) -> tuple[str, str]:
    """The time zone of values that name none, and a sentence about it; no zone and the reason where nobody knows."""
    row = fetch(conn, _ZONE, {"role": application})[0]
    zone, source = wanted, "scannerdb_fix_types_zone"
    if not wanted and (row["named"] or not row["own"]):
        zone, source = row["named"] or row["session"], f"the TimeZone that {application} has in this database"
    if not zone:
        return "", "the server's TimeZone is hidden by this login's own: set scannerdb_fix_types_zone"
    known = {row["name"].lower(): row for row in fetch(conn, _NAMED, {"zone": zone})}
    found = known.get(zone.lower())
    if (
        found and found["short"]
    ):  # as a word in SQL it is one offset for summer and winter, and the session's own at that
        found = known.get(f"etc/{zone.lower()}")
        why = "is an abbreviation, too, which stands for one offset in summer and winter alike"
    else:
        why = "is no time zone of this server" if wanted else "is none that has a name"
    if not found and wanted:
        raise InvalidInput(f"scannerdb_fix_types_zone: {quoted(wanted)} {why}.", "Name one like Europe/Berlin.")
    if not found:
        return "", f"the TimeZone {quoted(zone)} {why}: set scannerdb_fix_types_zone"
    zone = str(found["name"])
    return zone, f"What names no time zone is read in {zone} ({source})."


def _unreadable(one: Retyping, key: Sequence[str], reader: Reader) -> tuple[str, dict[str, Any]]:
    """Why nothing is converted, where values cannot be read; with their number, and the first rows, for each column."""
    counts = SQL(", ").join(
        SQL("pg_catalog.count(*) FILTER (WHERE {}) AS {}").format(_lost(one, c), Identifier(f"n{n}"))
        for n, c in enumerate(one.columns)
    )
    table = relation(one.schema, one.table)
    found = reader(SQL("SELECT {} FROM {} t").format(counts, table))[0]
    lost, said = {}, []
    for number, column in enumerate(one.columns):
        if not found[f"n{number}"]:
            continue
        rows = _rows(one, column, key, reader)
        lost[column.name] = {"count": found[f"n{number}"], "rows": rows}
        shown = ", ".join(f"{_key(row['key'])} has {quoted(str(row['value']))}" for row in rows[:5])
        said.append(f"{found[f'n{number}']} values of {one.table}.{column.name} cannot be read ({shown})")
    return ("; ".join(said) + ": repair them first, nothing of the table is converted before" if said else ""), lost


def _lost(one: Retyping, column: Retyped) -> Composable:
    return SQL("t.{} IS NOT NULL AND ({}) IS NULL").format(Identifier(column.name), one.value(column, "t"))


def _rows(one: Retyping, column: Retyped, key: Sequence[str], reader: Reader) -> list[dict[str, Any]]:
    parts: list[Composable] = [SQL("{}, t.{}").format(Literal(name), Identifier(name)) for name in key]
    named = SQL("pg_catalog.jsonb_build_object({})").format(SQL(", ").join(parts or [SQL("'ctid', t.ctid::text")]))
    query = SQL("SELECT {} AS key, t.{}::text AS value FROM {} t WHERE {} LIMIT {}").format(
        named, Identifier(column.name), relation(one.schema, one.table), _lost(one, column), Literal(SHOWN)
    )
    return [{"key": row["key"], "value": str(row["value"])[:80]} for row in reader(query)]


def _key(key: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in key.items())
