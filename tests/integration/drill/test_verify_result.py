"""Three answers of a drill: proven, refuted, not tried; only the second is a mark against the set."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import ScannerDbError
from scannerdb.jobs.status import status
from scannerdb.sets.catalogue import load_set
from scannerdb.sets.signing import Trust
from scannerdb.sets.verification_log import last_drill
from scannerdb.status.options import StatusOptions

from tests.integration.matrix.matrix_support import back_up
from tests.integration.support import options, run_backup, run_verify
from tests.servers import Database, make_home

# What roles with more than a name have: superusers' event triggers, members, grants of those who may grant.
SURROUNDINGS = [
    "CREATE ROLE boss SUPERUSER",
    "CREATE ROLE granter IN ROLE pg_read_all_settings",
    "CREATE ROLE third IN ROLE granter",
    "CREATE TABLE t AS SELECT generate_series(1, 9) AS a",
    "ALTER TABLE t OWNER TO boss",
    "GRANT SELECT ON t TO granter WITH GRANT OPTION",
    "SET ROLE granter; GRANT SELECT ON t TO third; RESET ROLE",
    "ALTER DEFAULT PRIVILEGES FOR ROLE boss GRANT SELECT ON TABLES TO third",
    "CREATE FUNCTION ev() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
    "CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION ev()",
    "ALTER EVENT TRIGGER watching OWNER TO boss",
    "CREATE FUNCTION members() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM pg_catalog.pg_auth_members'",
    "CREATE MATERIALIZED VIEW m AS SELECT public.members() AS n",
    "ALTER MATERIALIZED VIEW m OWNER TO third",
]
SECRET = [
    "CREATE FUNCTION secret() RETURNS bigint LANGUAGE sql AS $$SELECT count(*) FROM pg_catalog.pg_ls_dir('.')$$",
    "CREATE MATERIALIZED VIEW hidden AS SELECT public.secret() AS n",
]


@pytest.fixture
def cluster_dir() -> Iterator[Path]:
    """A folder in which a disposable cluster's own user can work."""
    folder = make_home("scannerdb-v'o-")  # its settings are quoted
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _warnings(db: Database, folder: Path) -> str:
    places = {"backup_dir": str(folder / "b"), "state_dir": str(folder / "s"), "log_dir": "", "config_dir": ""}
    return " ".join(
        problem["message"] for problem in status(options(db), StatusOptions(host="h", **places))["problems"]
    )


def _answer(db: Database, folder: Path, **more: Any) -> dict[str, Any]:
    """What the module would answer."""
    words = {"backup_dir": str(folder / "b"), "state_dir": str(folder / "s"), **more}
    try:
        return run_verify(options(db, **words.pop("login", {})), **words)
    except ScannerDbError as error:
        return error.result


def test_roles_with_more_than_a_name(database: Database, tmp_path: Path, cluster_dir: Path) -> None:
    for statement in SURROUNDINGS:
        database.sql(statement)
    back_up(database, tmp_path)
    for place in ("cluster", "server"):
        answer = _answer(database, tmp_path, place=place, cluster_dir=str(cluster_dir))
        assert answer["verification"]["outcome"] == "proven", (place, answer["msg"])


@pytest.mark.pg(17)
def test_what_only_a_superuser_can_make_is_not_tried(database: Database, tmp_path: Path, cluster_dir: Path) -> None:
    for statement in SECRET:
        database.sql(statement)
    made = back_up(database, tmp_path)
    path = Path(made["backup"]["path"])
    for more in ({"place": "cluster", "cluster_dir": str(cluster_dir)}, {"login": {"user": "weak"}}):
        database.sql("DROP ROLE IF EXISTS weak")
        database.sql("CREATE ROLE weak LOGIN IN ROLE pg_read_all_data")
        answer = _answer(database, tmp_path, **more)
        assert answer["verification"]["outcome"] == "not_tried" and answer["verification"]["problems"], answer
        assert "no mark against it" in answer["msg"]
        kept = load_set(path, Trust(str(tmp_path / "s")))
        assert not kept.damaged and kept.verified == made["backup"]["verified"]
        assert "could not be tried" in _warnings(database, tmp_path)
    answer = _answer(database, tmp_path)
    assert answer["verification"]["outcome"] == "proven"
    assert "could not be tried" not in _warnings(database, tmp_path)
    more = {"verify_level": "restore", "verify_place": "cluster", "verify_cluster_dir": str(cluster_dir)}
    again = run_backup(options(database), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"), **more)
    assert again["backup"]["verified"] == "read"
    assert last_drill(str(tmp_path / "s"), database.name)["outcome"] == "not_tried"


@pytest.mark.pg(17)
def test_what_differs_is_refuted(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE t (a int)")
    path = Path(back_up(database, tmp_path)["backup"]["path"])
    (path / "dump" / "toc.dat").write_bytes(b"PGDMP")
    for level in ("checksum", "restore"):
        answer = _answer(database, tmp_path, level=level)
        assert answer["verification"]["outcome"] == "refuted" and answer["failed"]
    assert load_set(path, Trust(str(tmp_path / "s"))).damaged
