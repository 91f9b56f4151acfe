"""One inventory host for each member: a cluster is worked on once, whichever of them is the primary."""

from __future__ import annotations

import pytest

from tests.integration.cluster.pair import pair_of_servers
from tests.integration.playbooks import Site, site

__all__ = ["site"]

pytestmark = pytest.mark.pg(17)


def test_one_of_the_members_works(site: Site) -> None:
    with pair_of_servers() as pair:
        site.add("one", pair.new).add("two", pair.old).group["scannerdb_backup_verify_level"] = "checksum"
        first = site.run("maintain.yml", scannerdb_profile="daily").ok()
        assert [len(site.backups(host)) for host in ("one", "two")] == [0, 1]
        assert "one is a member of a cluster whose work two does: nothing is done here." in first.prose
        assert "Not maintained" not in first.prose
        # Also where the run does not have the one that works.
        limited = site.run("playbooks/backup.yml", "-l", "one").ok()
        assert "does: nothing is done here (two, which it follows, is not in this run)" in limited.prose
        assert "-e scannerdb_hosts=one" in limited.prose
        # Dumps from a standby, by the variable's name of before; from the primary where that does not keep up.
        pair.caught_up()
        site.run("playbooks/backup.yml", scannerdb_backup_from="standby").ok()
        assert [len(site.backups(host)) for host in ("one", "two")] == [1, 1]
        pair.new.sql("SELECT pg_wal_replay_pause()")
        pair.old.sql("CREATE TABLE load AS SELECT repeat(md5(i::text), 30) FROM generate_series(1, 3000) i")
        request = {"scannerdb_backup_dump_from": "standby", "scannerdb_backup_max_lag_mb": 1}
        behind = site.run("playbooks/backup.yml", **request).ok()
        assert "no standby keeps up: one is" in behind.prose
        pair.new.sql("SELECT pg_wal_replay_resume()")
        assert [len(site.backups(host)) for host in ("one", "two")] == [1, 2]
        # A scheduled run knows its own host only.
        alone = {"scannerdb_profile": "daily", "scannerdb_standby_ok": True, "scannerdb_cluster_gives_way": True}
        assert "does: nothing is done here" in site.run("maintain.yml", "-l", "one", **alone).ok().prose
        assert len(site.backups("one")) == 1
        pair.lose_the_primary()
        site.run("maintain.yml", "-l", "one", **alone).ok()
        assert [len(site.backups(host)) for host in ("one", "two")] == [2, 2]
