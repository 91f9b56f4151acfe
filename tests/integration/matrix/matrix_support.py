"""What the matrix tests do: furnish a database with kinds of objects, lose it, restore it, and look at all of it."""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from tests.integration.matrix.matrix_kinds import ROLES
from tests.integration.restore.restore_support import maintenance, options
from tests.integration.support import run_backup, run_restore, run_verify
from tests.servers import Database, make_home

Picture = dict[str, Any]


def make_roles(db: Database) -> None:
    """The roles that the kinds speak of."""
    for role in ROLES:
        if not db.sql("SELECT FROM pg_roles WHERE rolname = %s", role):
            db.sql(f"CREATE ROLE {role}")


def furnished(db: Database, objects: Mapping[str, list[str]]) -> None:
    """Make every kind, each in a schema of its own."""
    make_roles(db)
    version = int(db.value("SHOW server_version_num")) // 10000
    for number, (kind, statements) in enumerate(objects.items()):
        since = re.search(r"\(from (\d+)\)$", kind)
        if since and version < int(since[1]):
            continue
        schema = f"k{number:02}"
        with db.connect(autocommit=True) as conn:
            conn.execute(f"CREATE SCHEMA {schema}".encode())
            for statement in statements:
                try:
                    conn.execute(statement.replace("{s}", schema).encode())
                except psycopg.Error as error:
                    raise AssertionError(f"{kind}: {error}: {statement}") from error


def dumped(db: Database) -> str:
    """pg_dump's text of the structure, without what it makes up."""
    environment = {
        "PGHOST": str(db.server.socket_dir),
        "PGPORT": str(db.server.port),
        "PGUSER": "postgres",
        "PGCLIENTENCODING": "UTF8",
    }
    words = [str(db.server.bin_dir / "pg_dump"), "--schema-only", "--quote-all-identifiers"]
    told = subprocess.run(words, env={**environment, "PGDATABASE": db.name}, check=True, capture_output=True)
    text = re.sub(rb"(?m)^\\(un)?restrict .*$", b"", told.stdout).decode("utf-8", "surrogateescape")
    return re.sub(r"(?ms)^(CREATE TABLE [^\n]* \(\n)(.*?)(^\))", _by_name, text)


def _by_name(match: re.Match[str]) -> str:
    """The columns of a table in the order of their names: pg_dump lawfully changes it in tables that inherit."""
    lines = sorted(line.rstrip(",") for line in match.group(2).splitlines())
    return match.group(1) + "\n".join(lines) + match.group(3)


def picture(db: Database) -> Picture:
    """All of a database: pg_dump's text, the rows of every table, what its materialized views hold, its properties."""
    found: Picture = {"structure": dumped(db).splitlines()}
    with db.connect() as conn:
        conn.execute(
            "SET client_encoding = UTF8; SET extra_float_digits = 1; SET TimeZone = 'UTC'; SET row_security = off"
        )
        tables = conn.execute(
            "SELECT c.oid::regclass::text, relkind::text,"
            " (SELECT string_agg(format('%I', attname), ', ' ORDER BY attname)"
            " FROM pg_attribute a WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) FROM pg_class c"
            " WHERE relnamespace >= 2200 AND relkind IN ('r', 'p', 'm', 'S') AND relispopulated"
            " AND NOT relispartition AND relpersistence <> 't' AND relnamespace <> 'information_schema'::regnamespace"
        ).fetchall()
        for name, kind, columns in tables:
            what = "last_value, is_called" if kind == "S" else columns or ""
            query = f"SELECT row({what})::text FROM {'' if kind == 'p' else 'ONLY'} {name} ORDER BY 1"
            found[f"rows of {name}"] = [row[0] for row in conn.execute(query.encode("utf-8", "surrogateescape"))]
        found["large objects"] = conn.execute(
            "SELECT oid, lo_get(oid) FROM pg_largeobject_metadata ORDER BY 1"
        ).fetchall()
        found["database"] = conn.execute(
            "SELECT datistemplate, datconnlimit, datcollate, pg_encoding_to_char(encoding), datdba::regrole::text,"
            " dattablespace, ARRAY(SELECT a::text FROM unnest(datacl) a ORDER BY 1) FROM pg_database"
            " WHERE datname = current_database()"
        ).fetchone()
    return found


def differing(before: Picture, after: Picture) -> str:
    """Where two pictures differ, in lines that can be read."""
    found = [*difflib.unified_diff(before["structure"], after["structure"], "before", "after", lineterm="")]
    keys = [key for key in before.keys() | after.keys() if key != "structure" and before.get(key) != after.get(key)]
    return "\n".join([*found, *(f"{key}: {before.get(key)} -> {after.get(key)}" for key in sorted(keys))])


def back_up(db: Database, folder: Path, **more: Any) -> dict[str, Any]:
    """A backup with fingerprints."""
    words = {"backup_dir": str(folder / "b"), "state_dir": str(folder / "s"), "fingerprints": True}
    return run_backup(options(db, **more.pop("login", {})), **words, **more)


def bring_back(db: Database, folder: Path, **more: Any) -> dict[str, Any]:
    """Restore the latest set."""
    words = {"backup_dir": str(folder / "b"), "state_dir": str(folder / "s"), "source": "latest", "grace_s": 0}
    words.update(confirm=db.name, accept=["*"], run_code=True)
    return run_restore(options(db, **more.pop("login", {})), **{**words, **more})


def lose(db: Database) -> None:
    """Drop the database."""
    with maintenance(db, autocommit=True) as conn:
        conn.execute(SQL("ALTER DATABASE {} IS_TEMPLATE false").format(Identifier(db.name)))
        conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(db.name)))


def after_a_restore(db: Database, folder: Path, **more: Any) -> tuple[Picture, Picture]:
    """The database as it was, and as it came back from a backup after it was dropped."""
    before = picture(db)
    back_up(db, folder, login=dict(more.get("login", {})))
    lose(db)
    bring_back(db, folder, **more)
    return before, picture(db)


def problems_of_a_drill(db: Database, folder: Path, place: str, **more: Any) -> list[str]:
    """What a drill of the latest set finds."""
    words = {"backup_dir": str(folder / "b"), "state_dir": str(folder / "s"), "place": place}
    home = make_home("scannerdb-mx-")
    home.chmod(0o755)  # a disposable cluster's own user has to get through
    try:
        login = options(db, **more)
        found: list[str] = run_verify(login, **words, cluster_dir=str(home))["verification"]["problems"]
        return found
    finally:
        shutil.rmtree(home, ignore_errors=True)
