"""Databases whose columns have other types, and what their values mean."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from scannerdb.fixes.convert import Converter
from scannerdb.fixes.policy import FixPolicy

from demo.shapes import SHAPES
from tests.servers import FIELD_SCALE, Database, Databases

BERLIN = ZoneInfo("Europe/Berlin")
CONVERT = FixPolicy(types="convert", types_zone="Europe/Berlin", only=("schema.column.type",))
# The columns, and whatever else a conversion has made.
MADE = """
SELECT (SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND NOT a.attisdropped
           AND a.attname LIKE 'scannerdb\\_new%')
     + (SELECT count(*) FROM pg_trigger WHERE tgname LIKE '~scannerdb%')
     + (SELECT count(*) FROM pg_proc WHERE proname LIKE 'scannerdb\\_convert%')
     + (SELECT count(*) FROM pg_class WHERE relname LIKE 'scannerdb\\_new%' OR relname LIKE 'scannerdb\\_proof%')
"""
KEPT = """
SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
 WHERE c.relkind = 'r' AND NOT a.attisdropped AND a.attname LIKE 'scannerdb\\_was%'
"""
DATES = "SELECT id, scan_date, verification_date, last_check_date, is_honeypot, is_active FROM endpoints ORDER BY id"
OWNED = "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"


def made(make_database: Databases, shape: str, name: str = "") -> Database:
    """A database of that shape whose owner is the application, which is no superuser."""
    database = make_database(name or None)
    with database.connect() as conn:
        SHAPES[shape](conn, FIELD_SCALE)
        conn.execute("GRANT CREATE ON SCHEMA public TO ollama")
        for (relation,) in conn.execute(OWNED).fetchall():
            conn.execute(f"ALTER TABLE {relation} OWNER TO ollama".encode())
    return database


def one_text(make_database: Databases) -> Database:
    """A database in which one column, which is not empty, is a text; its table is the application's."""
    database = make_database(filled=True)
    database.sql("GRANT CREATE ON SCHEMA public TO ollama")
    for (relation,) in database.sql(OWNED):
        database.sql(f"ALTER TABLE {relation} OWNER TO ollama")
    database.sql("UPDATE verified_endpoints SET verification_date = now() WHERE verification_date IS NULL")
    database.sql(
        "ALTER TABLE verified_endpoints ALTER verification_date DROP DEFAULT, ALTER verification_date SET NOT NULL,"
        " ALTER verification_date TYPE text"
    )
    return database


@contextlib.contextmanager
def blocked(database: Database, step: str, mode: str, *, after: bool = False) -> Iterator[None]:
    """Somebody takes a lock of that mode on the one table before that step, or after it, and keeps it for the block."""
    with database.connect(autocommit=False, application_name="the one in the way") as conn:

        def lock() -> None:
            conn.execute(f"LOCK TABLE verified_endpoints IN {mode} MODE".encode())

        with beside(step, lock, table="verified_endpoints", after=after):
            yield


def converted(result: dict[str, Any]) -> set[str]:
    """The columns that a run converts, or has converted."""
    return {one["object"] for one in result["fixed"] if one["id"] == "schema.column.type"}


@contextlib.contextmanager
def beside(step: str, act: Callable[[], object], *, table: str = "endpoints", after: bool = False) -> Iterator[None]:
    """Somebody else acts before that step of the table's conversion, or after it."""
    plain, acted = getattr(Converter, step), []

    def with_act(self: Converter) -> None:
        if after:
            plain(self)
        if not acted and self.one.table == table:
            acted.append(act())
        if not after:
            plain(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Converter, step, with_act)
        yield


def meant(value: Any) -> Any:
    """What a text, a number or a timestamp without a zone says, in Berlin's time."""
    if isinstance(value, int):
        return bool(value)
    moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=BERLIN)
