"""The functions and triggers of the contract: their bodies, as PostgreSQL stores them.

They run with the rights of whoever writes (SECURITY INVOKER) and a fixed search_path. `{schema}` is filled in by ddl.py
with the composed identifier.
"""

from __future__ import annotations

from dataclasses import dataclass

SEARCH_PATH = "pg_catalog, pg_temp"
PREFIX = "scannerdb_"


@dataclass(frozen=True)
class Program:
    """A trigger function and the trigger that calls it, both named `name`."""

    name: str
    timing: str
    event: str
    relation: str
    body: str
    when: str = ""


SERVERS_INSERT = Program(
    "scannerdb_servers_insert",
    "INSTEAD OF",
    "INSERT",
    "servers",
    """
BEGIN
    INSERT INTO {schema}.endpoints AS e (ip, port, scan_date, verified, verification_date)
    VALUES (NEW.ip, coalesce(NEW.port, 11434), coalesce(NEW.scan_date, now()), 1, now())
    ON CONFLICT (ip, port) DO UPDATE
       SET verified = 1,
           scan_date = EXCLUDED.scan_date,
           verification_date = coalesce(e.verification_date, now())
    RETURNING e.id, e.ip, e.port, e.scan_date INTO NEW.id, NEW.ip, NEW.port, NEW.scan_date;
    INSERT INTO {schema}.verified_endpoints (endpoint_id) VALUES (NEW.id) ON CONFLICT (endpoint_id) DO NOTHING;
    RETURN NEW;
END;
""",
)

SERVERS_UPDATE = Program(
    "scannerdb_servers_update",
    "INSTEAD OF",
    "UPDATE",
    "servers",
    """
BEGIN
    IF NEW.id IS DISTINCT FROM OLD.id THEN
        RAISE EXCEPTION 'the id of a server cannot be changed (from % to %)', OLD.id, NEW.id
            USING ERRCODE = 'feature_not_supported', HINT = 'Delete the server and insert it again.';
    END IF;
    UPDATE {schema}.endpoints AS e SET ip = NEW.ip, port = NEW.port, scan_date = NEW.scan_date
     WHERE e.id = OLD.id
    RETURNING e.ip, e.port, e.scan_date INTO NEW.ip, NEW.port, NEW.scan_date;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO {schema}.verified_endpoints (endpoint_id) VALUES (OLD.id) ON CONFLICT (endpoint_id) DO NOTHING;
    RETURN NEW;
END;
""",
)

SERVERS_DELETE = Program(
    "scannerdb_servers_delete",
    "INSTEAD OF",
    "DELETE",
    "servers",
    """
BEGIN
    DELETE FROM {schema}.endpoints AS e WHERE e.id = OLD.id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN OLD;
END;
""",
)

VIEW_PROGRAMS = {program.event: program for program in (SERVERS_INSERT, SERVERS_UPDATE, SERVERS_DELETE)}

# What the old scripts installed under these names hands back no id and knows no default port; it is replaced.
PREDECESSORS = frozenset({"servers_insert_trigger", "servers_update_trigger", "servers_delete_trigger"})


def stamp_program(column: str, when_changed: tuple[str, ...]) -> Program:
    """The row trigger that moves a date of endpoints to now when other columns change."""
    conditions = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in when_changed)
    body = f"\nBEGIN\n    NEW.{column} := now();\n    RETURN NEW;\nEND;\n"
    return Program(f"scannerdb_stamp_{column}", "BEFORE", "UPDATE", "endpoints", body, when=conditions)
