"""Dumps with a limit of bandwidth: what pg_dump reads goes through the relay, whatever the way to the server."""

from __future__ import annotations

import contextlib
import datetime
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scannerdb
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from scannerdb.backup import bandwidth
from scannerdb.backup.bandwidth import Pace, limited
from scannerdb.connection import Options, connect
from scannerdb.errors import ConnectionFailed, InvalidInput, ScannerDbError
from scannerdb.jobs.backup import backup
from scannerdb.process import run_tool

from demo import user
from tests.integration.own_server import own_databases, own_server
from tests.integration.support import wait_until
from tests.integration.test_backup_run import KILLED, ROWS, children, options_of, sessions
from tests.servers import Database, Databases, Server

__all__ = ["own_databases", "own_server"]  # fixtures

FAST = 1 << 40
MANY_ROWS = "CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 300000) i"
# pg_dump's sessions that wait for it to take what they have.
COPYING = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND query LIKE 'COPY%' AND wait_event = 'ClientWrite'
"""
END = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name ~ 'backup|pg_dump'
"""


@pytest.fixture
def paces(monkeypatch: pytest.MonkeyPatch) -> list[Pace]:
    """The paces that were kept."""
    made: list[Pace] = []

    class Noted(Pace):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(bandwidth, "Pace", Noted)
    return made


def back_up(options: Options, folder: Path, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = backup(options, backup_dir=str(folder / "b"), state_dir=str(folder / "s"), **more)["backup"]
    return made


@pytest.mark.parametrize("dump_format", ["directory", "custom"])
def test_all_rows_come_through_the_relay(
    database: Database, tmp_path: Path, paces: list[Pace], dump_format: str
) -> None:
    database.sql(MANY_ROWS)
    made = back_up(options_of(database), tmp_path, bandwidth=FAST, dump_format=dump_format, jobs=3)
    assert (made["verified"], made["rows"]) == ("read", 300000)
    copied = len(database.value("SELECT string_agg(i || E'\\t' || m || E'\\n', '') FROM t"))
    assert [pace.passed > copied for pace in paces] == [True]
    log = next((tmp_path / "b").glob("*.log")).read_text(encoding="utf-8")
    assert f"{paces[0].passed} bytes came from the server, at most {FAST} a second" in log
    back_up(options_of(database), tmp_path)
    assert len(paces) == 1


def test_a_slow_dump_is_slow_and_can_be_ended(database: Database, tmp_path: Path) -> None:
    """Its pg_dump waits for the relay while the server waits for it; a lost session of the snapshot ends both."""
    database.sql(MANY_ROWS)
    failed: list[ScannerDbError] = []

    def slow() -> None:
        try:
            back_up(options_of(database), tmp_path, bandwidth=bandwidth.FEWEST, jobs=1)
        except ScannerDbError as error:
            failed.append(error)

    thread = threading.Thread(target=slow)
    thread.start()
    try:
        wait_until(lambda: database.value(COPYING))
    finally:
        database.sql(END)
        thread.join(60)
    assert not thread.is_alive()
    assert isinstance(failed[0], ConnectionFailed)
    assert [path.name for path in (tmp_path / "b").iterdir() if path.suffix != ".log"] == []
    wait_until(lambda: not sessions(database))


def test_a_killed_slow_dump_leaves_nobody_waiting(database: Database, tmp_path: Path) -> None:
    database.sql(MANY_ROWS)
    words = {"unix_socket": str(database.server.socket_dir), "port": database.server.port, "user": "postgres"}
    words.update(db=database.name, pg_bin_dir=str(database.server.bin_dir))
    slowly = KILLED.replace("backup_dir=sys.argv[3]", f"backup_dir=sys.argv[3], bandwidth={bandwidth.FEWEST}")
    package = str(Path(scannerdb.__file__).parents[1])
    with subprocess.Popen([sys.executable, "-c", slowly, package, repr(words), str(tmp_path / "b")]) as child:
        wait_until(lambda: database.value(COPYING))
        child.kill()
    wait_until(lambda: not sessions(database) and not children("pg_dump", tmp_path / "b"))
    assert back_up(options_of(database), tmp_path, bandwidth=FAST)["rows"] == 300000


def write_certificate(key_file: Path, certificate_file: Path) -> None:
    """A new key, and a certificate that it signs itself, for localhost."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_file.touch(mode=0o600)
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
def encrypted(own_server: Server, own_databases: Databases, tmp_path: Path) -> Iterator[Database]:
    """A database of a server that wants TLS and a password over TCP; its certificate is beside `tmp_path`'s files."""
    key, certificate = own_server.data / "server.key", own_server.data / "server.crt"
    write_certificate(key, certificate)
    for path in (key, certificate):
        user.give_away(path)
    (tmp_path / "ca.crt").write_bytes(certificate.read_bytes())
    rules = own_server.data / "pg_hba.conf"
    before = rules.read_text(encoding="utf-8")
    rules.write_text("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n", encoding="utf-8")
    database = own_databases()
    database.sql("ALTER SYSTEM SET ssl = on")
    database.sql("SELECT pg_reload_conf()")
    wait_until(lambda: database.value("SHOW ssl") == "on")
    yield database
    rules.write_text(before, encoding="utf-8")
    database.sql("ALTER SYSTEM RESET ssl")
    database.sql("SELECT pg_reload_conf()")


def over_tcp(database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """Options whose password is in a password file, under the server's own port."""
    lines = folder / "pgpass"
    lines.write_text(f"localhost:{database.server.port}:*:postgres:{database.server.password}\n", encoding="ascii")
    lines.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(lines))
    return options_of(
        database, unix_socket="", host="localhost", ssl_mode="verify-full", ca_cert=str(folder / "ca.crt")
    )


def test_tls_and_passwords_go_on_between_pg_dump_and_the_server(
    encrypted: Database, tmp_path: Path, paces: list[Pace], monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypted.sql(MANY_ROWS)
    made = back_up(over_tcp(encrypted, tmp_path, monkeypatch), tmp_path, bandwidth=FAST)
    assert (made["verified"], made["rows"]) == ("read", 300000)
    assert paces[0].passed > 300000 * 33


def reaches(options: Options) -> bool:
    command = [str(Path(options.pg_bin_dir, "pg_dump")), "--schema-only", "--file=/dev/null", "--no-password"]
    return run_tool(command, options, check=False).returncode == 0


def ensure_only_ours(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that asks `peer` or `ident` would take another user for the one who runs the backup."""
    with contextlib.closing(connect(options)) as conn, limited(conn, options, FAST, print) as led:
        assert reaches(led)
        monkeypatch.setattr(bandwidth.os, "geteuid", lambda: 12345)
        assert not reaches(led)
    monkeypatch.undo()
    assert not reaches(led)


def test_nobody_else_goes_through_the_relay(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_only_ours(options_of(database), monkeypatch)


def test_nobody_else_goes_through_the_relay_of_tcp(
    encrypted: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_only_ours(over_tcp(encrypted, tmp_path, monkeypatch), monkeypatch)


def test_elsewhere_than_on_linux_it_is_refused(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bandwidth.sys, "platform", "darwin")
    for check_mode in (True, False):
        with pytest.raises(InvalidInput, match="Linux"):
            back_up(options_of(database), tmp_path, bandwidth=FAST, check_mode=check_mode)
    assert not (tmp_path / "b").exists()


def test_a_plan_refuses_a_limit_that_is_none(database: Database, tmp_path: Path) -> None:
    database.sql(ROWS)
    with pytest.raises(InvalidInput, match="32K"):
        back_up(options_of(database), tmp_path, bandwidth=10)
