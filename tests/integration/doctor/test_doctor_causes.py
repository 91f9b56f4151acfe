"""More causes that the doctor knows, each made for real on a server of the test's own: gate, limits, files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scannerdb.errors import ServerUnsupported
from scannerdb.jobs.doctor import Places, doctor
from scannerdb.jobs.schema import schema

from demo.server import Server
from tests.integration.doctor.doctor_support import places, wrongs
from tests.integration.own_server import own_databases, own_db, own_server, small_disk, wait_for
from tests.integration.playbooks import ROOT
from tests.integration.support import options, run_backup, run_verify
from tests.needs import needs
from tests.servers import Database, find_bin_dir, lone_server
from tests.system.needs import OLD_SERVER, faketime_library

__all__ = ["own_databases", "own_db", "own_server", "places"]


@contextlib.contextmanager
def gate(server: Server, lines: str) -> Iterator[None]:
    """Another pg_hba.conf, for the block."""
    path = server.data / "pg_hba.conf"
    before = path.read_text()
    try:
        path.write_text(lines)
        os.kill(server.pid, signal.SIGHUP)
        yield
    finally:
        path.write_text(before)
        os.kill(server.pid, signal.SIGHUP)


def login_refused(database: Database, places: Places, words: str) -> bool:
    """Whether the doctor says so of a login over TCP; the server reads its gate anew when it comes to it."""
    over = {"host": "127.0.0.1", "unix_socket": "", "password": database.server.password}
    return words in wrongs(doctor(options(database, **over), places)).get("login", "")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("local all all trust\n", "Add a line for this client to pg_hba.conf"),
        ("local all all trust\nhost all all 127.0.0.1/32 reject\n", "Put a line that lets this client in before"),
    ],
)
def test_a_gate_that_lets_nobody_in(own_db: Database, places: Places, lines: str, words: str) -> None:
    assert not login_refused(own_db, places, words)
    with gate(own_db.server, lines):
        wait_for(lambda: login_refused(own_db, places, words))


def test_an_extension_whose_files_are_gone(own_db: Database, places: Places) -> None:
    """As after an upgrade of the server without its extensions: the catalog knows it, the machine does not."""
    assert "extensions" not in wrongs(doctor(options(own_db), places))
    with own_db.connect() as conn:
        conn.execute("SET allow_system_table_mods = on")
        conn.execute(
            "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)"
            " VALUES (99999, 'gone_away', 10, 'public'::regnamespace, false, '1')"
        )
    found = wrongs(doctor(options(own_db), places))["extensions"]
    assert "lacks the files of gone_away" in found and "Install them on the server" in found


def test_a_server_that_is_nearly_full(own_db: Database, places: Places) -> None:
    most = int(own_db.value("SELECT current_setting('max_connections')"))
    with contextlib.ExitStack() as stack:
        assert "connections" not in wrongs(doctor(options(own_db), places))
        for _ in range(int(most * 0.9) + 1):
            stack.enter_context(contextlib.closing(own_db.connect()))
        assert "connections are in use" in wrongs(doctor(options(own_db), places))["connections"]


def test_a_server_without_a_free_connection(own_db: Database, places: Places) -> None:
    own_db.sql("CREATE ROLE doctor_last LOGIN CONNECTION LIMIT 1")
    with contextlib.closing(own_db.connect("doctor_last")):
        found = wrongs(doctor(options(own_db, user="doctor_last"), places))
    assert "connection" in found["server"], found


@needs("postgresql-15")
def test_a_pg_dump_that_is_too_old(own_db: Database, places: Places) -> None:
    older = str(find_bin_dir(15))
    found = wrongs(doctor(options(own_db, pg_bin_dir=older), places))
    assert "the server is PostgreSQL 17" in found["pg_dump"] and "postgresql-client-17" in found["pg_dump"]


def test_a_disk_that_is_full(own_db: Database, places: Places) -> None:
    with small_disk(Path(places.backup_dir), 1 << 20):
        Path(places.backup_dir).chmod(0o700)
        found = wrongs(doctor(options(own_db), places))
    assert "needs about 100 MiB" in found["folder: backups"] and "df -h" in found["folder: backups"]


def test_a_disk_without_an_inode(own_db: Database, places: Places) -> None:
    with small_disk(Path(places.log_dir), 256 << 20, inodes=3) as folder:
        folder.chmod(0o700)
        assert "folder: logs" not in wrongs(doctor(options(own_db), places))
        with pytest.raises(OSError, match="No space left"):
            for name in "abc":  # the folder has one already
                (folder / name).touch()
        found = wrongs(doctor(options(own_db), places))["folder: logs"]
    assert "has no inode left" in found and "df -i" in found


LATE = """
import dataclasses, json, sys
from scannerdb.connection import Options
from scannerdb.jobs.doctor import Places, doctor
values, places = json.loads(sys.argv[1])
values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
print(json.dumps(doctor(Options(**values), Places(*places))["diagnoses"]))
"""


@needs("faketime")
@pytest.mark.parametrize("seconds", [0, 120, -90])
def test_a_clock_that_is_wrong(own_db: Database, places: Places, seconds: int) -> None:
    """The doctor on a machine whose clock goes so much ahead; the server's goes right."""
    values = json.dumps([dataclasses.asdict(options(own_db)), dataclasses.astuple(places)])
    lie = {"LD_PRELOAD": str(faketime_library()), "FAKETIME": f"{seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    where = {**os.environ, **lie, "PYTHONPATH": str(ROOT / "module_utils")}
    told = subprocess.run(
        [sys.executable, "-c", LATE, values], capture_output=True, text=True, check=True, env=where
    ).stdout
    clock = next(one for one in json.loads(told) if one["cause"] == "clock")
    if not seconds:
        assert clock["state"] == "fine"
        return
    assert clock["state"] == "wrong" and "chrony" in clock["hint"]
    said = int(re.search(r"differ by ([+-]\d+) s", clock["message"])[1])  # type: ignore[index]
    assert abs(said + seconds) <= 60, "the machine is busy, but not that busy"


@needs("postgresql-13")
def test_a_server_that_is_too_old(places: Places) -> None:
    """A real one. Every job says so, not the doctor alone, and has written nothing."""
    with lone_server(OLD_SERVER, {}) as old:
        found = wrongs(doctor(options(old), places))
        assert "is PostgreSQL 13; 14 is the oldest that is supported. Upgrade the server." in found["server"]
        with pytest.raises(ServerUnsupported, match="is PostgreSQL 13"):
            run_backup(options(old), backup_dir=places.backup_dir, state_dir=places.state_dir)
        with pytest.raises(ServerUnsupported, match="is PostgreSQL 13"):
            schema(options(old))
        assert old.sql("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'scannerdb%'") == []
    assert list(Path(places.backup_dir).glob("*.backup")) == []


def test_a_backup_that_is_damaged(own_db: Database, places: Places) -> None:
    run_backup(options(own_db), backup_dir=places.backup_dir, state_dir=places.state_dir, verify_level="none")
    (made,) = (path for path in Path(places.backup_dir).glob("*.backup") if not path.is_symlink())
    next(made.glob("dump/*.dat*")).write_bytes(b"")
    run_verify(options(own_db), backup_dir=places.backup_dir, state_dir=places.state_dir, level="checksum")
    assert f"Damaged: {made.name}" in wrongs(doctor(options(own_db), places))["backups"]


def test_timers_need_systemd(own_db: Database, places: Places) -> None:
    job = {"name": "daily", "profile": "daily", "hour": 3, "minute": 0, "log": "cron_backup.log"}
    values = {"kind": "timer", "timezone": "", "offset": 0, "random_delay_s": 0, "time_limit_s": 0, "jobs": [job]}
    Path(places.config_dir, "schedule.json").write_text(json.dumps({**values, "entries": {}}))
    found = wrongs(doctor(options(own_db), places))
    assert ("scheduler" in found) != Path("/run/systemd/system").is_dir()
    Path(places.config_dir, "schedule.json").write_text("{torn")
    assert "schedule.yml again" in wrongs(doctor(options(own_db), places))["schedule"]


ALONE = """
import dataclasses, json, sys
sys.modules["psycopg"] = None  # as where it is not installed
from scannerdb.connection import Options
from scannerdb.jobs.doctor import Places, doctor
print(json.dumps(doctor(Options(), Places(*json.loads(sys.argv[1])))["diagnoses"]))
"""


def test_a_machine_without_the_driver_is_looked_at_all_the_same(places: Places) -> None:
    command = [sys.executable, "-c", ALONE, json.dumps(dataclasses.astuple(places))]
    where = {**os.environ, "PYTHONPATH": str(ROOT / "module_utils")}
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=where).stdout
    by_cause = {one["cause"]: one for one in json.loads(told)}
    assert by_cause["driver"]["state"] == "wrong" and "psycopg" in by_cause["driver"]["message"]
    assert by_cause["backups"]["state"] == "wrong" and by_cause["privileges"]["state"] == "unknown"
