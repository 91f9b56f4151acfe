"""Hooks around a backup: commands and webhooks that hear of it, and that never fail or hold it."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from scannerdb import process
from scannerdb.errors import DatabaseMissing, InvalidInput
from scannerdb.sets.locate import find_set
from scannerdb.sets.manifest import read_manifest

from tests.integration.backup.backup_support import ROWS, options_of, run
from tests.integration.playbooks import Site, site
from tests.integration.support import run_backup, wait_until
from tests.servers import Database

__all__ = ["site"]
pytestmark = pytest.mark.pg(17)  # the version of the server does not matter


def note(tmp_path: Path, extra: str = "") -> list[str]:
    """A command that notes its environment and arguments."""
    code = (
        "import json, os, sys; f = open(sys.argv[1], 'a'); "
        "d = {k: v for k, v in os.environ.items() if k.startswith('SCANNERDB_')}; d['args'] = sys.argv[2:]; "
        "f.write(json.dumps(d) + chr(10)); f.close(); " + extra
    )
    return [sys.executable, "-c", code, str(tmp_path / "notes"), "$HOME; `id`", "a b"]


def notes(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "notes").read_text(encoding="utf-8").splitlines()]


def test_hooks_hear_of_a_backup(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    hooks = {f"hook_{event}": note(tmp_path) for event in ("pre_backup", "post_backup", "on_failure")}
    run(database, tmp_path, check_mode=True, **hooks)
    assert not (tmp_path / "notes").exists()
    result = run(database, tmp_path, **hooks)
    before, after = notes(tmp_path)
    assert before["args"] == ["$HOME; `id`", "a b"], "no shell has seen them"
    assert (before["SCANNERDB_EVENT"], after["SCANNERDB_EVENT"]) == ("pre_backup", "post_backup")
    assert after["SCANNERDB_NAME"] == result["backup"]["name"]
    assert after["SCANNERDB_PATH"] == result["backup"]["path"]
    assert (after["SCANNERDB_DATABASE"], after["SCANNERDB_VERIFIED"]) == (database.name, "read")
    assert after["SCANNERDB_RUN_ID"] == before["SCANNERDB_RUN_ID"] == result["run_id"]
    assert after["SCANNERDB_MESSAGE"] == result["msg"]
    assert result["warnings"] == []


def test_a_webhook_is_called(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    heard: list[tuple[str, dict[str, Any]]] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((self.path, json.loads(body)))
            self.send_response(500 if "broken" in self.path else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        good = {"hook_pre_backup": [f"{place}/start"], "hook_post_backup": [f"{place}/ping/s3cret?x=1"]}
        result = run(database, tmp_path, **good)
        assert result["warnings"] == []
        assert [path for path, _ in heard] == ["/start", "/ping/s3cret?x=1"]
        told = heard[1][1]
        assert (told["event"], told["name"]) == ("post_backup", result["backup"]["name"])
        assert (told["verified"], told["message"]) == ("read", result["msg"])
        with pytest.raises(DatabaseMissing):
            run_absent = {
                "backup_dir": str(tmp_path / "b"),
                "state_dir": str(tmp_path / "s"),
                "hook_on_failure": [f"{place}/fail"],
            }
            run_backup(options_of(database, db="absent"), **run_absent)
        assert heard[-1][1]["event"] == "on_failure"
        broken = run(database, tmp_path, hook_post_backup=[f"{place}/broken/s3cret"])
        server.shutdown()
    nobody = run(database, tmp_path, hook_post_backup=[f"{place}/s3cret"])
    no_address = run(database, tmp_path, hook_post_backup=["http://[s3cret/"])
    whys = ((broken, "500 Internal Server Error"), (nobody, "refused"), (no_address, "Invalid IPv6 URL"))
    for result, why in whys:
        assert not result["failed"]
        (warning,) = result["warnings"]
        assert why in warning
        assert "s3cret" not in warning
        assert "s3cret" not in Path(result["log"]).read_text(encoding="utf-8")


def test_a_webhook_that_answers_drop_by_drop_is_given_up(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    given_up = threading.Event()
    drops: list[bool] = []  # of each whether the run had given up before it

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            assert connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drops: ")
            for _ in range(200):  # an end, so that who waits for ever is found waiting
                drops.append(given_up.wait(0.1))
                connection.sendall(b"x")
                if given_up.is_set():
                    return
            connection.sendall(b"\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        dripping = pool.submit(drip, listener)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/s3cret"
        result = run(database, tmp_path, hook_post_backup=[address], hook_timeout_s=1)
        given_up.set()
        dripping.result()
    assert not result["failed"]
    assert result["warnings"] == [
        "The hook post_backup failed: calling 127.0.0.1 gave: it did not answer in full within 1 s."
    ]
    assert len(drops) > 1
    assert drops[-1], "it was given up while the server was still dripping"


def test_hooks_hear_of_a_failure(database: Database, tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing):
        run_backup(
            options_of(database, db="absent"),
            backup_dir=str(tmp_path / "b"),
            state_dir=str(tmp_path / "s"),
            hook_on_failure=note(tmp_path),
        )
    (told,) = notes(tmp_path)
    assert told["SCANNERDB_EVENT"] == "on_failure"
    assert "has no database 'absent'" in told["SCANNERDB_MESSAGE"]


def alive(pid: int) -> bool:
    """Whether a process still does something: one that was ended and that nobody waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_what_a_hook_leaves_in_the_background_is_not_waited_for(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    script = f"sleep 600 & echo $! > '{tmp_path}/pid'; exit 0"
    result = run(database, tmp_path, hook_post_backup=["sh", "-c", script], hook_timeout_s=10)
    left = int((tmp_path / "pid").read_text(encoding="ascii"))
    try:
        assert result["warnings"] == []
        assert alive(left)
    finally:
        os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_hook_that_runs_out_of_time_is_ended_with_all_that_it_started(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stubborn: bool
) -> None:
    database.sql(ROWS)
    monkeypatch.setattr(process, "GRACE_S", 0.5)
    ignoring = "trap '' TERM; " if stubborn else ""
    script = f"({ignoring}sleep 600 & echo $! > '{tmp_path}/pid'; wait); exit 0"
    result = run(database, tmp_path, hook_pre_backup=["sh", "-c", script], hook_timeout_s=1)
    assert result["warnings"] == ["The hook pre_backup failed: it did not end within 1 s."]
    left = int((tmp_path / "pid").read_text(encoding="ascii"))
    wait_until(lambda: not alive(left), 20)


def test_a_hook_that_fails_never_fails_the_backup(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql(ROWS)
    monkeypatch.setattr(process, "GRACE_S", 0.5)
    result = run(
        database,
        tmp_path,
        hook_pre_backup=["/nonexistent/program"],
        hook_post_backup=["/bin/sh", "-c", "sleep 40; true"],  # its child holds the output open
        hook_timeout_s=1,
    )
    assert not result["failed"]
    assert find_set(tmp_path / "b", "latest").name == result["backup"]["name"]
    first, second = result["warnings"]
    assert "The hook pre_backup failed: /nonexistent/program cannot be run" in first
    assert "The hook post_backup failed: it did not end within 1 s." in second
    assert "warning: The hook post_backup" in Path(result["log"]).read_text(encoding="utf-8")
    broken = run(database, tmp_path, hook_post_backup=note(tmp_path, "sys.exit('no luck')"))
    (told,) = broken["warnings"]
    assert "The hook post_backup failed: " in told
    assert "no luck" in told
    for wrong in ({"hook_pre_backup": "rm -rf /"}, {"hook_pre_backup": [""]}, {"hook_timeout_s": 0}):
        with pytest.raises(InvalidInput):
            run(database, tmp_path, **wrong)
    assert read_manifest(Path(broken["backup"]["path"]))[0].rows == 1000


def test_no_output_shows_the_address_of_a_webhook(site: Site, database: Database) -> None:
    database.sql(ROWS)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        place = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    hooks: dict[str, Any] = {
        "scannerdb_backup_hook_pre_backup": f"['{place}/s3cret-pre']",  # as a survey gives it
        "scannerdb_backup_hook_post_backup": [f"{place}/s3cret-post?x=1"],
        # A name of before, which still works.
        "scannerdb_backup_hook_failure": ["true", f"{place}/s3cret-failure", f"--to={place}/s3cret-to"],
    }
    site.add("db", database, **hooks)
    done = site.run("playbooks/backup.yml", "-vvvv", "--diff").ok()
    assert "hook_on_failure: - 'true' - VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in done.prose, "other words stay readable"
    assert "The hook pre_backup failed: calling 127.0.0.1 gave: [Errno 111] Connection refused." in done.prose
    assert "s3cret" not in done.output
    wrong = site.run("playbooks/backup.yml", "-vvvv", scannerdb_backup_jobs=100).failed("jobs is 100")
    assert "s3cret" not in wrong.output
