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
        # A scheduled run knows its own host only.
        alone = {"scannerdb_profile": "daily", "scannerdb_standby_ok": True, "scannerdb_cluster_gives_way": True}
        assert "does: nothing is done here" in site.run("maintain.yml", "-l", "one", **alone).ok().prose
        assert len(site.backups("one")) == 0
        pair.lose_the_primary()
        site.run("maintain.yml", "-l", "one", **alone).ok()
        assert [len(site.backups(host)) for host in ("one", "two")] == [1, 1]
