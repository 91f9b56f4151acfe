"""A second attempt at what pg_restore could not make: the same statements, in a session like the original's.

pg_restore works with an empty search_path, and makes a table's constraints before it fills other tables. A function
that names its tables without their schemas, or a CHECK that reads another table, then stops what was no fault of the
backup. So each entry that failed is tried again when all else is there, under the search_paths that the original has,
as long as that gets anywhere. The server's own state of the error, in no language, says what kind of failure is left.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from ..connection import SQL, Connection, DriverError, Identifier, Literal, Options, connect, execute, explained, fetch
from ..errors import ScannerDbError
from ..process import run_tool, tool_error
from ..tools import Tools
from .contents import ContentsEntry, list_file
from .failures import Failure
from .foreign_code import Code
from .leave_out import Named
from .pg_restore import machine_failed

_PATH = "SELECT pg_catalog.set_config('search_path', '', false);"
_COPY = re.compile(rb"^COPY .* FROM stdin;\n", re.MULTILINE)
_GUARD = re.compile(rb"^\\(?:un)?restrict .*\n", re.MULTILINE)
_END = b"\\.\n"
CHECK_VIOLATION = "23514"
THERE_ALREADY = ("42P07", "42710", "42P06", "42723")  # table, object, schema, function
MOST = 200  # so many failures are no bystanders: something is wrong with the surroundings or with the whole archive


@dataclass(frozen=True)
class Archive:
    """An archive that is being loaded: with which programs, from where, into which database, with more flags."""

    tools: Tools
    options: Options
    dump: Path
    dbname: str
    flags: tuple[str, ...] = ()


def original_paths(conn: Connection, settings: Sequence[tuple[str, str, str]]) -> tuple[str, ...]:
    """The search_paths that sessions of the original have, each once; `conn` leads to its server. Most likely first.

    `settings` are the database's own, as (role or '', name, value).
    """
    own = [value for role, name, value in sorted(settings) if name == "search_path"]
    with explained("Reading the roles' settings"):
        rows = fetch(
            conn,
            "SELECT DISTINCT substr(item, 13) AS value FROM pg_db_role_setting s CROSS JOIN unnest(setconfig) item"
            " WHERE setdatabase = 0 AND item LIKE 'search_path=%%' ORDER BY 1",
        )
    return tuple(dict.fromkeys([*own, '"$user", public', *(row["value"] for row in rows)]))


def safe_paths(
    conn: Connection, settings: Sequence[tuple[str, str, str]], code: Code, run_code: bool
) -> tuple[str, ...]:
    """The same where whoever loads has more rights than the functions' owners: none, unless their code may run.

    A superuser's function might find by them another's, and run it with the rights of whoever loads.
    """
    with explained("Looking at the superusers"):
        rows = fetch(conn, "SELECT rolname::text AS name FROM pg_roles WHERE rolsuper")
    strong = {row["name"] for row in rows}
    if run_code or all(owners <= strong for owners in code.owners.values()):
        return original_paths(conn, settings)
    return ("",)


def try_again(archive: Archive, failures: Sequence[Failure], paths: Sequence[str], named: Named) -> list[Failure]:
    """Try what failed once more, as often as that gets anywhere; what failed for good comes back."""
    if len(failures) > MOST:
        return list(failures)
    left = sorted(failures, key=lambda failure: failure.refresh)  # a refresh reads what others bring
    while left:
        remaining = [found for failure in left if (found := _tried(archive, failure, paths, named))]
        if len(remaining) in (0, len(left)):
            return remaining
        left = remaining
    return left


def bring_rows(archive: Archive, failures: Sequence[Failure], paths: Sequence[str]) -> None:
    """Bring the rows of tables whose CHECKs forbid them, for a look at the rows: the CHECKs come back NOT VALID."""
    for failure in failures:
        if failure.constraint:
            _tried(archive, failure, paths, Named(everything=True))


def _tried(archive: Archive, failure: Failure, paths: Sequence[str], named: Named) -> Optional[Failure]:
    """Try one entry under each of the search_paths; None where it is there now, else what is known of its failure."""
    if failure.guessed and _is_there(archive, failure.entry):
        return None
    first: Optional[Failure] = None
    for path in paths:
        again = _attempt(archive, failure, path, named)
        if again is None or (failure.guessed and again.state in THERE_ALREADY):
            return None
        first = first or again
    return first or failure


def _attempt(archive: Archive, failure: Failure, path: str, named: Named) -> Optional[Failure]:
    """One attempt in a session of its own; None where it succeeded."""
    if failure.entry is None:
        return failure
    try:
        with contextlib.closing(connect(archive.options, dbname=archive.dbname, purpose="restore")) as conn:
            _run(conn, archive, failure.entry, path, named)
    except DriverError as error:
        name = str(getattr(getattr(error, "diag", None), "constraint_name", None) or "")
        checked = failure.entry.kind == "TABLE DATA" and getattr(error, "sqlstate", None) == CHECK_VIOLATION
        state = getattr(error, "sqlstate", None) or ""
        return replace(failure, state=state, constraint=name if checked else "")
    except _ArchiveUnreadable as error:
        return replace(failure, unreadable=True, said=str(error))
    except ScannerDbError:
        return failure
    return None


def _is_there(archive: Archive, entry: Optional[ContentsEntry]) -> bool:
    """Whether a table that may be meant has its rows; there it was another one that failed."""
    if entry is None or entry.kind != "TABLE DATA":
        return False
    query = (
        "SELECT format('%%I.%%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n"
        " ON n.oid = c.relnamespace WHERE n.nspname = %s AND starts_with(%s, c.relname || ' ') AND c.relkind = 'r'"
    )
    with contextlib.closing(connect(archive.options, dbname=archive.dbname, purpose="restore")) as conn:
        names = [row["name"] for row in fetch(conn, query, [entry.schema, f"{entry.rest} "])]
        return any(conn.execute(f"SELECT FROM ONLY {name} LIMIT 1".encode()).fetchall() for name in names)


class _ArchiveUnreadable(Exception):
    """pg_restore cannot print an entry: no server has a part in that."""


def _run(conn: Connection, archive: Archive, entry: ContentsEntry, path: str, named: Named) -> None:
    """Run one entry's statements, as one transaction."""
    with conn.transaction():
        unchecked = _take_off(conn, entry, named)
        with _Feeder(conn, path) as feeder, list_file([entry.line]) as (listing, descriptors):
            words = [archive.tools.path("pg_restore"), "--file=-", f"--use-list={listing}", *archive.flags]
            finished = run_tool(
                [*words, str(archive.dump)], None, check=False, descriptors=descriptors, on_output=feeder.take
            )
            if machine_failed(finished):
                raise tool_error("pg_restore", finished)
            if finished.returncode:
                raise _ArchiveUnreadable(tool_error("pg_restore", finished).message)
            feeder.finish()
        for statement in unchecked:
            conn.execute(statement)


def _take_off(conn: Connection, entry: ContentsEntry, named: Named) -> list[Any]:
    """Take CHECKs off a table that are to be left out, for its rows to come; the statements that put them back.

    They come back NOT VALID: they hold for whatever is written from now on.
    """
    if entry.kind != "TABLE DATA" or not named:
        return []
    rows = fetch(
        conn,
        "SELECT n.nspname::text AS schema, c.relname::text AS name, k.conname::text AS constraint_name,"
        " pg_get_constraintdef(k.oid) AS definition, obj_description(k.oid, 'pg_constraint') AS comment"
        " FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE k.contype = 'c' AND k.conislocal AND n.nspname = %s",
        [entry.schema],
    )
    back = []
    for row in rows:
        table = (row["schema"], row["name"])
        if entry.label.startswith(f"{table[0]} {table[1]} ") and named.constraint(*table, row["constraint_name"]):
            head = SQL("ALTER TABLE {}.{} ").format(*map(Identifier, table))
            what = Identifier(row["constraint_name"])
            execute(conn, head + SQL("DROP CONSTRAINT {}").format(what))
            definition = re.sub(" NOT VALID$", "", row["definition"])
            back.append(head + SQL("ADD CONSTRAINT {} {} NOT VALID").format(what, SQL(definition)))
            if row["comment"]:
                on = SQL("COMMENT ON CONSTRAINT {} ON {}.{} IS {}")
                back.append(on.format(what, *map(Identifier, table), Literal(row["comment"])))
    return back


class _Feeder:
    """Takes the script of one entry piece by piece, and runs it: statements at once, rows as they come."""

    def __init__(self, conn: Connection, path: str) -> None:
        self._conn, self._path = conn, path
        self._text = b""
        self._copy: Any = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Feeder:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def take(self, piece: bytes) -> None:
        """More of the script."""
        self._text += piece
        if self._copy is None and not self._begin():
            return
        whole = self._text.rfind(b"\n") + 1
        lines, self._text = self._text[:whole], self._text[whole:]
        end = lines.find(b"\n" + _END) + 1 if not lines.startswith(_END) else 0
        if end or lines.startswith(_END):
            self._copy.write(lines[:end])
            self._stack.close()
            self._copy, self._text = None, lines[end + len(_END) :] + self._text
        elif lines:
            self._copy.write(lines)

    def _begin(self) -> bool:
        match = _COPY.search(self._text)
        if not match:
            return False
        self._statements(self._text[: match.start()])
        statement, self._text = match.group().rstrip(b";\n"), self._text[match.end() :]
        self._copy = self._stack.enter_context(self._conn.cursor().copy(statement))
        return True

    def finish(self) -> None:
        """The script has ended."""
        self._statements(self._text)

    def _statements(self, text: bytes) -> None:
        path = SQL("SELECT pg_catalog.set_config('search_path', {}, false);").format(Literal(self._path))
        script = _GUARD.sub(b"", text).replace(_PATH.encode(), path.as_bytes(self._conn), 1)
        if script.strip():
            self._conn.execute(script)
