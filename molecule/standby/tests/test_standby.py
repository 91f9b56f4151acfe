"""After the standby scenario: each run fixed what was then the primary, and made one backup of it."""

from __future__ import annotations

from typing import Any, Callable

Container = Callable[[str], Any]
Query = Callable[..., list[str]]
HOSTS = ("standby-a", "standby-b")


def test_the_servers_have_changed_places(query: Query) -> None:
    assert [query(host, "SELECT pg_is_in_recovery()") for host in HOSTS] == [["t"], ["f"]]
    assert query("standby-b", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == ["1"]


def test_both_damages_are_mended(query: Query) -> None:
    repaired = "SELECT e.ip FROM endpoints e JOIN verified_endpoints v ON v.endpoint_id = e.id ORDER BY e.ip"
    assert query("standby-b", repaired) == ["192.0.2.1", "192.0.2.2"]
    journal = "SELECT count(DISTINCT run_id) FROM scannerdb_maintenance.journal"
    assert query("standby-b", journal) == ["2"]


def test_each_run_worked_on_the_primary_of_its_time(container: Container) -> None:
    for host in HOSTS:
        log = container(host).file(f"/var/log/scannerdb/{host}/db_maintenance_fix.log").content_string
        assert "data.verified.link_missing" in log
        folder = f"/var/backups/scannerdb/{host}"
        found = container(host).check_output(
            f"grep -ho '.server_is_standby.: [a-z]*' {folder}/*_*.backup/manifest.json"
        )
        assert found.split() == ['"server_is_standby":', "false"], "one backup for a cluster and a run"
