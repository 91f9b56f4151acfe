"""Statements that run code of a lesser role run with that role's rights, in a frame that the code cannot leave.

Tables carry code: triggers, rules, policies, CHECK constraints, expressions of columns and indexes, casts. Even
planning a query evaluates some of it. A frame is a function in pg_temp, SECURITY DEFINER, made for one call and given
to the role; in it PostgreSQL lets nobody set the role or the session's authorization. What that code does to the
session (its settings, cursors that outlive the transaction, constraints deferred until after the frame) is undone
before the session does anything in its own right; what cannot be undone ends the transaction.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .connection import SQL, Composable, Connection, Identifier, Literal, Query, fetch, scalar, text_of
from .errors import UnsafeCode

PLAIN_VALUE = re.compile(r"^[A-Za-z0-9_ .,:/+-]*$")
DEFERRED_RUN_AS_QUEUED = 180000  # since then a deferred trigger runs as the role that queued it

_COUNT = """
DECLARE
    touched bigint;
    one text;
BEGIN
    PERFORM pg_catalog.set_config('search_path', path, true);
    FOREACH one IN ARRAY statements LOOP
        EXECUTE one;
        GET DIAGNOSTICS touched = ROW_COUNT;
    END LOOP;
    SET CONSTRAINTS ALL IMMEDIATE;
    RETURN touched;
END"""
_ROWS = """
DECLARE
    one text;
BEGIN
    PERFORM pg_catalog.set_config('search_path', path, true);
    FOREACH one IN ARRAY statements LOOP
        EXECUTE one;
    END LOOP;
    RETURN QUERY EXECUTE result;
    SET CONSTRAINTS ALL IMMEDIATE;
END"""
IMAGES = "TABLE (table_name text, operation text, row_id bigint, before jsonb, after jsonb, flag text)"
JSON = "SETOF jsonb"

# What could still fire at the commit: a deferrable trigger on a table that this transaction has written to. (A table
# with waiting events can be neither dropped nor altered, nor can its triggers.)
_WAITING = """
SELECT n.nspname::text AS schema, c.relname::text AS name, pg_get_userbyid(c.relowner)::text AS owner,
       d.name::text AS object
  FROM (SELECT t.tgrelid AS relation, t.tgname AS name FROM pg_catalog.pg_trigger t
         WHERE t.tgdeferrable AND NOT t.tgisinternal
        UNION ALL
        SELECT x.conrelid, x.conname FROM pg_catalog.pg_constraint x WHERE x.contype = 'x' AND x.condeferrable) d
  JOIN pg_catalog.pg_class c ON c.oid = d.relation
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE d.relation IN (SELECT l.relation FROM pg_catalog.pg_locks l
                       WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
                         AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                                        'AccessExclusiveLock'))
 LIMIT 1
"""
_PATH = """
SELECT coalesce((SELECT pg_catalog.substr(word, 13)
                   FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) word
                  WHERE word LIKE 'search\\_path=%%'
                    AND s.setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %(role)s))
                    AND s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database
                                               WHERE datname = current_database()))
                  ORDER BY (s.setrole <> 0 AND s.setdatabase <> 0) DESC, s.setrole <> 0 DESC, s.setdatabase <> 0 DESC
                  LIMIT 1),
                '"$user", public')
"""


@dataclass
class Frame:
    """The frame of one role in one transaction. `local` are the settings of the transaction itself."""

    conn: Connection
    role: str
    path: str
    user: str
    superuser: bool
    restore: str
    local: Mapping[str, str] = field(default_factory=dict)
    discarded: bool = False  # the transaction only reads, and is rolled back after one call

    def run(self, *statements: Query) -> int:
        """Run statements, one after the other; returns how many rows the last one touched."""
        with self._function("bigint", _COUNT) as call:
            return int(scalar(self.conn, SQL("SELECT {}").format(call(statements))))

    def rows(self, *statements: Query) -> list[dict[str, Any]]:
        """Run statements of which the last is a SELECT; returns its rows, as JSON has them."""
        *before, query = statements
        with self._function(JSON, _ROWS) as call:
            wrapped = SQL("SELECT pg_catalog.to_jsonb(q) FROM ({}) q").format(_composed(query))
            rows = fetch(self.conn, SQL("SELECT j FROM {} j").format(call(before, wrapped)))
            return [row["j"] for row in rows]

    def returning(self, statement: Query) -> list[Any]:
        """Run a statement that returns one column of jsonb (INSERT … RETURNING to_jsonb(id)); returns its values."""
        with self._function(JSON, _ROWS) as call:
            return [row["j"] for row in fetch(self.conn, SQL("SELECT j FROM {} j").format(call((), statement)))]

    def value(self, query: Query) -> Any:
        """The first column of a query's first row, as JSON has it, or None."""
        rows = self.rows(query)
        return next(iter(rows[0].values())) if rows else None

    @contextlib.contextmanager
    def images(self, statement: Query) -> Iterator[Composable]:
        """A table expression over what a statement returns in the columns of `IMAGES`, for a statement of ours that is
        run within the block, once."""
        with self._function(IMAGES, _ROWS) as call:
            yield call((), statement)

    @contextlib.contextmanager
    def _function(self, returns: str, body: str) -> Iterator[Callable[..., Composable]]:
        """A fresh function for one call: its owner could replace one that he has seen."""
        name = Identifier("pg_temp", f"scannerdb_{secrets.token_hex(12)}")
        signature = SQL("{}(pg_catalog.text[], pg_catalog.text, pg_catalog.text)").format(name)
        made = SQL(
            "CREATE FUNCTION {}(statements pg_catalog.text[], result pg_catalog.text, path pg_catalog.text) RETURNS {}"
            " LANGUAGE plpgsql SECURITY DEFINER AS {}"
        ).format(name, SQL(returns), Literal(body))  # type: ignore[arg-type,unused-ignore]
        self._as_owner(made, SQL("REVOKE ALL ON FUNCTION {} FROM PUBLIC").format(signature), given=signature)

        def call(statements: Sequence[Query], result: Query = "") -> Composable:
            texts = SQL(", ").join(Literal(text_of(one)) for one in statements)
            return SQL("{}(ARRAY[{}]::pg_catalog.text[], {}, {})").format(
                name, texts, Literal(text_of(result)), Literal(self.path)
            )

        if self.discarded:
            self.conn.execute("SET LOCAL transaction_read_only = on")
        yield call
        if self.discarded:
            return
        self.conn.execute(self.restore)
        if self.local:
            self.conn.execute(_set_local(self.local))
        self._as_owner(SQL("DROP FUNCTION IF EXISTS {} CASCADE").format(signature))

    def _as_owner(self, *statements: Composable, given: Composable | None = None) -> None:
        """Run statements that run no code of anybody's, so that what they make is the role's."""
        words = list(statements)
        if self.superuser:
            if given is not None:
                words.append(SQL("ALTER FUNCTION {} OWNER TO {}").format(given, Identifier(self.role)))
        else:
            if given is not None:
                words.append(SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(given, Identifier(self.user)))
            words = [SQL("SET LOCAL ROLE {}").format(Identifier(self.role)), *words, SQL("RESET ROLE")]
        self.conn.execute(SQL("; ").join(words))


class Frames:
    """Makes frames on one session; made before any foreign code has run in it."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        query = (
            "SELECT rolname::text AS name, rolsuper AS superuser FROM pg_catalog.pg_roles WHERE rolname = current_user"
        )
        me = fetch(conn, query)[0]
        self.user, self.superuser = str(me["name"]), bool(me["superuser"])
        self._restore = _restore_text(conn)
        self._paths: dict[str, str] = {}
        _refuse_event_triggers(conn)

    def of(self, role: str, local: Mapping[str, str] | None = None) -> Frame:
        """The frame of `role` in the transaction that is open; `local` are the settings that it has of its own."""
        if role not in self._paths:
            self._paths[role] = str(scalar(self.conn, _PATH, {"role": role}))
        return Frame(self.conn, role, self._paths[role], self.user, self.superuser, self._restore, local or {})

    @contextlib.contextmanager
    def transaction(self, local: Mapping[str, str] | None = None) -> Iterator[None]:
        """One transaction, with the settings `local`; nothing foreign runs at its commit."""
        with self.conn.transaction():
            if local:
                self.conn.execute(_set_local(local))
            yield
            self._settle()

    def read(self, role: str, query: Query) -> list[dict[str, Any]]:
        """The rows of a query, read with the rights of `role`; nothing of the transaction stays, whatever it ran."""
        with self.conn.transaction(force_rollback=True):
            self.conn.execute("SET LOCAL transaction_read_only = off")
            return replace(self.of(role), discarded=True).rows(query)

    def _settle(self) -> None:
        if self.conn.info.server_version >= DEFERRED_RUN_AS_QUEUED:
            return
        waiting = fetch(self.conn, _WAITING)
        if waiting:
            one = waiting[0]
            raise UnsafeCode(
                f"{one['object']} on {one['schema']}.{one['name']}, which belongs to {one['owner']}, is deferrable: "
                "before PostgreSQL 18 it would run with this session's rights at the commit. The transaction was "
                "rolled back.",
                f"Make it NOT DEFERRABLE, or run this job once as {one['owner']} itself (scannerdb_login_user).",
            )


def _restore_text(conn: Connection) -> str:
    """The statements that give a session back its settings. Nothing in them depends on a setting to be read."""
    words = ["CLOSE ALL", "RESET ALL"]
    for name, value in conn.prepared.items():
        if not PLAIN_VALUE.match(value):
            raise ValueError(f"{name} has a value that cannot be set again safely: {value!r}")
        words.append(f"SET {name} = {value if name == 'search_path' else repr(value)}")
    return "; ".join(words)


def _set_local(settings: Mapping[str, str]) -> Composable:
    words = [SQL("SET LOCAL {} = {}").format(Identifier(name), Literal(value)) for name, value in settings.items()]
    return SQL("; ").join(words)


def _composed(query: Query) -> Composable:
    return SQL(query) if isinstance(query, str) else query  # type: ignore[arg-type,unused-ignore]


def _refuse_event_triggers(conn: Connection) -> None:
    """An event trigger runs with the rights of whoever alters the structure; its function must be a superuser's."""
    rows = fetch(
        conn,
        "SELECT e.evtname::text AS name, pg_get_userbyid(p.proowner)::text AS owner FROM pg_catalog.pg_event_trigger e"
        " JOIN pg_catalog.pg_proc p ON p.oid = e.evtfoid JOIN pg_catalog.pg_roles r ON r.oid = p.proowner"
        " WHERE e.evtenabled <> 'D' AND NOT r.rolsuper AND r.rolname <> current_user LIMIT 1",
    )
    if rows:
        raise UnsafeCode(
            f"The event trigger {rows[0]['name']} runs a function of {rows[0]['owner']}, who is no superuser, with the "
            "rights of whoever changes the structure.",
            "Give its function to a superuser, or drop the event trigger.",
        )
