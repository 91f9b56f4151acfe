"""Databases of the shapes that were met in the field."""

from __future__ import annotations

from demo.shapes import SHAPES
from tests.servers import FIELD_SCALE, Database, Databases


def made(make_database: Databases, shape: str) -> Database:
    database = make_database()
    with database.connect() as conn:
        SHAPES[shape](conn, FIELD_SCALE)
    return database
