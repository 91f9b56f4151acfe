"""What the restore tests share: the whole state of a database as a value, the job's options, old-style dumps."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier
from scannerdb.connection import Options, connect
from scannerdb.restore.heal import find, set_comment

from tests.servers import Database

ROOT = Path(__file__).resolve().parents[3]
RELATIONS = """
SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relkind::text, pg_get_userbyid(c.relowner),
       ARRAY(SELECT a::text FROM unnest(c.relacl) a ORDER BY 1)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = c.oid AND NOT i.indisvalid) -- which no dump has
 ORDER BY 1
"""
PROPERTIES = """
SELECT pg_get_userbyid(datdba)::text, ARRAY(SELECT a::text FROM unnest(datacl) a ORDER BY 1), datconnlimit,
       pg_encoding_to_char(encoding), datcollate, datctype,
       shobj_description(d.oid, 'pg_database'),
       ARRAY(SELECT format('%s %s', coalesce(setrole::regrole::text, '-'), setconfig) FROM pg_db_role_setting
              WHERE setdatabase = d.oid ORDER BY 1), datallowconn
  FROM pg_database d WHERE datname = current_database()
"""


def options(db: Database, **more: Any) -> Options:
    """The connection options of the jobs."""
    login = db.login
    values = {
        "unix_socket": login["login_unix_socket"],
        "port": login["login_port"],
        "user": login["login_user"],
        "db": db.name,
        "pg_bin_dir": login["pg_bin_dir"],
    }
    return Options(**{**values, **more})


def state(db: Database) -> dict[str, Any]:
    """Everything a restore has to bring back: rows, sequences, owners, grants, the database's own properties."""
    found: dict[str, Any] = {}
    with db.connect() as conn:
        conn.execute("SET TimeZone = 'UTC'")
        found["database"] = conn.execute(PROPERTIES).fetchone()
        found["relations"] = conn.execute(RELATIONS.encode()).fetchall()
        for name, kind, _owner, _acl in found["relations"]:
            if kind == "r":
                query = f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {name} t"
                found[f"rows of {name}"] = conn.execute(query.encode()).fetchone()
            elif kind == "S":
                found[f"state of {name}"] = conn.execute(
                    f"SELECT last_value, is_called FROM {name}".encode()
                ).fetchone()
        found["functions"] = conn.execute(
            "SELECT proname::text, prosrc, proacl::text FROM pg_proc"
            " WHERE pronamespace = 'public'::regnamespace ORDER BY 1, 2"
        ).fetchall()
    return found


def maintenance(db: Database, **more: Any) -> psycopg.Connection[Any]:
    """A connection to the maintenance database."""
    return db.connect(dbname="postgres", **more)


def databases(db: Database) -> set[str]:
    """The names of all databases."""
    with maintenance(db) as conn:
        return {row[0] for row in conn.execute("SELECT datname::text FROM pg_database").fetchall()}


def oid(db: Database, name: str = "") -> int:
    """The oid of the database of that name."""
    with maintenance(db) as conn:
        row = conn.execute("SELECT oid FROM pg_database WHERE datname = %s", [name or db.name]).fetchone()
    return row[0] if row else 0


def furnish(db: Database) -> None:
    """Give the database an owner, privileges, settings, a comment and a limit of its own."""
    name = Identifier(db.name)
    statements = [
        SQL("ALTER DATABASE {} OWNER TO scanner_owner").format(name),
        SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(name),
        SQL("GRANT CONNECT ON DATABASE {} TO ollama WITH GRANT OPTION").format(name),
        SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO grafana_ro").format(name),
        SQL('ALTER DATABASE {} SET search_path TO public, "Odd, name"').format(name),
        SQL("ALTER DATABASE {} SET work_mem TO '12MB'").format(name),
        SQL("ALTER DATABASE {} SET default_transaction_deferrable TO on").format(name),
        SQL("ALTER DATABASE {} SET scannerdb_test.note TO 'it''s; a \\ note'").format(name),
        SQL("ALTER ROLE ollama IN DATABASE {} SET statement_timeout TO '61s'").format(name),
        SQL("COMMENT ON DATABASE {} IS 'It''s the \"scanner\" {{}}'").format(name),
        SQL("ALTER DATABASE {} CONNECTION LIMIT 33").format(name),
    ]
    with db.connect() as conn:
        for statement in statements:
            conn.execute(statement)


def damage(db: Database) -> None:
    """What people restore from: rows gone, a table gone."""
    db.sql("DELETE FROM models")
    db.sql("UPDATE endpoints SET ip = '0.0.0.0', port = id")
    db.sql("DROP TABLE chat_history CASCADE")


def old_dump(db: Database, path: Path, form: str = "c", *more: str) -> Path:
    """A dump as the old script made it."""
    arguments = [str(db.server.bin_dir / "pg_dump"), f"-F{form}", "-f", str(path), *more]
    environment = {"PGHOST": str(db.server.socket_dir), "PGPORT": str(db.server.port), "PGUSER": "postgres"}
    subprocess.run(arguments, env={**environment, "PGDATABASE": db.name}, check=True)
    return path


def ansible_module(name: str, values: dict[str, Any], check: bool = False) -> dict[str, Any]:
    """Run a module the way Ansible does, and return its answer."""
    command = [str(Path(sys.executable).parent / "ansible"), "localhost", "-i", "localhost,", "-c", "local", "-o"]
    command += ["-m", name, "-a", json.dumps(values), "-e", json.dumps({"ansible_python_interpreter": sys.executable})]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    command += ["--check", "--diff"] if check else []
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    start = told.stdout.find("=> {")
    assert start >= 0, told.stdout + told.stderr
    answer: dict[str, Any] = json.JSONDecoder().raw_decode(told.stdout[start + 3 :])[0]
    return {"failed": "FAILED" in told.stdout[:start], **answer}


def age(db: Database, name: str, hours: float) -> None:
    """Make a kept database older than it is."""
    with connect(options(db), dbname="postgres") as conn:
        mark = next(f.mark for f in find(conn, db.name) if f.name == name)
        assert mark
        then = datetime.datetime.now(tz=datetime.timezone.utc) - datetime.timedelta(hours=hours)
        set_comment(conn, name, replace(mark, at=f"{then:%Y-%m-%dT%H:%M:%SZ}").text())
