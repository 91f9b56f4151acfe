"""What the old scripts left: their lines among others', what their .env says, and how a crontab is changed."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.errors import InvalidInput
from scannerdb.jobs import legacy as jobs
from scannerdb.jobs.legacy import legacy
from scannerdb.legacy.crontab import MARK, old_lines, switched_off, without
from scannerdb.legacy.env import has_password, read_env, variables
from scannerdb.legacy.times import offered, run_time
from scannerdb.schedule.model import read_job

OLD = [
    "0 3 * * * cd /opt/scanner && ./backup_database.sh >> backups/cron_backup.log 2>&1",
    "0 4 * * 0 cd '/opt/my scanner' && ./check_db_schema_issues.py && ./apply_db_maintenance_fixes.sh",
    "0 5 1 * * /opt/scanner/apply_db_maintenance_fixes.sh --full",
]
LOGGING = '0 5 1 * * psql -c "VACUUM FULL" >> /opt/scanner/backups/cron_full_maintenance.log'
FOREIGN = [
    "MAILTO=me",
    "# 0 3 * * * ./backup_database.sh",
    "15 2 * * * /usr/bin/my_backup_database.sh",
    "15 2 * * * /usr/bin/backup_database.sh.old",
    "0 3 * * * postgres /usr/bin/env python3 /opt/scannerdb/current/runner/run_job.py /etc/x daily # cron_backup.log",
    "",
    LOGGING,
]
CRONTAB = "\n".join([FOREIGN[0], OLD[0], *FOREIGN[1:4], *OLD[1:], *FOREIGN[4:]]) + "\n"


def test_old_lines_are_found_among_others_with_their_folder() -> None:
    assert [line.text for line in old_lines(CRONTAB)] == [*OLD, LOGGING]
    assert [line.folder for line in old_lines(CRONTAB)] == ["/opt/scanner", "/opt/my scanner", "/opt/scanner", ""]
    assert [line.sure for line in old_lines(CRONTAB)] == [True, True, True, False]


def test_switching_off_and_removing_touch_nothing_else() -> None:
    off = switched_off(CRONTAB)
    assert [line.text for line in old_lines(off)] == [LOGGING] and switched_off(off) == off
    assert [line for line in off.splitlines() if not line.startswith(MARK)] == [
        x for x in CRONTAB.splitlines() if x not in OLD
    ]
    assert without(off) == without(CRONTAB) and without(CRONTAB).splitlines() == [
        x for x in CRONTAB.splitlines() if x not in OLD
    ]


@given(st.text())
def test_any_other_text_stays_as_it_is(text: str) -> None:
    if not old_lines(text) and MARK not in text:
        assert switched_off(text) == text == without(text)


def test_an_env_becomes_variables_and_its_password_does_not() -> None:
    values = read_env(
        "export DB_HOST=db\nDB_PORT = 5433 # local\nPOSTGRES_USER='o x'\n#DB_NAME=no\nDB_PASSWORD=\"s e\"\nnonsense\n"
    )
    said = variables(values)
    assert said == {"scannerdb_login_host": "db", "scannerdb_login_port": "5433", "scannerdb_login_user": "o x"}
    assert has_password(values) and not has_password({"DB_PASSWORD": ""})


@pytest.fixture
def crontabs(tmp_path: Path) -> Path:
    """A folder of crontabs beside the old scripts' own folder."""
    home = tmp_path / "scanner"
    (home / "backups").mkdir(parents=True)
    (home / ".env").write_text("DB_HOST=db\nDB_PASSWORD=secret-1\n")
    (home / "backups" / "ollama_scanner_20250418_120000.backup").write_text("PGDMP")
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "me").write_text(CRONTAB.replace("/opt/scanner", str(home)))
    (spool / "me").chmod(0o600)
    (spool / "tmp.X1").write_text(CRONTAB)
    return spool


def test_it_is_only_said_by_default(crontabs: Path) -> None:
    before = (crontabs / "me").read_text()
    found = legacy(crontabs=[str(crontabs)])
    assert not found["changed"] and (crontabs / "me").read_text() == before and len(found["lines"]) == 4
    (place,) = [p for p in found["places"] if p["env"]]
    assert (
        place["variables"] == {"scannerdb_login_host": "db", "scannerdb_login_port": "5433"}
        and place["password"] is True
    )
    assert place["backups"] == ["ollama_scanner_20250418_120000.backup"]
    assert "secret-1" not in str(found) and "scannerdb_backup_adopt" in found["msg"]
    assert "3 lines of crontabs that start" in found["msg"] and "1 that only log where the old" in found["msg"]


@pytest.mark.parametrize("mode", ["take", "remove"])
def test_on_request_the_lines_go_and_owner_and_mode_stay(crontabs: Path, mode: str) -> None:
    path, scanner = crontabs / "me", crontabs.parent / "scanner"
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)
    before, facts = path.read_text(), path.stat()
    dry = legacy(mode=mode, crontabs=[str(crontabs)], check_mode=True)
    assert dry["changed"] and path.read_text() == before
    assert legacy(mode=mode, crontabs=[str(crontabs)])["diff"] == dry["diff"]
    now = path.stat()
    assert [line.text for line in old_lines(path.read_text())] == [LOGGING.replace("/opt/scanner", str(scanner))]
    assert (path.read_text() == without(before)) == (mode == "remove")
    assert (now.st_mode, now.st_uid, now.st_gid) == (facts.st_mode, facts.st_uid, facts.st_gid)
    assert not legacy(mode=mode, crontabs=[str(crontabs)])["changed"]
    assert sorted(p.name for p in crontabs.iterdir()) == ["me", "tmp.X1"]


def test_a_user_may_have_a_point_in_his_name(crontabs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No system here has such a user, so the question for him is answered by the test."""
    monkeypatch.setattr(jobs, "is_user", lambda name: name == "first.last")
    (crontabs / "me").rename(crontabs / "first.last")
    found = legacy(mode="remove", crontabs=[str(crontabs)])
    assert {Path(line["file"]).name for line in found["lines"]} == {"first.last"} and found["changed"]


def test_users_are_those_of_the_system() -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert jobs.is_user(me) and not jobs.is_user("tmp.X1")


def test_the_bots_env_is_read_where_there_is_no_other_and_postgres_comes_first(tmp_path: Path) -> None:
    (tmp_path / "DiscordBot").mkdir()
    (tmp_path / "DiscordBot" / ".env").write_text(
        "DB_HOST=other\nPOSTGRES_HOST=db\nDB_PORT=6000\nPOSTGRES_PASSWORD=x\n"
    )
    (place,) = legacy(folder=str(tmp_path), crontabs=[str(tmp_path / "none")])["places"]
    assert place["env"].endswith("DiscordBot/.env") and place["password"]
    assert place["variables"] == {"scannerdb_login_host": "db", "scannerdb_login_port": "6000"}
    assert variables(read_env("POSTGRES_USER=ollama"))["scannerdb_login_port"] == "5433"
    assert variables(read_env("TOKEN=x")) == {}


def test_a_folder_that_no_line_names_and_none_at_all(crontabs: Path, tmp_path: Path) -> None:
    found = legacy(folder=str(tmp_path / "scanner"), crontabs=[str(tmp_path / "none")])
    assert found["lines"] == [] and found["places"][0]["password"]
    assert legacy(crontabs=[str(tmp_path / "none")])["msg"] == "The old scripts have left nothing here."
    with pytest.raises(InvalidInput, match="scannerdb_adopt_legacy"):
        legacy(mode="yes")


def test_old_run_times_are_offered(tmp_path: Path) -> None:
    """As overrides that the schedule takes: by job, the first line of each."""
    assert offered([*OLD, LOGGING]) == {
        "daily": {"hour": 3, "minute": 0},
        "weekly": {"hour": 4, "minute": 0, "weekday": "sunday", "day": ""},
        "monthly": {"hour": 5, "minute": 0, "day": 1},
    }
    for name, when in offered(OLD).items():
        read_job(
            {"name": name, "profile": name, "log": "x.log", "day": 1, **when}
            if name == "monthly"
            else {"name": name, "profile": name, "log": "x.log", **when}
        )
    (tmp_path / "root").write_text(CRONTAB)
    told = legacy(crontabs=[str(tmp_path / "root")], mode="take")
    assert told["times"] == offered(OLD) and 'scannerdb_schedule_overrides=\'{"daily"' in told["msg"]


@pytest.mark.parametrize(
    ("fields", "when"),
    [
        ("30 2 * * * x", {"hour": 2, "minute": 30}),
        ("30 2 * * sat x", {"hour": 2, "minute": 30, "weekday": "saturday"}),
        ("30 2 * * 7 root x", {"hour": 2, "minute": 30, "weekday": "sunday"}),
        ("@daily x", {"hour": 0, "minute": 0}),
        ("@monthly x", {"hour": 0, "minute": 0, "day": 1}),
        ("@reboot x", {}),
        ("*/5 2 * * * x", {}),
        ("0 2,14 * * * x", {}),
        ("0 2 1 6 * x", {}),
        ("0 2 1 * 1 x", {}),
        ("0 25 * * * x", {}),
        ("MAILTO=me", {}),
    ],
)
def test_a_run_time(fields: str, when: dict[str, object]) -> None:
    assert run_time(fields) == when
