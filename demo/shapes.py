"""The shapes that databases of the scanner were met in, each made in an empty database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable

from demo import field
from demo.field import Connection


def damaged(conn: Connection, scale: float) -> None:
    """The baseline before its fixes."""
    field.generate(conn, scale)


def from_sqlite(conn: Connection, scale: float) -> None:
    """Made by a move from SQLite: dates are text, booleans integers, and every sequence stands at 1."""
    field.generate(conn, scale)
    field.run_file(conn, "from_sqlite.sql")


def mixed(conn: Connection, scale: float) -> None:
    """varchar in place of text, and timestamps without a time zone."""
    field.generate(conn, scale)
    field.run_file(conn, "mixed_types.sql")


def older(conn: Connection, scale: float) -> None:
    """The layout before the endpoints table: `servers` is a table, and models reference it by server_id."""
    field.older_layout(conn)


def older_renamed(conn: Connection, scale: float) -> None:
    """The same, with models that call the reference endpoint_id."""
    field.older_layout(conn)
    conn.execute("ALTER TABLE models RENAME server_id TO endpoint_id")


def incomplete(conn: Connection, scale: float) -> None:
    """A part of the schema only."""
    field.missing_tables(conn)


def chatted(conn: Connection, scale: float) -> None:
    """The bot's tables as the bot makes them: their foreign keys have no ON DELETE rule, and rows hang on models."""
    field.generate(conn, scale)
    field.run_file(conn, "chatted.sql")


def empty(conn: Connection, scale: float) -> None:
    """Nothing at all."""


SHAPES: Mapping[str, Callable[[Connection, float], None]] = {
    "damaged": damaged,
    "sqlite": from_sqlite,
    "mixed": mixed,
    "older": older,
    "older-endpoint-id": older_renamed,
    "incomplete": incomplete,
    "chatted": chatted,
    "empty": empty,
}
