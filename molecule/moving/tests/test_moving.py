"""After the moving scenario: the old lines are gone, and so is the bundle; everything else is as it was."""

from __future__ import annotations

from typing import Any, Callable

Container = Callable[[str], Any]
Query = Callable[..., list[str]]


def test_the_old_lines_are_gone_and_nobody_elses(container: Container) -> None:
    crontab = container("moving-db").check_output("crontab -u postgres -l").splitlines()
    assert crontab == ["# a word of the owner", "30 6 * * * /usr/local/bin/something-else"]


def test_the_schedule_had_taken_over(container: Container) -> None:
    entries = container("moving-db").file("/root/entries").content_string
    assert entries.count("run_job.py") == 3


def test_what_the_old_scripts_own_is_untouched(container: Container) -> None:
    host = container("moving-db")
    assert "DB_PASSWORD=of-the-old-scripts" in host.file("/srv/scanner/.env").content_string
    assert host.file("/srv/scanner/backups/ollama_scanner_20250418_120000.backup").content_string == "old"


def test_nothing_of_the_bundle_is_left_on_the_host(container: Container) -> None:
    host = container("moving-db")
    assert not host.user("scannerdb-drill").exists
    found = host.check_output("find /etc /opt /usr/local /var /srv /home -xdev -iname '*scannerdb*'")
    assert [path for path in found.splitlines() if "/var/lib/postgresql/" not in path] == []
    restless = "/var/(log/journal|cache|tmp|lib/(postgresql|systemd|apt|dpkg|logrotate))"
    after = "find /etc /opt /usr/local /var /srv /home -xdev | grep -vE '%s' | sort | comm -13 /root/before -"
    assert host.check_output(after % restless) == ""


def test_nothing_of_it_is_left_in_the_database_but_the_data_are(query: Query) -> None:
    assert query("moving-db", "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'scannerdb%'") == ["0"]
    assert query(
        "moving-db", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename = 'endpoints'"
    ) == ["1"]
