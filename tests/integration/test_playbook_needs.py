"""What a playbook needs on the controller and on the host is said before anything is done, with the command to type."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.playbooks import Site, site
from tests.servers import Database, Databases, Pool

__all__ = ["site"]
INSTALL = "ansible-galaxy collection install -r collections/requirements.yml"


@pytest.fixture
def field_17(pool: Pool) -> Iterator[Database]:
    """The field's database on one version: nothing here depends on it."""
    factory = Databases(pool, pool.server(17))
    yield factory(filled=True)
    factory.clean()


@pytest.fixture
def bare(site: Site) -> dict[str, str]:
    """The environment of a controller with ansible-core alone."""
    return {"ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false", "ANSIBLE_COLLECTIONS_PATH": str(site.folder)}


def test_a_missing_collection_is_named_with_its_command(site: Site, field_17: Database, bare: dict[str, str]) -> None:
    site.add("one", field_17)
    site.run("playbooks/deploy.yml", environment=bare).failed("community.postgresql, which is not installed", INSTALL)
    site.run("playbooks/awx.yml", environment=bare).failed("awx.awx, which is not installed", INSTALL)
    assert field_17.value("SELECT to_regrole('scannerdb_maint') IS NULL")

    done = site.run("playbooks/deploy.yml", environment=bare, scannerdb_deploy_roles=False).ok()
    assert "a database that is missing and the extensions" in done.prose and done.changed["one"] > 0


def test_a_local_host_is_told_that_nothing_is_installed(site: Site) -> None:
    site.hosts = {"one": {}}
    said = site.run("playbooks/client.yml").ok()
    assert "Nothing is installed on one: its connection is local" in said.prose
    assert "scannerdb_client_install=true" in said.prose


def test_metrics_that_cannot_be_written_are_a_problem_and_not_the_end(site: Site, field_17: Database) -> None:
    (site.folder / "taken").write_text("no folder")
    site.add("one", field_17, scannerdb_metrics_dir=f"{site.folder}/taken/prom")
    for arguments in (("--check",), ()):
        said = site.run("playbooks/status.yml", *arguments, scannerdb_status_fail_on="never").ok()
        assert "warning The metrics were not written: " in said.prose and "UNREACHABLE" not in said.output
        assert "primary" in said.prose
