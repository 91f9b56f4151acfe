"""Jobs that only look, and the databases that restores and drills look at, run no code of a lesser role."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest
from scannerdb.backup import snapshot
from scannerdb.checks.capacity import _no_views
from scannerdb.checks.options import CheckOptions
from scannerdb.connection import SQL, DriverError, connect
from scannerdb.errors import ScannerDbError
from scannerdb.fixes.rights import writer_of
from scannerdb.jobs.check import check
from scannerdb.jobs.doctor import Places, doctor
from scannerdb.jobs.info import info
from scannerdb.jobs.status import status
from scannerdb.sets.manifest import read_manifest
from scannerdb.status.options import StatusOptions
from scannerdb.vacuum.thresholds import VacuumThresholds

from tests.integration.support import options, run_backup, run_restore, run_vacuum, run_verify
from tests.integration.vacuum.vacuum_support import fill
from tests.needs import needs
from tests.security.attacks import ATTACKS, MAINT, OWNER, Attack, Canary
from tests.servers import DISTRIBUTION, Database, make_home

PLANNED = Attack(
    "statistics, expression and predicate",
    """
    CREATE INDEX zz ON public.endpoints (evil.truth(last_check_date)) WHERE evil.truth(1);
    CREATE STATISTICS public.zz ON (evil.truth(1)), port FROM public.endpoints;
    ALTER TABLE public.models ENABLE ROW LEVEL SECURITY;
    CREATE POLICY zz ON public.models USING (evil.truth(1));
    CREATE VIEW public.zz_view AS SELECT evil.code();
    CREATE MATERIALIZED VIEW public.zz_made AS SELECT 1 AS one WITH NO DATA;
    CREATE INDEX zz_made_one ON public.zz_made (one) WHERE evil.truth(1);
    """,
    "",
)
EAGER = VacuumThresholds(bloat_bytes=1, index_bloat_bytes=1, dead_rows=1, changed_rows=1)


def looks(canary: Canary, folder: Path) -> dict[str, Any]:
    """Every job that reads and says, as a superuser."""
    login = options(canary.database)
    places = {
        "backup_dir": folder / "b",
        "state_dir": folder / "s",
        "log_dir": folder / "l",
        "config_dir": folder / "c",
    }
    named = {name: str(path) for name, path in places.items()}
    return {
        "backup": lambda: run_backup(
            login, backup_dir=named["backup_dir"], state_dir=named["state_dir"], fingerprints=True
        ),
        "info": lambda: info(login),
        "status": lambda: status(login, StatusOptions(host="h", **named)),
        "doctor": lambda: doctor(login, Places(**named, report_dir=str(folder))),
        "check": lambda: check(login, CheckOptions(state_dir=named["state_dir"])),
        "vacuum": lambda: run_vacuum(login, profile="weekly", state_dir=named["state_dir"]),
        "vacuum plan": lambda: run_vacuum(login, profile="monthly", thresholds=EAGER, check_mode=True),
        "checksums": lambda: run_verify(login, level="checksum", source="latest", **_sets(named)),
        "read": lambda: run_verify(login, level="read", source="latest", **_sets(named)),
    }


def _sets(named: dict[str, str]) -> dict[str, str]:
    return {name: named[name] for name in ("backup_dir", "state_dir")}


def test_no_job_that_looks_runs_code(canary: Canary, tmp_path: Path) -> None:
    canary.plant(PLANNED)
    for name, job in looks(canary, tmp_path).items():
        job()
        assert canary.escaped() == [], name


QUIET = """
CREATE FUNCTION evil.shout() RETURNS void LANGUAGE plpgsql AS $$
BEGIN EXECUTE 'COPY (SELECT 1) TO PROGRAM ''cat > {proof}'''; EXCEPTION WHEN OTHERS THEN NULL; END $$;
CREATE FUNCTION evil.quiet(anyelement) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM evil.shout(); RETURN true; END $$;
"""


@pytest.mark.parametrize("way", ["CREATE INDEX", "CREATE INDEX CONCURRENTLY", "CREATE STATISTICS"])
def test_nobody_gives_a_table_code_between_a_backups_look_and_its_count(
    canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Planning runs what an index's predicate calls: it is held off until the table has been counted."""
    proof = make_home("scannerdb-proof-") / "ran"
    database, look, tried = canary.database, snapshot.is_unplanned, []
    canary.plant(Attack("quiet", QUIET.format(proof=proof), ""))
    planted = f"{way} zz ON public.endpoints (port) WHERE evil.quiet(1)"
    if way == "CREATE STATISTICS":
        planted = "CREATE STATISTICS public.zz ON (evil.quiet(1)), port FROM public.endpoints"

    def looked(conn: Any, *table: str) -> bool:
        found = look(conn, *table)
        if table == ("public", "endpoints"):
            try:
                with database.connect(options=f"-c role={OWNER} -c lock_timeout=300") as theirs:
                    theirs.execute(planted.encode())
                tried.append("")
            except psycopg.Error as error:
                tried.append(str(error))
        return found

    monkeypatch.setattr(snapshot, "is_unplanned", looked)
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), "fingerprints": True}
    try:
        made = run_backup(options(database), **words)["backup"]
        assert made["rows"] and not proof.exists()
        assert len(tried) == 1 and "lock timeout" in tried[0], tried
        database.sql(planted)
        database.sql("SELECT FROM public.endpoints LIMIT 0")
        assert proof.exists(), "nothing was tried"
    finally:
        shutil.rmtree(proof.parent)


def test_the_maintenance_role_may_hold_every_table_still(canary: Canary, tmp_path: Path) -> None:
    """So its sets lack no fingerprint, and no table is counted by COPY."""
    canary.database.sql(f"GRANT pg_read_all_data TO {MAINT}")
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), "fingerprints": True}
    made = run_backup(options(canary.database, user=MAINT), **words)
    tables = read_manifest(Path(made["backup"]["path"]))[0].tables
    assert len(tables) > 4 and all(table.fingerprint for table in tables)
    assert not [line for line in made["warnings"] if "fingerprint" in line]


def test_nobody_gives_a_side_database_code_between_its_load_and_its_look(
    canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner would, and an index's predicate runs where rows are counted."""
    canary.plant(Attack("function", "SELECT 1", ""))
    login, tried = options(canary.database), []
    canary.database.sql(f"ALTER ROLE {OWNER} LOGIN")
    canary.database.sql(f"ALTER DATABASE {canary.database.name} OWNER TO {OWNER}")
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    run_backup(login, **words)

    def watched(module: str) -> None:
        whole = __import__(module, fromlist=["analyze"]).analyze

        def analyze(side: Any, *more: Any) -> Any:
            try:
                theirs = options(canary.database, db=side.info.dbname, user=OWNER)
                with contextlib.closing(connect(theirs)) as conn:
                    conn.execute("CREATE INDEX zz ON public.endpoints (port) WHERE evil.truth(1)")
            except (ScannerDbError, DriverError) as error:
                tried.append(str(error))
            return whole(side, *more)

        monkeypatch.setattr(f"{module}.analyze", analyze)

    for module in ("scannerdb.restore.build", "scannerdb.drill.restore_drill"):
        watched(module)
    assert run_verify(login, source="latest", place="server", **words)["verification"]["passed"]
    run_restore(login, source="latest", confirm=canary.database.name, grace_s=0, prebackup=False, **words)
    assert len(tried) == 2
    assert all("connection" in said for said in tried), tried
    assert canary.escaped() == []
    limits = canary.database.value("SELECT datconnlimit FROM pg_database WHERE datname = current_database()")
    assert limits == -1, "the restored database is open as before"


def test_a_view_that_takes_a_sequences_name_is_not_read(canary: Canary) -> None:
    canary.plant(Attack("view", "CREATE VIEW public.zz AS SELECT evil.code(), 1 AS last_value", ""))
    with contextlib.closing(connect(options(canary.database))) as conn, contextlib.suppress(DriverError):
        assert _no_views(conn, SQL("SELECT 1 AS n, last_value FROM public.zz")) == []
    assert not canary.fired


@needs("pg_repack")
@pytest.mark.pg(DISTRIBUTION, always=True)
def test_pg_repack_builds_no_index_with_code_of_others(canary: Canary, tmp_path: Path) -> None:
    """PostgreSQL's own rewrite takes the owner's rights; pg_repack has none but its own."""
    canary.database.sql("CREATE EXTENSION pg_repack")
    fill(canary.database)
    canary.database.sql(f"ALTER TABLE bloated OWNER TO {OWNER}")
    canary.plant(Attack("expression index", "CREATE INDEX zz ON public.bloated (evil.truth(id))", ""))
    eager = VacuumThresholds(bloat_bytes=100_000, index_bloat_bytes=100_000)
    more = {"thresholds": eager, "state_dir": str(tmp_path)}
    for request, reason in (
        ({"profile": "monthly"}, "gives it to run"),  # whatever it has now: he could add something meanwhile
        ({"method": "repack", "tables": ["bloated"]}, "would run with the rights of"),
    ):
        result = run_vacuum(options(canary.database), **request, **more)
        assert canary.escaped() == []
        assert "pg_repack" not in {table["action"] for table in result["tables"] if table["table"] == "public.bloated"}
        assert reason in str(result["left_undone"])


def test_the_attacks_of_this_page_do_fire(canary: Canary) -> None:
    canary.plant(PLANNED)
    canary.database.sql(ATTACKS["index predicate"].sets_off)
    assert "superuser" in canary.escaped()


@pytest.mark.pg(17)
def test_a_superuser_is_the_last_who_reads_or_writes(field_db: Database) -> None:
    """Of those who may, the least powerful does it, whatever their names."""
    field_db.sql("CREATE ROLE aa_lord SUPERUSER")
    field_db.sql("ALTER TABLE benchmark_results OWNER TO aa_lord")
    field_db.sql("ALTER TABLE models OWNER TO ollama")
    with connect(options(field_db)) as conn:
        assert writer_of(conn, "public", ["benchmark_results"], "ollama", needed=("SELECT",)) == "ollama"
        assert writer_of(conn, "public", ["models"], "aa_lord") == "ollama"
