"""Looks into every heap and B-tree of what was restored with PostgreSQL's own amcheck, where that is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..connection import Connection, DriverError, Options, explained, fetch, scalar
from ..errors import ScannerDbError
from ..process import Finished, cores, machine_fault, run_tool

_INDEXES = """
SELECT c.oid, n.nspname || '.' || c.relname AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am m ON m.oid = c.relam
  JOIN pg_index i ON i.indexrelid = c.oid
 WHERE c.relkind = 'i' AND m.amname = 'btree' AND i.indisvalid AND n.nspname !~ '^pg_toast'
 ORDER BY 2
"""
_HEAPS = """
SELECT c.oid, n.nspname || '.' || c.relname AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am m ON m.oid = c.relam
 WHERE c.relkind IN ('r', 'm') AND m.amname = 'heap' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY 2
"""
DAMAGE = 2  # exit status of pg_amcheck where it found some
LONGEST = 300
# Classes of SQLSTATEs: connections, conflicts, rights, resources, locks, operators, the system.
KEPT_FROM = ("08", "25", "40", "42", "53", "55", "57", "58")
CUT = re.compile("terminating connection|server closed the connection|canceling statement|connection to server")
SCHEMA = "scannerdb_amcheck"  # of the scratch database, so nothing of the backup's own is in the way


def why_not(conn: Connection, superuser: bool) -> str:
    """Why amcheck cannot be run here; empty where it can."""
    if not scalar(conn, "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'"):
        return "the extension amcheck is not installed on the server (postgresql-contrib)"
    return "" if superuser else "only a superuser may create the extension amcheck"


@dataclass(frozen=True)
class Pages:
    """What pg_amcheck saw: damage, and why it did not look at everything; both empty where all is whole."""

    damage: tuple[str, ...] = ()
    unseen: str = ""


def check_storage(conn: Connection) -> Pages:
    """Check every table and index of a scratch database."""
    with explained("Preparing amcheck"):
        if scalar(conn, "SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'"):
            schema = scalar(
                conn,
                "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
                " WHERE extname = 'amcheck'",
            )
        else:
            conn.execute(f"CREATE SCHEMA {SCHEMA}")
            conn.execute(f"CREATE EXTENSION amcheck SCHEMA {SCHEMA}")
            schema = SCHEMA
        indexes, heaps = fetch(conn, _INDEXES), fetch(conn, _HEAPS)
    damage: list[str] = []
    unseen: list[str] = []
    for row in indexes:
        try:
            conn.execute(f"SELECT {schema}.bt_index_check(%s::oid::regclass, true)", [row["oid"]])
        except DriverError as error:
            (unseen if spares(error) else damage).append(f"amcheck: index {row['name']}: {_first(error)}.")
    for row in heaps:
        try:
            query = f"SELECT blkno, msg FROM {schema}.verify_heapam(%s::oid::regclass) LIMIT 1"  # noqa: S608
            found = fetch(conn, query, [row["oid"]])
        except DriverError as error:
            found = [] if spares(error) else [{"blkno": "?", "msg": _first(error)}]
            unseen += [f"amcheck: table {row['name']}: {_first(error)}."] if spares(error) else []
        damage += [f"amcheck: table {row['name']}, block {f['blkno']}: {f['msg']}." for f in found]
    return Pages(tuple(damage), " ".join(["amcheck could not look at everything.", *unseen]) if unseen else "")


def spares(error: Any) -> bool:
    """Whether an error says nothing about what was looked at: it was kept from looking."""
    return str(error.sqlstate or "08")[:2] in KEPT_FROM


def _first(error: Any) -> str:
    return str(error).splitlines()[0]


def look_at_pages(there: Options, program: str) -> Pages:
    """Every table and B-tree index of every database of a server of ours, by pg_amcheck of its version."""
    try:
        finished = run_tool([program, "--all", "--install-missing", f"--jobs={cores()}"], there, check=False)
    except ScannerDbError as error:
        return Pages(unseen=str(error))
    return read_report(finished)


def read_report(finished: Finished) -> Pages:
    """What pg_amcheck's words and exit status say. A fault of the machine is none of the pages. Pure."""
    found = [block for block in _blocks(finished.stdout) if not _fault(block)]
    damage = found if finished.returncode == DAMAGE else []
    skipped = [line for line in finished.stderr.splitlines() if "skipping" in line]
    fault = _fault(f"{finished.stdout}\n{finished.stderr}")
    why = fault or " ".join(" ".join(skipped).split())
    if finished.returncode and not damage:
        said = " ".join(finished.stderr.split())[-LONGEST:] or "it said nothing"
        why = why or f"pg_amcheck ended with {finished.returncode}: {said}"
    return Pages(tuple(" ".join(block.split())[:LONGEST] for block in damage), why[:LONGEST])


def _fault(text: str) -> str:
    """What the machine, or a session that was cut, is to blame for; '' for nothing."""
    cut = (line.strip() for line in text.splitlines() if CUT.search(line))
    return machine_fault(text) or next(cut, "")


def _blocks(text: str) -> Iterator[str]:
    """What is said of each relation: a line, and those below it that are indented."""
    block: list[str] = []
    for line in text.splitlines():
        if block and not line[:1].isspace():
            yield "\n".join(block)
            block = []
        block += [line] if line.strip() else []
    if block:
        yield "\n".join(block)
