"""What a lesser role has left in a database does not run with more rights when it is dumped, drilled or restored."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import RestoreRefused

from tests import servers
from tests.integration.support import options, run_backup, run_restore, run_verify
from tests.security.attacks import ATTACKS, MAINT, OWNER, Attack, Canary

# A row of every table as text: what a fingerprint needs.
ROW_CAST = Attack(
    "cast of a row",
    """
    CREATE FUNCTION evil.row(public.endpoints) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM evil.code(); RETURN 'x'; END $$;
    CREATE CAST (public.endpoints AS text) WITH FUNCTION evil.row(public.endpoints);
    """,
    "SELECT pg_catalog.count((e.*)::text) FROM public.endpoints e WHERE id < 4",
)
# Runs where the default is read, before there are any rows.
LITERAL = Attack(
    "domain in an array's default",
    """
    CREATE DOMAIN evil.kind AS integer;
    CREATE TABLE evil.kinds (kinds evil.kind[] DEFAULT '{1}');
    ALTER DOMAIN evil.kind ADD CHECK (evil.truth(1)) NOT VALID;
    """,
    "INSERT INTO evil.kinds VALUES ('{1}')",
)
VALID_CHECK = Attack("CHECK", "ALTER TABLE public.endpoints ADD CONSTRAINT zz CHECK (evil.truth(id))", "")
PARTITION = Attack(
    "partition key",
    """
    CREATE FUNCTION evil.key(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
        $$ BEGIN PERFORM evil.code(); RETURN $1; END $$;
    CREATE TABLE evil.parts (id integer) PARTITION BY RANGE (evil.key(id));
    CREATE TABLE evil.part PARTITION OF evil.parts FOR VALUES FROM (0) TO (10);
    INSERT INTO evil.parts VALUES (1);
    """,
    "",
)
STATISTICS = Attack("statistics", "CREATE STATISTICS public.zz ON (evil.truth(1)), port FROM public.endpoints", "")
_FIRED = ("domain", "generated column", "expression index", "index predicate")
BY_LOADS = {one.name: one for one in (VALID_CHECK, LITERAL, PARTITION, STATISTICS, *(ATTACKS[name] for name in _FIRED))}
NOT_BY_LOADS = ("row trigger", "deferred trigger", "rule", "default", "INSTEAD OF trigger")


@pytest.fixture
def cluster_dir() -> Iterator[Path]:
    """A folder that the disposable cluster's user can reach."""
    folder = servers.make_home("scannerdb-ct-")
    folder.chmod(0o755)
    os.chown(folder, os.geteuid(), os.getegid())
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def words(folder: Path, **more: Any) -> dict[str, Any]:
    return {"backup_dir": str(folder / "b"), "state_dir": str(folder / "s"), **more}


def plant(canary: Canary, attack: Attack) -> None:
    """Planting as a superuser who has set a role makes the attacker one; here he is none."""
    canary.plant(attack)
    canary.database.sql(f"ALTER ROLE {attack.by} NOSUPERUSER")
    canary.database.sql(f"ALTER DATABASE {canary.database.name} OWNER TO {OWNER}")
    canary.reset()


def trusted_readers(canary: Canary) -> None:
    """What a maintenance role needs to back up."""
    canary.database.sql(f"GRANT pg_read_all_data TO {MAINT}")
    canary.database.sql(f"ALTER ROLE {MAINT} BYPASSRLS CREATEDB")


@pytest.mark.parametrize("user", ["postgres", MAINT])
@pytest.mark.parametrize("attack", [ROW_CAST, *BY_LOADS.values(), ATTACKS["cast"]], ids=lambda attack: attack.name)
def test_a_backup_with_fingerprints_runs_nothing(canary: Canary, tmp_path: Path, attack: Attack, user: str) -> None:
    plant(canary, attack)
    trusted_readers(canary)
    made = run_backup(options(canary.database, user=user), fingerprints=True, verify_level="read", **words(tmp_path))
    assert made["backup"]["verified"] == "read"
    assert not canary.fired
    assert canary.escaped() == []


def test_a_drill_and_a_restore_make_fingerprints_without_casts(canary: Canary, tmp_path: Path) -> None:
    plant(canary, ROW_CAST)
    login, name = options(canary.database), canary.database.name
    run_backup(login, fingerprints=True, **words(tmp_path))
    with pytest.raises(RestoreRefused, match=rf"a cast calls evil\.row\(\), which belongs to {OWNER}"):
        run_verify(login, **words(tmp_path))
    assert run_restore(login, source="latest", confirm=name, grace_s=0, run_code=True, **words(tmp_path))["changed"]
    assert canary.escaped() == []


@pytest.mark.parametrize("user", ["postgres", MAINT])
@pytest.mark.parametrize("name", BY_LOADS)
def test_a_load_that_would_run_it_is_refused(canary: Canary, tmp_path: Path, name: str, user: str) -> None:
    plant(canary, BY_LOADS[name])
    trusted_readers(canary)
    canary.database.sql(f"GRANT {OWNER}, ollama TO {MAINT}")
    run_backup(options(canary.database), **words(tmp_path))
    login = options(canary.database, user=user)
    before = canary.database.sql("SELECT datname::text FROM pg_database")
    refused = rf"calls evil\.(truth|key)\(\), which belongs to {OWNER}"
    canary.reset()
    with pytest.raises(RestoreRefused, match=refused):
        run_verify(login, **words(tmp_path))
    for more in ({}, {"check_mode": True}, {"into_database": "clone"}, {"tables": ["endpoints"]}):
        confirm = more.get("into_database", canary.database.name)
        with pytest.raises(RestoreRefused, match=refused):
            run_restore(login, source="latest", confirm=confirm, grace_s=0, **words(tmp_path, **more))
    assert not canary.fired
    assert canary.escaped() == []
    assert canary.database.sql("SELECT datname::text FROM pg_database") == before


@pytest.mark.parametrize("name", BY_LOADS)
def test_on_a_disposable_server_it_has_no_rights(canary: Canary, tmp_path: Path, cluster_dir: Path, name: str) -> None:
    plant(canary, BY_LOADS[name])
    login = options(canary.database)
    run_backup(login, fingerprints=True, **words(tmp_path))
    canary.reset()
    shown = run_verify(login, place="cluster", cluster_dir=str(cluster_dir), **words(tmp_path))
    assert shown["verification"]["problems"] == []
    assert canary.escaped() == []


@pytest.mark.parametrize("name", NOT_BY_LOADS)
def test_what_no_load_runs_is_restored(canary: Canary, tmp_path: Path, name: str) -> None:
    plant(canary, ATTACKS[name])
    login, database = options(canary.database), canary.database.name
    run_backup(login, **words(tmp_path))
    canary.reset()
    assert run_restore(login, source="latest", confirm=database, grace_s=0, **words(tmp_path))["changed"]
    assert canary.escaped() == []


def test_innocent_checks_are_restored(canary: Canary, tmp_path: Path) -> None:
    canary.database.sql("ALTER TABLE endpoints ADD CHECK (port BETWEEN 0 AND 65535 AND length(btrim(ip)) > 0)")
    canary.database.sql("CREATE DOMAIN grade AS integer CHECK (abs(VALUE) < 10)")
    canary.database.sql("ALTER TABLE endpoints ADD grade grade, ADD half integer GENERATED ALWAYS AS (port / 2) STORED")
    canary.database.sql("CREATE FUNCTION mine(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true'")
    canary.database.sql("ALTER TABLE endpoints ADD CHECK (public.mine(port))")  # a superuser's own
    login, database = options(canary.database), canary.database.name
    run_backup(login, **words(tmp_path))
    assert run_verify(login, **words(tmp_path))["verification"]["passed"]
    assert run_restore(login, source="latest", confirm=database, grace_s=0, **words(tmp_path))["changed"]
