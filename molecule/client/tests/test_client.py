"""After the client scenario: what is installed, what the maintenance role may, and what its jobs left behind."""

from __future__ import annotations

import json
import stat
from typing import Any, Callable

Container = Callable[[str], Any]
Query = Callable[..., list[str]]


def test_the_bare_host_has_the_tools_and_psycopg(container: Container) -> None:
    host = container("client-app")
    assert host.package("python3-psycopg").is_installed
    assert host.check_output("pg_dump --version").startswith("pg_dump (PostgreSQL)")
    assert not host.package("postgresql").is_installed  # tools only, no server
    host.run_test("/usr/bin/python3 -c 'import psycopg'")


def test_the_folders_belong_to_the_user_of_the_jobs(container: Container) -> None:
    host = container("client-app")
    for folder in ("lib", "log", "backups"):
        made = host.file(f"/var/{folder}/scannerdb/client-app")
        assert (made.user, stat.S_IMODE(made.mode)) == ("maintainer", 0o700)
    assert host.file("/var/backups/scannerdb/client-app/latest.backup").is_symlink


def test_the_password_is_in_his_password_file_only(container: Container, query: Query) -> None:
    host = container("client-app")
    passfile = host.file("/home/maintainer/.pgpass")
    assert (passfile.user, stat.S_IMODE(passfile.mode)) == ("maintainer", 0o600)
    assert passfile.content_string == "client-db:5432:*:scannerdb_maint:pa\\:ss\\\\w\"o'rd %s {x}\n"
    asked = "psql -h client-db -U scannerdb_maint -d ollama_scanner -AtXc 'SELECT current_user'"
    assert host.check_output("runuser -u maintainer -- sh -c %s", f"cd /; {asked}") == "scannerdb_maint"
    found = host.run("grep -rlF 'w\"o' /var/lib/scannerdb /var/log/scannerdb /var/backups/scannerdb")
    assert found.stdout == ""
    kept = "SELECT left(rolpassword, 14) FROM pg_authid WHERE rolname = 'scannerdb_maint'"
    assert query("client-db", kept) == ["SCRAM-SHA-256$"]


def test_the_maintenance_role_has_the_least_privileges(query: Query) -> None:
    attributes = "rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
    assert query("client-db", f"SELECT {attributes} FROM pg_roles WHERE rolname = 'scannerdb_maint'") == ["f|f|t|f|f"]
    groups = "SELECT roleid::regrole FROM pg_auth_members WHERE member = 'scannerdb_maint'::regrole ORDER BY 1"
    assert set(query("client-db", groups)) == {"ollama", "pg_monitor", "pg_read_all_data", "pg_signal_backend"}
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert query("client-db", owners) == ["scannerdb_maint"]


def test_what_needs_a_superuser_was_made_once(query: Query) -> None:
    extensions = "SELECT extname FROM pg_extension ORDER BY extname"
    assert query("client-db", extensions) == ["amcheck", "pgstattuple", "plpgsql"]


def test_the_job_left_a_report_and_a_verified_backup(container: Container) -> None:
    host = container("client-app")
    report = json.loads(host.file("/var/lib/scannerdb/client-app/reports/db_schema_issues_report.json").content_string)
    assert report["summary"]["critical"] == report["summary"]["warning"] == 0
    proof = host.file("/var/backups/scannerdb/client-app/latest.backup/verification.jsonl").content_string
    assert json.loads(proof.splitlines()[-1])["level"] == "read"


def test_the_jobs_of_a_database_host_got_a_login_of_their_own(container: Container, query: Query) -> None:
    host = container("client-db")
    by_peer = json.loads(host.file("/root/by-peer.json").content_string)
    assert (by_peer["role"], by_peer["user"], by_peer["host"]) == ("scannerdb_maint", "scannerdb_maint", "")
    assert host.user("scannerdb_maint").uid < 1000
    assert host.check_output("id -nG scannerdb_maint") == "scannerdb_maint"
    for folder in ("lib", "log", "backups"):
        assert host.check_output(f"find /var/{folder}/scannerdb/client-db ! -user scannerdb_maint ! -type l") == ""
    assert query("client-db", "SELECT rolsuper FROM pg_roles WHERE rolname = 'scannerdb_maint'") == ["f"]


def test_there_is_a_user_for_what_is_drilled(container: Container) -> None:
    for name in ("client-app", "client-db"):
        user = container(name).user("scannerdb-drill")
        assert (user.shell, user.home, user.uid < 1000) == ("/usr/sbin/nologin", "/nonexistent", True)


def test_every_job_was_done_by_it(container: Container, query: Query) -> None:
    host = container("client-db")
    folder = "/var/backups/scannerdb/client-db"
    for name in ("db_schema_check", "db_maintenance_fix"):
        assert host.file(f"/var/log/scannerdb/client-db/{name}.log").user == "scannerdb_maint"
    levels = host.check_output(f"cat {folder}/*.backup/verification.jsonl")
    assert "restore" in {json.loads(line)["level"] for line in levels.splitlines()}
    kept = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'ollama_scanner'"
    assert query("client-db", kept) == ["scannerdb_maint"]
    replaced = (
        "SELECT count(*) > 0 FROM pg_database WHERE datname LIKE 'ollama_scanner%' AND datname <> 'ollama_scanner'"
    )
    assert query("client-db", replaced) == ["t"]


def test_where_the_server_asks_for_a_password_it_has_one(container: Container) -> None:
    host = container("client-db")
    assert json.loads(host.file("/etc/scannerdb/client-db/login.json").content_string)["host"] == "127.0.0.1"
    passfile = host.file("/var/lib/scannerdb_maint/.pgpass")
    assert (passfile.user, stat.S_IMODE(passfile.mode)) == ("scannerdb_maint", 0o600)
    report = json.loads(host.file("/var/lib/scannerdb/client-db/reports/db_schema_issues_report.json").content_string)
    assert report["server"]["user"] == "scannerdb_maint"
