"""The cutover: one block on the server that puts a proven database in the place of the live one.

The block is sent from the maintenance database and finishes even though its client is killed: the check for a dead
client is off while it runs, and it says nothing that would have to be written to a closed socket. It closes the live
database and commits; only then can the rest be certain that nobody comes back. Both renames, both comments and the
reopening are one transaction, so a crash leaves either the old state, closed and marked (healed by `heal.py`), or the
new one, complete.

While the doors are closed no commit waits for the disk or a standby. A crash can then lose the last commits only in
their order, which leads to one of the same two states, and whatever a client commits in the new database takes ours to
the disk with it. The block's last commit does wait, so an answer means that all of it is durable.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..connection import SQL, Composable, Connection, DriverError, Literal, explained, scalar
from ..errors import RestoreRefused
from .marks import DatabaseMark

PATIENCE_S = 10.0
PUT_BACK = "SD001"  # the block's own SQLSTATE: it failed, and everything is as it was
SETTINGS = {
    "client_connection_check_interval": "0",
    "client_min_messages": "error",
    "lock_timeout": "3s",
    "statement_timeout": "0",
    "transaction_timeout": "0",  # PostgreSQL 17 and newer
    "synchronous_commit": "off",
}


@dataclass(frozen=True)
class Switch:
    """What a cutover does: `incoming` becomes `live`, and what is `live` now is kept under the name `kept`.

    `live_exists` is false where there is nothing to keep. `mark` is the comment that `incoming` has now, `kept_mark`
    the one that the replaced database gets, `comment` the live database's own. With `terminate`, sessions that remain
    are ended; without, they stop the cutover after `patience_s`. Without `cut_slots` a logical replication slot of the
    live database stops it, also one that was made after everything else was looked at. `holder` is the process of ours
    that keeps everybody from writing to the live database: it is ended last, when nobody is left who could write.
    """

    live: str
    incoming: str
    kept: str
    live_exists: bool
    mark: DatabaseMark
    kept_mark: DatabaseMark
    comment: str = ""
    terminate: bool = False
    cut_slots: bool = False
    holder: int = 0
    patience_s: float = PATIENCE_S


@dataclass(frozen=True)
class Switched:
    """How a cutover went, as the server measured it: milliseconds closed, and how many sessions were ended."""

    closed_ms: float
    ended: int


# One statement; %-signs are format()'s. The constants it reads are declared by block().
_BODY = """
  me constant integer := pg_backend_pid();
  deadline timestamptz;
  closed timestamptz;
  trouble text;
  people text;
  ended integer := 0;
  holding integer := holder;
  back boolean := false;
  who record;
BEGIN
  -- The incoming database first: whoever looks at it must be gone before the live one is closed.
  BEGIN
    EXECUTE format('COMMENT ON DATABASE %I IS %L', incoming, switching);
    EXECUTE format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS false', incoming);
  EXCEPTION WHEN OTHERS OR query_canceled THEN trouble := SQLERRM;
  END;
  COMMIT;
  IF trouble IS NULL THEN
    BEGIN
      deadline := clock_timestamp() + patience;
      LOOP
        PERFORM pg_stat_clear_snapshot();
        people := NULL;
        FOR who IN SELECT pid, usesysid, coalesce(usename::text, '?') AS usename, application_name
                     FROM pg_stat_activity WHERE datname = incoming AND pid <> me LOOP
          BEGIN
            IF terminate OR who.usesysid IS NULL THEN PERFORM pg_terminate_backend(who.pid); END IF;
          EXCEPTION WHEN insufficient_privilege THEN NULL;
          END;
          IF who.usesysid IS NOT NULL THEN
            people := concat_ws(', ', people, format('%L (%L)', who.usename, who.application_name));
          END IF;
        END LOOP;
        EXIT WHEN people IS NULL;
        IF clock_timestamp() > deadline THEN
          RAISE EXCEPTION 'sessions remain in the database that was to come in: %', people;
        END IF;
        PERFORM pg_sleep(0.02);
      END LOOP;
    EXCEPTION WHEN OTHERS OR query_canceled THEN trouble := SQLERRM;
    END;
  END IF;
  -- The live database: nobody new gets in from this commit on.
  IF trouble IS NULL AND live_exists THEN
    BEGIN
      EXECUTE format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS false', live);
    EXCEPTION WHEN OTHERS OR query_canceled THEN trouble := SQLERRM;
    END;
  END IF;
  COMMIT;
  closed := clock_timestamp();
  IF trouble IS NULL THEN
    BEGIN
      deadline := clock_timestamp() + patience;
      LOOP
        WHILE live_exists LOOP
          PERFORM pg_stat_clear_snapshot();
          people := NULL;
          FOR who IN SELECT pid, usesysid, coalesce(usename::text, '?') AS usename, application_name
                       FROM pg_stat_activity WHERE datname = live AND pid <> me AND pid <> holding LOOP
            BEGIN
              -- Autovacuum has no user; where we may not end it, the rename does.
              IF (terminate OR who.usesysid IS NULL) AND pg_terminate_backend(who.pid) THEN ended := ended + 1; END IF;
            EXCEPTION WHEN insufficient_privilege THEN NULL;
            END;
            IF who.usesysid IS NOT NULL THEN
              people := concat_ws(', ', people, format('%L (%L)', who.usename, who.application_name));
            END IF;
          END LOOP;
          IF people IS NULL AND holding > 0 THEN
            IF NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = live AND pid = holding) THEN
              RAISE EXCEPTION 'the session that kept others from writing to it has ended';
            END IF;
            PERFORM pg_terminate_backend(holding);
            holding := 0;
            CONTINUE;
          END IF;
          EXIT WHEN people IS NULL;
          IF clock_timestamp() > deadline THEN
            RAISE EXCEPTION 'sessions remain: %', people;
          END IF;
          PERFORM pg_sleep(0.001);
        END LOOP;
        IF live_exists AND NOT cut_slots THEN
          SELECT string_agg(slot_name::text, ', ' ORDER BY slot_name) INTO people
            FROM pg_replication_slots WHERE database = live;
          IF people IS NOT NULL THEN
            RAISE EXCEPTION 'logical replication slots hang on it that were not there before: %', people;
          END IF;
        END IF;
        BEGIN
          IF live_exists THEN
            EXECUTE format('ALTER DATABASE %I RENAME TO %I', live, kept);
            EXECUTE format('COMMENT ON DATABASE %I IS %L', kept, kept_mark);
            EXECUTE format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS true', kept);
          END IF;
          EXECUTE format('ALTER DATABASE %I RENAME TO %I', incoming, live);
          EXECUTE format('COMMENT ON DATABASE %I IS %L', live, comment);
          EXECUTE format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS true', live);
          EXIT;
        EXCEPTION WHEN object_in_use THEN  -- the rename saw somebody on his way in or out: look again
          IF clock_timestamp() > deadline THEN RAISE; END IF;
        END;
      END LOOP;
      back := true;
    EXCEPTION WHEN OTHERS OR query_canceled THEN trouble := SQLERRM;
    END;
    COMMIT;
    PERFORM set_config('scannerdb.cutover', json_build_object('ended', ended, 'closed_ms',
      round(extract(epoch FROM clock_timestamp() - closed)::numeric * 1000, 1))::text, false);
  END IF;
  -- What went wrong took its renames back with it: open the doors again, and keep trying.
  FOR attempt IN 1..100 LOOP
    EXIT WHEN back;
    BEGIN
      IF live_exists THEN EXECUTE format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS true', live); END IF;
      EXECUTE format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS true', incoming);
      EXECUTE format('COMMENT ON DATABASE %I IS %L', incoming, resting);
      back := true;
    EXCEPTION WHEN OTHERS OR query_canceled THEN PERFORM pg_sleep(0.05);
    END;
    COMMIT;
  END LOOP;
  -- One commit that waits for the disk takes all before it along.
  BEGIN
    SET LOCAL synchronous_commit = on;
    PERFORM pg_logical_emit_message(true, 'scannerdb', 'cutover');
  EXCEPTION WHEN OTHERS OR query_canceled THEN NULL;  -- then it is there within a second
  END;
  COMMIT;
  IF NOT back THEN
    RAISE EXCEPTION '%, and the database could not be opened again', trouble USING ERRCODE = 'SD002';
  ELSIF trouble IS NOT NULL THEN
    RAISE EXCEPTION '%', trouble USING ERRCODE = 'SD001';
  END IF;
END
"""


def block(switch: Switch) -> Composable:
    """The DO statement of a cutover. Pure."""
    constants: dict[str, tuple[str, Any]] = {
        "live": ("text", switch.live),
        "incoming": ("text", switch.incoming),
        "kept": ("text", switch.kept),
        "live_exists": ("boolean", switch.live_exists),
        "switching": ("text", replace(switch.mark, switching=True).text()),
        "resting": ("text", replace(switch.mark, switching=False).text()),
        "kept_mark": ("text", switch.kept_mark.text()),
        "comment": ("text", switch.comment or None),
        "terminate": ("boolean", switch.terminate),
        "cut_slots": ("boolean", switch.cut_slots),
        "holder": ("integer", switch.holder),
        "patience": ("interval", f"{switch.patience_s} seconds"),
    }
    lines = ["DECLARE\n"]
    lines += [f"  {name} constant {kind} := {_quoted(value)}::{kind};\n" for name, (kind, value) in constants.items()]
    return SQL("DO {}").format(Literal("".join(lines) + _BODY))


def _quoted(value: Any) -> str:
    """A value as an SQL literal inside the block's text, whatever standard_conforming_strings says."""
    if value is None:
        return "NULL"
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"E'{text}'"


def switch_over(conn: Connection, switch: Switch) -> Switched:
    """Run a cutover on a connection to the maintenance database, which must be neither of the two.

    Raises `RestoreRefused` where the server could not do it and put everything back, `ConnectionFailed` where the
    outcome is not known because the connection broke: the next run finds out, and heals.
    """
    with explained(f"The cutover of database {switch.live!r}"), _undisturbed(conn):
        try:
            conn.execute(block(switch))
        except DriverError as error:
            state, why = getattr(error, "sqlstate", ""), str(error).splitlines()[0].rstrip(".")
            if state == PUT_BACK:
                raise RestoreRefused(
                    f"The cutover of database {switch.live!r} did not happen: {why}.",
                    "It is open again under its own name, as it was.",
                ) from error
            raise
        told = json.loads(scalar(conn, "SELECT current_setting('scannerdb.cutover', true)") or "{}")
    return Switched(float(told.get("closed_ms", 0)), int(told.get("ended", 0)))


@contextlib.contextmanager
def _undisturbed(conn: Connection) -> Iterator[None]:
    """Settings under which the block cannot be cut short by its client's death or by a timeout of the role."""
    before: dict[str, str] = {}
    for name, value in SETTINGS.items():
        known = scalar(conn, "SELECT current_setting(%s, true)", [name])
        if known is not None:
            before[name] = known
            conn.execute("SELECT set_config(%s, %s, false)", [name, value])
    try:
        yield
    finally:
        if not conn.closed:
            for name, value in before.items():
                with contextlib.suppress(DriverError):
                    conn.execute("SELECT set_config(%s, %s, false)", [name, value])
