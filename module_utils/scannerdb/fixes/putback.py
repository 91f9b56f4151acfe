"""Putting journalled rows back, in a frame: entries of one table and one operation at a time, and exactly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from ..connection import SQL, Composable, Identifier, Literal, Row, fetch, text_of
from ..frame import Frame

CONFLICTS = ("22", "23", "42", "P0")  # classes of errors that a row, or the site's code on it, makes
GONE, CHANGED = "the row is gone", "the row has been changed since"


class RowKept(Exception):
    """Rolls the batch back; its text is the reason."""


def put_back(frame: Frame, entries: Sequence[Row]) -> dict[int, str]:
    """Take the entries back; returns why some were left, by their number. Raises `RowKept` where one spoils all."""
    table = SQL("{}.{}").format(Identifier(entries[0]["table_schema"]), Identifier(entries[0]["table_name"]))
    operation = entries[0]["operation"]
    if entries[0]["row_id"] is None:
        return _counter_back(frame, table, entries)
    if operation == "delete":
        frame.run(_insert(frame, table, [entry["before_text"] for entry in entries]))
        return {}
    current = _current(frame, table, entries, lock=True)
    kept = {entry["seq"]: why for entry in entries for why in [_why_kept(entry, current)] if why}
    rest = [entry for entry in entries if entry["seq"] not in kept]
    if rest and operation == "insert":
        frame.run(SQL("DELETE FROM {} t WHERE t.id = ANY({})").format(table, _ids(rest)))
    elif rest:
        _back(frame, table, rest, current)
    return kept


def _counter_back(frame: Frame, table: Composable, entries: Sequence[Row]) -> dict[int, str]:
    """Updates of `metadata`, whose rows have a key in the place of an id."""
    kept = {}
    for entry in entries:
        key = Literal(str(json.loads(entry["before_text"]).get("key")))
        query = SQL("SELECT pg_catalog.to_jsonb(t)::text AS image FROM {} t WHERE t.key = {}{}")
        rows = frame.rows(query.format(table, key, SQL(" FOR UPDATE OF t")))
        now = rows[0]["image"] if rows else None
        if now != entry["left_text"]:
            kept[entry["seq"]] = CHANGED if now else GONE
            continue
        columns = _changed(entry["before_text"], now)
        sets = SQL(", ").join(SQL("{0} = r.{0}").format(Identifier(column)) for column in columns)
        back = SQL(
            "UPDATE {0} t SET {1} FROM pg_catalog.jsonb_populate_record(NULL::{0}, {2}::jsonb) r WHERE t.key = {3}"
        ).format(table, sets, Literal(entry["before_text"]), key)
        if frame.rows(back, query.format(table, key, SQL("")))[0]["image"] != entry["before_text"]:
            raise RowKept("a trigger of this site changes the row while it is put back")
    return kept


def _why_kept(entry: Row, current: dict[int, str]) -> str:
    """Why the row is not what the fix left. (An after-image may hold only the columns that were set.)"""
    if entry["row_id"] not in current:
        return GONE
    return "" if current[entry["row_id"]] == entry["left_text"] else CHANGED


def _ids(entries: Iterable[Row]) -> Composable:
    return SQL("{}::bigint[]").format(Literal([entry["row_id"] for entry in entries]))


def _current(frame: Frame, table: Composable, entries: Sequence[Row], lock: bool = False) -> dict[int, str]:
    """The rows as they are, as text."""
    query = SQL("SELECT t.id, pg_catalog.to_jsonb(t)::text AS image FROM {} t WHERE t.id = ANY({})").format(
        table, _ids(entries)
    )
    held = SQL("{} FOR UPDATE OF t" if lock else "{}").format(query)
    return {row["id"]: row["image"] for row in frame.rows(held)}


def _back(frame: Frame, table: Composable, entries: Sequence[Row], current: dict[int, str]) -> None:
    """An update goes back in two steps: what row triggers watch, then what they stamp; then the rows are compared."""
    for _ in range(2):  # the first UPDATE fires row triggers; the second corrects what they stamped and fires none
        wrong = [entry for entry in entries if current.get(entry["row_id"]) != entry["before_text"]]
        if not wrong:
            return
        columns = sorted({c for entry in wrong for c in _changed(entry["before_text"], current.get(entry["row_id"]))})
        sets = SQL(", ").join(SQL("{0} = r.{0}").format(Identifier(column)) for column in columns)
        frame.run(
            SQL(
                "UPDATE {0} t SET {1} FROM pg_catalog.jsonb_populate_recordset(NULL::{0}, {2}::jsonb) r"
                " WHERE t.id = r.id"
            ).format(table, sets, _array(_only(frame, wrong, columns)))
        )
        current = {**current, **_current(frame, table, wrong)}
    if any(current.get(entry["row_id"]) != entry["before_text"] for entry in entries):
        raise RowKept("a trigger of this site changes the row while it is put back")


def _changed(before: str, now: str | None) -> list[str]:
    has = json.loads(now, parse_float=str) if now else {}
    return [
        column
        for column, value in json.loads(before, parse_float=str).items()
        if column not in has or has[column] != value
    ]


def _only(frame: Frame, entries: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """The images before, with the id and these columns only."""
    query = (
        "SELECT (SELECT jsonb_object_agg(e.key, e.value) FROM jsonb_each(j.before) e WHERE e.key = ANY (%s))::text"
        " AS image"
        " FROM scannerdb_maintenance.journal j WHERE j.seq = ANY (%s)"
    )
    rows = fetch(frame.conn, query, [["id", *columns], [entry["seq"] for entry in entries]])
    return [row["image"] for row in rows]


def _array(images: Iterable[str]) -> Composable:
    return Literal("[" + ",".join(images) + "]")


def _insert(frame: Frame, table: Composable, images: Sequence[str]) -> Composable:
    """The INSERT of rows as they were; what the table computes itself is left to it."""
    columns = frame.rows(
        SQL(
            "SELECT a.attname AS name FROM pg_catalog.pg_attribute a WHERE a.attrelid = {}::pg_catalog.regclass"
            " AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum"
        ).format(Literal(text_of(table)))
    )
    names = SQL(", ").join(Identifier(row["name"]) for row in columns)
    return SQL(
        "INSERT INTO {0} ({1}) OVERRIDING SYSTEM VALUE SELECT {1}"
        " FROM pg_catalog.jsonb_populate_recordset(NULL::{0}, {2}::jsonb)"
    ).format(table, names, _array(images))
