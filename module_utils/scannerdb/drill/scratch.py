"""The scratch databases of restore drills: marked as ours, dropped whatever happens, and swept when a run was killed.

The comment decides whose a database is. One without any comment is ours only under the exact name that this code gives
for the drilled database: a run that was killed between creating and marking it.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass

from ..connection import SQL, Connection, DriverError, Identifier, Literal, explained, fetch, scalar
from ..jsontext import read_json

KEY, KIND = "scannerdb", "drill"
GONE_S = 5.0  # the server sessions of a killed run end by themselves within this


@dataclass(frozen=True)
class ScratchMark:
    """What the comment on a scratch database says."""

    database: str
    run_id: str
    at: str
    source: str

    def text(self) -> str:
        """The mark as a comment."""
        note = "Made by a restore drill; removed at its end, or by the next drill if it is left over."
        values = {KEY: KIND, "database": self.database, "run_id": self.run_id, "at": self.at, "source": self.source}
        return json.dumps({**values, "note": note}, ensure_ascii=False)


def scratch_name(database: str, run_id: str) -> str:
    """The name of a run's scratch database: a hash of the drilled one's name, then the run's own mark. Pure."""
    return f"{_prefix(database)}{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def _prefix(database: str) -> str:
    return f"scannerdb_drill_{hashlib.sha256(database.encode()).hexdigest()[:8]}_"


def is_left_over(name: str, comment: str | None, database: str) -> bool:
    """True where a database is the scratch of a drill of `database`, given that no drill of it runs now. Pure."""
    if comment is None:
        tail = name[len(_prefix(database)) :]
        return name.startswith(_prefix(database)) and len(tail) == 8 and set(tail) <= set("0123456789abcdef")
    try:
        values = read_json(comment)
        return bool(values[KEY] == KIND and values["database"] == database)
    except (ValueError, KeyError, TypeError):
        return False


def left_over(conn: Connection, database: str) -> list[str]:
    """The scratch databases that killed drills of this database left. The caller holds the job lock."""
    with explained("Listing the databases"):
        rows = fetch(
            conn,
            "SELECT datname::text AS name, shobj_description(oid, 'pg_database') AS comment FROM pg_database"
            " WHERE NOT datistemplate ORDER BY 1",
        )
    others = [row for row in rows if row["name"] != database]
    return [row["name"] for row in others if is_left_over(row["name"], row["comment"], database)]


def mark(conn: Connection, name: str, text: str) -> None:
    """Write whose it is onto a new scratch database, and shut everybody else out."""
    conn.execute(SQL("COMMENT ON DATABASE {} IS {}").format(Identifier(name), Literal(text)))
    conn.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(Identifier(name)))


def drop(conn: Connection, name: str) -> None:
    """Drop a scratch database; sessions that a killed client left in it are waited for, then ended."""
    deadline = time.monotonic() + GONE_S
    while _busy(conn, name) and time.monotonic() < deadline:
        time.sleep(0.1)
    with explained(f"Removing the scratch database {name!r}"):
        try:
            conn.execute(SQL("DROP DATABASE IF EXISTS {}").format(Identifier(name)))
        except DriverError:
            conn.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))


def _busy(conn: Connection, name: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usesysid IS NOT NULL"
    return int(scalar(conn, query, [name]) or 0)
