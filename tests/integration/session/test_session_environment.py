"""What the environment says of connections steers neither driver nor tools; what is wanted is an option."""

from __future__ import annotations

import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scannerdb.connection import Options, connect, scalar
from scannerdb.errors import AuthenticationFailed, ConnectionFailed
from scannerdb.jobs.fix import fix
from scannerdb.login import tool_environment
from scannerdb.process import run_tool
from scannerdb.session import service_file
from scannerdb.sets.locate import find_set
from scannerdb.tools import find_tools

from demo import user
from tests.integration.support import NO_BACKUP, options, run_backup
from tests.servers import FAST, Database, Databases, find_bin_dir, lone_server

NOWHERE = "127.0.0.9"
VERSION = 17  # the build of 18 has no TLS


def hostile(database: Database, folder: Path) -> dict[str, str]:
    """Every variable of libpq's, leading elsewhere or making a connection impossible."""
    service = folder / "service.conf"
    service.write_text(f"[elsewhere]\nhost={NOWHERE}\nport=1\ndbname=elsewhere\n", encoding="ascii")
    return {
        "PGHOST": NOWHERE,
        "PGHOSTADDR": NOWHERE,
        "PGPORT": "1",
        "PGDATABASE": "elsewhere",
        "PGUSER": "nobody_at_all",
        "PGPASSWORD": "wrong",
        "PGSERVICE": "elsewhere",
        "PGSERVICEFILE": str(service),
        "PGOPTIONS": "-c search_path=hostile -c statement_timeout=1",
        "PGSSLMODE": "verify-full",
        "PGSSLCERT": "/nonexistent.crt",
        "PGSSLKEY": "/nonexistent.key",
        "PGSSLROOTCERT": "/nonexistent.ca",
        "PGCHANNELBINDING": "require",
        "PGREQUIREAUTH": "scram-sha-256",
        "PGREQUIREPEER": "nobody_at_all",
        "PGTARGETSESSIONATTRS": "standby",
        "PGGSSENCMODE": "require",
        "PGCLIENTENCODING": "SQL_ASCII",
        "PGTZ": "Asia/Tokyo",
        "PGDATESTYLE": "German",
        "PGAPPNAME": "somebody",
        "PGCONNECT_TIMEOUT": "2",
        "PGMINPROTOCOLVERSION": "3.2",
        "PGLOADBALANCEHOSTS": "random",
    }


def one_by_one(database: Database, folder: Path) -> Iterator[dict[str, str]]:
    """Each variable alone, then all of them."""
    every = hostile(database, folder)
    yield from ({name: value} for name, value in every.items() if name != "PGSERVICE")
    yield {name: every[name] for name in ("PGSERVICE", "PGSERVICEFILE")}
    yield every


def test_no_variable_steers_driver_or_tools(database: Database, tmp_path: Path) -> None:
    tools = find_tools(str(database.server.bin_dir), 0)
    for number, variables in enumerate(one_by_one(database, tmp_path)):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            out = tmp_path / f"{number}.out"
            done = run_tool(
                [tools.path("psql"), "-X", "-At", "-w", "-c", "SELECT current_database(), current_user"],
                options(database),
                stdout_path=out,
                check=False,
            )
            assert (done.returncode, out.read_text().strip()) == (0, f"{database.name}|postgres"), (
                variables,
                done.stderr,
            )
            for name, value in variables.items():
                patch.setenv(name, value)
            with connect(options(database)) as conn:
                assert scalar(conn, "SELECT current_database()") == database.name, variables
                assert scalar(conn, "SHOW timezone") == "UTC"


def test_a_fix_for_one_server_changes_no_other(
    field_db: Database, make_database: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_database(filled=True)
    for name, value in hostile(field_db, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PGHOST", str(other.server.socket_dir))
    monkeypatch.setenv("PGDATABASE", other.name)
    run_backup(options(field_db), backup_dir=str(tmp_path / "b"))
    assert fix(options(field_db), safety=NO_BACKUP)["fixed"]
    assert not fix(options(field_db), safety=NO_BACKUP)["changed"]
    assert fix(options(other), safety=NO_BACKUP, check_mode=True)["fixed"], "nobody has touched it"
    assert find_set(tmp_path / "b", "latest").manifest.database.name == field_db.name


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[Options]:
    """The options for a server that lets nobody in without a certificate of its authority."""
    bin_dir = find_bin_dir(VERSION)
    assert bin_dir is not None
    openssl(tmp_path, "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=authority -days 2")
    for name, subject in (("server", "localhost"), ("client", "postgres")):
        openssl(tmp_path, f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={subject}")
        (tmp_path / "san").write_text(f"subjectAltName=DNS:{subject}", encoding="ascii")
        signed = f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -out {name}.crt -days 2 -extfile san"
        openssl(tmp_path, signed)
    (tmp_path / "client.key").chmod(0o600)
    with lone_server(bin_dir, FAST, "hostssl all all 127.0.0.1/32 cert\n") as lone:
        for name, target in (("ca.crt", "ca.crt"), ("server.crt", "server.crt"), ("server.key", "server.key")):
            path = lone.server.data / target
            path.write_bytes((tmp_path / name).read_bytes())
            path.chmod(0o600)
            user.give_away(path)
        lone.sql("ALTER SYSTEM SET ssl_ca_file = 'ca.crt'")
        lone.sql("ALTER SYSTEM SET ssl = on")
        lone.server.stop()
        lone.server.start()
        lone.sql("CREATE DATABASE certified")
        lone.sql("CREATE TABLE t AS SELECT 1 AS one")
        yield options(
            lone,
            host="localhost",
            unix_socket="",
            db="certified",
            ssl_mode="verify-full",
            ca_cert=str(tmp_path / "ca.crt"),
            ssl_cert=str(tmp_path / "client.crt"),
            ssl_key=str(tmp_path / "client.key"),
        )


def _owner(database: Database) -> str:
    """Whom the server runs as."""
    return pwd.getpwuid(Path(f"/proc/{database.server.pid}").stat().st_uid).pw_name


def openssl(folder: Path, words: str) -> None:
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)


@pytest.mark.pg(17)
def test_further_parameters_reach_the_driver_and_the_tools(database: Database, tmp_path: Path) -> None:
    login = options(database, connect_params=(("requirepeer", "nobody-of-that-name"),))
    with pytest.raises(ConnectionFailed, match="requirepeer"):
        connect(login)
    environment = tool_environment(options(database), database.name, {})
    for peer, code in (("nobody-of-that-name", 2), (_owner(database), 0)):
        (tmp_path / "services").write_text(service_file("s", {"requirepeer": peer}))
        tool = {**environment, "PGSERVICEFILE": str(tmp_path / "services"), "PGSERVICE": "s"}
        psql = [str(database.server.bin_dir / "psql"), "-Xqc", "SELECT 1"]
        assert subprocess.run(psql, env=tool, capture_output=True, check=False).returncode == code


def test_a_client_certificate_reaches_driver_and_tools(certified: Options, tmp_path: Path) -> None:
    made = run_backup(certified, backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"))
    assert made["backup"]["verified"] == "read"
    with pytest.raises(AuthenticationFailed):
        connect(Options(**{**vars(certified), "ssl_cert": "", "ssl_key": ""}))
