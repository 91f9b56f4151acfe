"""A conversion of types beside the application's writers, killed at any point, and left half done."""

from __future__ import annotations

import datetime as dt
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from scannerdb.errors import InvalidInput
from scannerdb.finding import Reversal
from scannerdb.fixes.policy import FixPolicy
from scannerdb.fixes.retyped import backwards
from scannerdb.jobs.fix import Working
from scannerdb.jobs.undo import undo
from scannerdb.lockbudget import Budget

from tests.integration.fix.types_support import (
    CONVERT,
    DATES,
    KEPT,
    MADE,
    beside,
    blocked,
    converted,
    made,
    one_text,
)
from tests.integration.support import findings, options, run_fix
from tests.servers import Database, Databases

ROOT = Path(__file__).resolve().parents[3]
# As the old view script made it, for a table of texts.
OLD_TRIGGER = """
CREATE FUNCTION servers_insert_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO endpoints (ip, port, scan_date) VALUES (NEW.ip, NEW.port, NEW.scan_date);
    RETURN NEW;
END $$;
CREATE TRIGGER servers_insert INSTEAD OF INSERT ON servers FOR EACH ROW EXECUTE FUNCTION servers_insert_trigger();
ALTER FUNCTION servers_insert_trigger() OWNER TO ollama;
SELECT setval('endpoints_id_seq', 100000);
"""
RUN = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
import psycopg
from scannerdb.connection import Options, text_of
from scannerdb.fixes.policy import FixPolicy
from scannerdb.jobs.fix import Safety, Working, fix
from scannerdb.jobs.undo import undo

word, count, run_id, plain = sys.argv[3], int(sys.argv[4]), sys.argv[5], psycopg.Connection.execute

def execute(self, query, *args, **kwargs):
    global count
    done = plain(self, query, *args, **kwargs)
    count -= word in text_of(query)
    if not count:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

psycopg.Connection.execute = execute
words = json.loads(sys.argv[2])
options = Options(**{name: tuple(one) if isinstance(one, list) else one for name, one in words.items()})
policy = FixPolicy(types="convert", types_zone="Europe/Berlin", only=("schema.column.type",))
if run_id:
    undo(options, run_id=run_id, unsealed=True)
else:
    fix(options, policy=policy, safety=Safety(require_backup=False), working=Working(batch_rows=50))
print("done")
"""


@dataclass
class Writers:
    """The application's sessions, each of which writes again and again, and what it was told."""

    database: Database
    stop: threading.Event = field(default_factory=threading.Event)
    errors: list[str] = field(default_factory=list)
    last: dict[int, str] = field(default_factory=dict)
    inserted: list[str] = field(default_factory=list)

    def updates(self, number: int) -> None:
        with self.database.connect("ollama", prepare_threshold=None) as conn:
            for turn in self._turns():
                text = f"2026-03-01T00:{turn // 60 % 60:02}:{turn % 60:02}.{turn % 1000:03}"
                query = "UPDATE endpoints SET scan_date = %s, inactive_reason = %s WHERE id = %s"
                self._try(conn, query, [text, text, number])
                self.last[number] = text

    def inserts(self, relation: str) -> None:
        with self.database.connect("ollama", prepare_threshold=None) as conn:
            for turn in self._turns():
                query = f"INSERT INTO {relation} (ip, port, scan_date) VALUES (%s, 1, '2026-01-02 03:04:05')"
                self.inserted += [f"{relation} {turn}"] * self._try(conn, query, [f"{relation} {turn}"])
                self._try(conn, "SELECT scan_date FROM servers LIMIT 1", [])

    def _turns(self) -> Iterator[int]:
        turn = 0
        while not self.stop.is_set():
            turn += 1
            yield turn
            time.sleep(0.005)

    def _try(self, conn: psycopg.Connection[object], query: str, parameters: list[object]) -> int:
        try:
            conn.execute(query.encode(), parameters)
            return 1
        except psycopg.Error as error:
            self.errors.append(f"{query}: {error}")
            return 0


@contextmanager
def writing(database: Database) -> Iterator[Writers]:
    writers = Writers(database)
    work = [threading.Thread(target=writers.updates, args=[number]) for number in (1, 2)]
    work += [threading.Thread(target=writers.inserts, args=[name]) for name in ("endpoints", "servers")]
    for one in work:
        one.start()
    try:
        yield writers
    finally:
        writers.stop.set()
        for one in work:
            one.join()


def test_writers_see_no_error_and_lose_nothing(make_database: Databases) -> None:
    database = made(make_database, "sqlite")
    with database.connect() as conn:
        conn.execute(OLD_TRIGGER.encode())
    with writing(database) as writers:
        result = run_fix(database, policy=CONVERT, working=Working(batch_rows=100), budget=Budget(50, 60))
        there = dict(writers.last)
        back = undo(options(database), unsealed=True, run_id=result["run_id"], budget=Budget(50, 60))
    assert writers.errors == [] and len(there) == 2
    assert not result["failures"] and back["conflicts"] == []
    assert "endpoints.scan_date" in converted(result)
    assert sorted(row[0] for row in database.sql("SELECT ip FROM endpoints WHERE id > 100000")) == sorted(
        writers.inserted
    )
    for number, text in writers.last.items():
        # In between the column had a time zone, and the writer's session is in UTC: both readings are what it wrote.
        scanned = dt.datetime.fromisoformat(database.value("SELECT scan_date FROM endpoints WHERE id = %s", number))
        assert scanned.replace(tzinfo=None) == dt.datetime.fromisoformat(text)
    assert database.value(MADE) == database.value(KEPT) == 0


@pytest.mark.pg(17)
def test_what_cannot_be_read_and_comes_meanwhile_stops_the_swap(make_database: Databases) -> None:
    """The writer sees no error, the conversion ends without one, and nothing of it stays."""
    database = made(make_database, "sqlite")
    database.sql("SELECT setval('endpoints_id_seq', 100000)")
    with writing(database) as writers:
        started = threading.Event()

        def garbage() -> None:
            with database.connect("ollama", prepare_threshold=None) as conn:
                while not writers.stop.is_set():
                    if conn.execute(MADE.encode()).fetchone() != (0,):
                        conn.execute("UPDATE endpoints SET scan_date = 'soon' WHERE id = 5")
                        started.set()
                        return

        thread = threading.Thread(target=garbage)
        thread.start()
        result = run_fix(database, policy=CONVERT, working=Working(batch_rows=20))
        thread.join()
    left = {one["object"]: one["why"] for one in result["left_undone"] if one["id"] == "schema.column.type"}
    assert started.is_set() and not result["failures"]
    assert all("that cannot be read" in left[f"endpoints.{name}"] for name in ("scan_date", "is_active"))
    assert [error for error in writers.errors if "servers" not in error] == []
    assert database.value(MADE) == 0 and database.value("SELECT scan_date FROM endpoints WHERE id = 5") == "soon"


PAST_THE_TRIGGER = {
    "switched off": (
        'ALTER TABLE verified_endpoints DISABLE TRIGGER "~scannerdb_convert"',
        'ALTER TABLE verified_endpoints ENABLE ALWAYS TRIGGER "~scannerdb_convert"',
    ),
    "replaced": (
        "CREATE OR REPLACE FUNCTION scannerdb_convert_verified_endpoints() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RETURN NEW; END'",
        "",
    ),
}
TEXTS = "SELECT id, verification_date FROM verified_endpoints ORDER BY id"
ITS_TYPE = """
SELECT format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
 WHERE attrelid = 'verified_endpoints'::regclass AND attname = 'verification_date'
"""
NOTED = "SELECT count(*) FROM scannerdb_maintenance.journal WHERE operation = 'structure'"
SHORT = Budget(50, 1.0)


@pytest.mark.pg(17)
@pytest.mark.parametrize("way", list(PAST_THE_TRIGGER))
def test_what_is_written_past_the_trigger_is_not_lost(make_database: Databases, way: str) -> None:
    """The owner of the table has the trigger out of the way for a moment, just before the swap."""
    database = one_text(make_database)
    first, last = PAST_THE_TRIGGER[way]

    def write() -> None:
        with database.connect("ollama") as conn:
            conn.execute(first.encode())
            conn.execute("UPDATE verified_endpoints SET verification_date = '2026-07-07T00:00:00'")
            conn.execute(last.encode())

    with beside("_refuse_unreadable", write, table="verified_endpoints"):
        result = run_fix(database, policy=CONVERT)
    assert "was switched off or changed meanwhile" in str(result["left_undone"]), result["msg"]
    assert not result["changed"] and database.value(MADE) == database.value(NOTED) == 0
    assert {text for _, text in database.sql(TEXTS)} == {"2026-07-07T00:00:00"}


@pytest.mark.pg(17)
@pytest.mark.parametrize("goes_on", [False, True])
def test_what_fails_after_the_swap_keeps_its_way_back(make_database: Databases, goes_on: bool) -> None:
    database = one_text(make_database)
    rows = database.sql(TEXTS)
    with blocked(database, "swap", "SHARE UPDATE EXCLUSIVE", after=True):
        result = run_fix(database, policy=CONVERT, budget=SHORT)
    assert result["changed"] and "verified_endpoints is converted (verification_date), but" in result["msg"]
    assert f"undo.yml -e scannerdb_run_id={result['run_id']}" in result["msg"]
    assert database.sql(ITS_TYPE) == [("timestamp with time zone", False)]
    if goes_on:
        assert not run_fix(database, policy=FixPolicy(only=("schema.conversion.unfinished",)))["failures"]
        assert database.sql(ITS_TYPE) == [("timestamp with time zone", True)]
    back = undo(options(database), unsealed=True, run_id=result["run_id"])
    assert back["conflicts"] == [] and database.sql(TEXTS) == rows
    assert database.sql(ITS_TYPE) == [("text", True)] and database.value(MADE) == database.value(KEPT) == 0


@pytest.mark.pg(17)
@pytest.mark.parametrize(
    ("step", "mode"),
    [("_besides", "SHARE UPDATE EXCLUSIVE"), ("_refuse_unreadable", "ACCESS EXCLUSIVE"), ("swap", "ACCESS SHARE")],
)
def test_a_lock_that_is_not_to_be_had_costs_no_work(make_database: Databases, step: str, mode: str) -> None:
    """What stays is told, and the next run goes on with it."""
    database = one_text(make_database)
    rows = database.sql(TEXTS)
    with blocked(database, step, mode):
        result = run_fix(database, policy=CONVERT, budget=SHORT)
    assert result["changed"] and "No column of verified_endpoints has changed its type yet" in result["failures"][0]
    assert f"with the {len(rows)} rows that are converted beside" in result["failures"][0]
    assert database.value(MADE) >= 3 and database.value(NOTED) == 1 and database.sql(TEXTS) == rows
    again = run_fix(database, policy=CONVERT)
    assert again["fixed"][0]["rows"] == 1 and database.sql(ITS_TYPE) == [("timestamp with time zone", True)]
    for run_id in (again["run_id"], result["run_id"]):
        assert undo(options(database), unsealed=True, run_id=run_id)["conflicts"] == []
    assert database.sql(TEXTS) == rows and database.value(MADE) == database.value(KEPT) == 0


@pytest.mark.pg(17)
def test_a_lock_that_is_not_to_be_had_at_first_leaves_nothing(make_database: Databases) -> None:
    database = one_text(make_database)
    with blocked(database, "begin", "ACCESS SHARE"):
        result = run_fix(database, policy=CONVERT, budget=SHORT)
    assert not result["changed"] and "Nothing was changed by it" in result["failures"][0]
    assert database.value(MADE) == database.value(NOTED) == 0


def killed(database: Database, word: str, count: int, run_id: str = "") -> None:
    """A run, or its undo, in a process that is killed right after that many statements with that word in them."""
    words = [str(ROOT / "module_utils"), json.dumps(vars(options(database))), word, str(count), run_id]
    run = [sys.executable, "-c", RUN, *words]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.pg(17)
def test_killed_anywhere_the_next_run_goes_on_or_clears_up(make_database: Databases) -> None:
    database = made(make_database, "sqlite")
    rows = database.sql(DATES)
    killed(database, "ANALYZE", 1)
    assert [one["severity"] for one in findings(database)["schema.conversion.unfinished"]] == ["warning"]
    result = run_fix(database, policy=FixPolicy(only=("schema.conversion.unfinished",)))
    assert not result["failures"] and database.value(MADE) == 0
    # Each run goes on from what the one before has left.
    for word, count in (
        ("ADD COLUMN", 2),
        ("scannerdb_at", 2),
        ("CREATE INDEX", 1),
        ("ANALYZE", 2),
        ("RENAME COLUMN", 3),
    ):
        killed(database, word, count)
        with database.connect("ollama") as conn:
            conn.execute("UPDATE endpoints SET scan_date = '2026-02-03T04:05:06' WHERE id = 2")
    result = run_fix(database, policy=CONVERT)
    assert not result["failures"] and database.value(MADE) == 0
    assert "schema.column.type" not in findings(database)
    run_ids = [row[0] for row in database.sql("SELECT DISTINCT run_id FROM scannerdb_maintenance.journal ORDER BY 1")]
    for word in ("ANALYZE", "RENAME COLUMN"):
        killed(database, word, 1, run_ids[-1])
    for run_id in run_ids[::-1]:
        assert undo(options(database), unsealed=True, run_id=run_id)["conflicts"] == []
    assert [row for row in database.sql(DATES) if row[0] != 2] == [row for row in rows if row[0] != 2]
    assert database.value(MADE) == database.value(KEPT) == 0


def test_a_forged_way_back_is_no_way_in() -> None:
    """What a journal says of a conversion becomes names and known types only."""
    words = {"schema": "public", "table": "endpoints", "zone": "UTC"}
    for bad in ({"name": "x", "have": "text; DROP TABLE x", "want": "boolean"}, {"name": "x", "have": "text"}):
        with pytest.raises(InvalidInput, match="not one that this release makes"):
            backwards(Reversal("retype", {**words, "columns": [bad]}))
