"""The middle of a migration: an older layout, looked at where it is live, and moved in the side database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..connection import SQL, Connection, Identifier, fetch, text_of
from ..contract import ddl
from ..contract.introspect import read_catalog
from ..contract.model import Catalog, Contract
from ..contract.needs import TYPE
from ..contract.older import (
    ENDPOINTS,
    LINKS,
    SERVERS,
    STATUS,
    STATUSES,
    Moved,
    OnStatus,
    is_older,
    link_statement,
    moved_tables,
    movement,
    obstacles,
    print_query,
)
from ..contract.probe import write_probe
from ..errors import MigrationRefused, ValidationFailed
from ..finding import Change, Finding
from ..fixes.policy import FixPolicy, make_plan
from ..fixes.rights import reader_for
from ..fixes.structure import owner_of, run_plain
from ..foreigncode import is_superuser, refuse_foreign_code
from ..frame import Frames
from ..load.validation import sequences_kept
from ..lockbudget import Budget
from ..runs import Run
from .schema import applier_for, look

UNTOUCHED = "The live database was not touched."
# What depends on servers.status. `goes`: a CHECK of that column alone, or an index over its words.
_DEPENDING = """
SELECT DISTINCT CASE WHEN v.oid IS NOT NULL THEN 'view' WHEN t.oid IS NOT NULL THEN 'trigger'
                     WHEN y.oid IS NOT NULL THEN 'policy' WHEN k.oid IS NOT NULL THEN 'check'
                     WHEN x.indexrelid IS NOT NULL THEN 'index' ELSE 'generated column' END AS kind,
       coalesce(v.relname, t.tgname, y.polname, k.conname, i.relname, g.attname)::text AS name,
       coalesce(cardinality(k.conkey) = 1, x.indexrelid IS NOT NULL) AS goes
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
                             AND d.refobjsubid = a.attnum
  LEFT JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
  LEFT JOIN pg_catalog.pg_class v ON v.oid = w.ev_class
  LEFT JOIN pg_catalog.pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid AND NOT t.tgisinternal
  LEFT JOIN pg_catalog.pg_policy y ON d.classid = 'pg_policy'::regclass AND y.oid = d.objid
  LEFT JOIN pg_catalog.pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid AND k.contype = 'c'
  LEFT JOIN pg_catalog.pg_index x ON d.classid = 'pg_class'::regclass AND x.indexrelid = d.objid
                                 AND (x.indpred IS NOT NULL OR x.indexprs IS NOT NULL)
  LEFT JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  LEFT JOIN pg_catalog.pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid AND f.adnum <> a.attnum
  LEFT JOIN pg_catalog.pg_attribute g ON g.attrelid = f.adrelid AND g.attnum = f.adnum
 WHERE a.attrelid = to_regclass(%(table)s) AND a.attname = %(status)s
   AND coalesce(v.oid, t.oid, y.oid, k.oid, x.indexrelid, f.oid) IS NOT NULL
 ORDER BY 1, 2
"""
_NAMES = """
SELECT 'constraint' AS kind, k.conname::text AS name FROM pg_catalog.pg_constraint k
 WHERE k.conrelid = to_regclass(%(table)s) AND k.contype IN ('p', 'u', 'c') AND starts_with(k.conname::text, %(start)s)
UNION ALL
SELECT 'sequence', s.relname::text
  FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
 WHERE d.classid = 'pg_class'::regclass AND d.refobjid = to_regclass(%(table)s) AND d.deptype IN ('a', 'i')
   AND starts_with(s.relname::text, %(start)s)
 ORDER BY 1, 2
"""
# Who else may use the table that `servers` was: they get the same on the view, and on the links behind it.
_GRANTS = """
SELECT coalesce(r.rolname::text, '') AS role, array_agg(DISTINCT g.privilege_type::text) AS privileges
  FROM pg_catalog.pg_class c, aclexplode(c.relacl) g LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.grantee
 WHERE c.oid = to_regclass(%(table)s) AND g.grantee <> c.relowner AND (g.grantee = 0 OR r.oid IS NOT NULL)
   AND g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
 GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True)
class Older:
    """An older layout as it was found, and the steps that move it."""

    catalog: Catalog
    moved: tuple[Moved, ...]
    statuses: Mapping[str | None, int]
    depending: tuple[OnStatus, ...]
    changes: tuple[Change, ...]

    @property
    def rows(self) -> int:
        """How many servers there are."""
        return sum(self.statuses.values())

    def lines(self) -> list[str]:
        """The movement as lines of a plan."""
        words = ", ".join(
            f"{word or 'NULL'}: {rows} rows, verified = {'NULL' if word is None else STATUSES[word]}"
            for word, rows in sorted(self.statuses.items(), key=lambda item: item[0] or "")
        )
        dropped = [f"{one.kind} {one.name}" for one in self.depending if one.goes]
        return [
            *filter(None, (one.text() for one in self.moved)),
            f"servers.status: {words}",
            *([f"dropped, for they speak of its words: {', '.join(dropped)}"] if dropped else []),
            f"{self.statuses.get('verified', 0)} endpoints get a link, and are in the view servers",
        ]


def older_layout(conn: Connection, contract: Contract) -> Older | None:
    """The older layout of this database, or None where `servers` is no table. Raises `MigrationRefused`."""
    catalog = read_catalog(conn, contract)
    if not is_older(contract, catalog):
        return None
    table = text_of(ddl.qualified(contract.schema, SERVERS))
    rows = fetch(conn, _DEPENDING, {"table": table, "status": STATUS})
    depending = tuple(OnStatus(row["kind"], row["name"], row["goes"]) for row in rows)
    statuses: dict[str | None, int] = {}
    if STATUS in catalog.tables[SERVERS].columns and catalog.tables[SERVERS].kind == "table":
        read = reader_for(conn, contract.schema, [SERVERS], contract.application_role)
        query = SQL("SELECT status::text AS status, pg_catalog.count(*) AS rows FROM ONLY {} GROUP BY 1")
        statuses = {r["status"]: r["rows"] for r in read(query.format(ddl.qualified(contract.schema, SERVERS)))}
    found = obstacles(contract, catalog, statuses, depending)
    if found:
        raise MigrationRefused(" ".join(found), f"{UNTOUCHED} Put this right by hand, and run again.")
    names = [(r["kind"], r["name"]) for r in fetch(conn, _NAMES, {"table": table, "start": f"{SERVERS}_"})]
    changes = tuple(movement(contract.schema, catalog, depending, names))
    return Older(catalog, moved_tables(contract, catalog), statuses, depending, changes)


def move(side: Connection, contract: Contract, run: Run) -> list[str]:
    """Turn the side database's older layout into the baseline and prove it; returns warnings."""
    older = older_layout(side, contract)
    if older is None:
        raise ValidationFailed("The side database has no table servers, unlike the live one.", UNTOUCHED)
    before = prints(side, contract, older.moved, after=False)
    frames = Frames(side)
    for change in older.changes:
        run_plain(frames, change)
    run.log(f"moved: {'; '.join(older.lines())}")
    _bring_up(side, contract, run)
    _link(side, contract, frames)
    _carry_grants(side, contract)
    _compare(before, prints(side, contract, older.moved, after=True))
    links = reader_for(side, contract.schema, [LINKS], contract.application_role)(
        SQL("SELECT pg_catalog.count(*) AS rows FROM {}").format(ddl.qualified(contract.schema, LINKS))
    )[0]["rows"]
    if links != older.statuses.get("verified", 0):
        raise ValidationFailed(f"{links} endpoints were linked, not {older.statuses.get('verified', 0)}.", UNTOUCHED)
    run.log(f"{len(before)} tables are as before by rows and fingerprint; {links} links")
    return _judge(side, contract, run)


def prints(conn: Connection, contract: Contract, moved: tuple[Moved, ...], after: bool) -> dict[str, tuple[str, str]]:
    """Rows and fingerprint of each table's old columns, read with its owner's or the application's rights."""
    found = {}
    for one in moved:
        name = one.becomes if after else one.table
        read = reader_for(conn, contract.schema, [name], contract.application_role)
        row = read(print_query(contract.schema, one, after))[0]
        found[one.table] = (row["rows"], row["print"])
    return found


def _compare(before: Mapping[str, tuple[str, str]], after: Mapping[str, tuple[str, str]]) -> None:
    wrong = [
        f"{table} had {before[table][0]} rows and has {after[table][0]}"
        if before[table][0] != after[table][0]
        else f"the content of {table} is another"
        for table in before
        if before[table] != after[table]
    ]
    if wrong:
        raise ValidationFailed(f"The migrated database is not what the live one is: {'; '.join(wrong)}.", UNTOUCHED)


def _bring_up(side: Connection, contract: Contract, run: Run) -> None:
    """All that the baseline has besides, as deploy makes it."""
    applier = applier_for(side, contract, Budget(), run)
    applier.apply(make_plan(look(side, contract), FixPolicy()).steps)
    for why in applier.failures:
        run.log(f"not brought up: {why}")


def _link(side: Connection, contract: Contract, frames: Frames) -> None:
    links = (contract.schema, LINKS)
    owner = owner_of(side, links)
    if is_superuser(side, owner):
        refuse_foreign_code(side, contract.schema, [ENDPOINTS, LINKS], owner)
    run_plain(frames, Change((link_statement(contract.schema),), ddl.NONE, "plain", (links,)))


def _carry_grants(side: Connection, contract: Contract) -> None:
    table = text_of(ddl.qualified(contract.schema, ENDPOINTS))
    for row in fetch(side, _GRANTS, {"table": table}):
        who = Identifier(row["role"]) if row["role"] else SQL("PUBLIC")
        words = SQL(", ").join(SQL(word) for word in sorted(row["privileges"]))
        for name in (contract.view.name, LINKS):
            side.execute(SQL("GRANT {} ON {} TO {}").format(words, ddl.qualified(contract.schema, name), who))


def _judge(side: Connection, contract: Contract, run: Run) -> list[str]:
    """Raise `ValidationFailed` where the side database is not the baseline, or writing to `servers` fails there."""
    serious = [f for f in look(side, contract) if f.severity == "critical"]
    wrong = [f for f in serious if not _works(f)]
    if wrong:
        said = "; ".join(f"{f.id} ({f.object})" for f in wrong[:5])
        raise ValidationFailed(
            f"After the migration the database would still lack what the contract demands: {said}.",
            f"{UNTOUCHED} The log says why each could not be made; put it right in the live database, and run again.",
        )
    with sequences_kept(side):
        probe = write_probe(side, contract)
    if probe.failures:
        raise ValidationFailed(
            f"Writing to the migrated database does not work: {'; '.join(probe.failures)}.", UNTOUCHED
        )
    for said in (probe.skipped or "passed", *probe.notes):
        run.log(f"write probe: {said}")
    warnings = [f"{f.message} It works as it is." for f in serious]
    return [*warnings, f"The write probe could not look: {probe.skipped}."] if probe.skipped else warnings


def _works(finding: Finding) -> bool:
    """True for a type of the same family as the contract's: a number, text or date of another spelling."""
    return finding.id == TYPE and bool(finding.evidence.get("usable"))
