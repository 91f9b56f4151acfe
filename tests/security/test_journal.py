"""The journal: nobody else's is used, nothing in it is run as SQL, and no row that others wrote is put back."""

from __future__ import annotations

from pathlib import Path

import pytest
from scannerdb.errors import UnsafeCode
from scannerdb.fixes.policy import FixPolicy
from scannerdb.jobs.undo import undo

from tests.integration.support import NO_BACKUP, options, run_fix
from tests.security.attacks import GRANTEE, MAINT, OWNER, Attack, Canary
from tests.servers import Database

DATES = FixPolicy(only=("data.endpoints.last_check_date_null",))
TABLE = """
CREATE TABLE scannerdb_maintenance.journal (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run_id text NOT NULL,
    fix_id text NOT NULL, written_at timestamptz NOT NULL DEFAULT now(), table_schema text NOT NULL,
    table_name text NOT NULL, operation text NOT NULL, row_id bigint, before jsonb, after jsonb, undone_at timestamptz)
"""
NEVER_RUN = "20250418T031500Z-0a1b2c3d"
PLANTED = {
    "a trigger": TABLE
    + "; CREATE TRIGGER zz BEFORE INSERT ON scannerdb_maintenance.journal FOR EACH ROW EXECUTE FUNCTION evil.fire()",
    "a rule": TABLE + "; CREATE RULE zz AS ON INSERT TO scannerdb_maintenance.journal DO ALSO SELECT evil.code()",
    "a CHECK": TABLE + "; ALTER TABLE scannerdb_maintenance.journal ADD CHECK (evil.truth(row_id))",
    "a default": TABLE + "; ALTER TABLE scannerdb_maintenance.journal ADD zz boolean DEFAULT evil.code()",
    "an index": TABLE + "; CREATE INDEX ON scannerdb_maintenance.journal (run_id) WHERE evil.truth(1)",
    "a policy": TABLE + "; ALTER TABLE scannerdb_maintenance.journal ENABLE ROW LEVEL SECURITY",
    "a view": "CREATE VIEW scannerdb_maintenance.journal AS SELECT evil.code() AS run_id",
    "a child": TABLE + "; CREATE TABLE evil.child () INHERITS (scannerdb_maintenance.journal);"
    " CREATE INDEX ON evil.child (run_id) WHERE evil.truth(1)",
}


@pytest.mark.parametrize("user", ["postgres", MAINT])
@pytest.mark.parametrize("what", list(PLANTED))
def test_a_planted_journal_is_refused(canary: Canary, tmp_path: Path, what: str, user: str) -> None:
    db = canary.database
    db.sql(f"CREATE SCHEMA scannerdb_maintenance AUTHORIZATION {OWNER}")
    canary.plant(Attack(what, PLANTED[what], ""))
    before = db.value("SELECT md5(string_agg(e::text, '' ORDER BY id)) FROM endpoints e")
    with pytest.raises(UnsafeCode, match="journal"):
        run_fix(db, policy=DATES, state_dir=str(tmp_path))
    with pytest.raises(UnsafeCode, match="journal"):
        undo(options(db, user=user), run_id=NEVER_RUN, check_mode=True)
    assert db.value("SELECT md5(string_agg(e::text, '' ORDER BY id)) FROM endpoints e") == before
    assert not canary.fired
    assert canary.escaped() == []


def test_a_stranger_s_schema_is_refused(field_db: Database) -> None:
    field_db.sql("CREATE ROLE stranger")
    field_db.sql("CREATE SCHEMA scannerdb_maintenance AUTHORIZATION stranger")
    with pytest.raises(UnsafeCode, match="belongs to stranger"):
        run_fix(field_db, policy=DATES)


@pytest.mark.parametrize("former", [OWNER, GRANTEE])
def test_the_journal_of_an_earlier_release_is_taken_over(field_db: Database, tmp_path: Path, former: str) -> None:
    field_db.sql(f"CREATE SCHEMA scannerdb_maintenance AUTHORIZATION {former}")
    field_db.sql(TABLE)
    field_db.sql(f"ALTER TABLE scannerdb_maintenance.journal OWNER TO {former}")
    result = run_fix(field_db, policy=DATES, state_dir=str(tmp_path))
    assert result["changed"]
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'scannerdb_maintenance'"
    assert field_db.sql(owners) == [("postgres",)]
    assert not field_db.value(f"SELECT has_table_privilege('{former}', 'scannerdb_maintenance.journal', 'INSERT')")


def forge(db: Database, run_id: str) -> None:
    db.sql(
        "INSERT INTO scannerdb_maintenance.journal"
        " (run_id, fix_id, table_schema, table_name, operation, row_id, before, after)"
        f" SELECT '{run_id}', 'data.forged', 'public', 'endpoints', 'update', id, to_jsonb(e) || '{{\"port\": 1}}',"
        " to_jsonb(e) FROM endpoints e WHERE port <> 1 LIMIT 1"
    )


def test_forged_entries_are_left(field_db: Database, tmp_path: Path) -> None:
    """In the journal of a set that somebody gave us, say; a changed entry makes its whole batch suspect."""
    state = str(tmp_path)
    result = run_fix(field_db, policy=DATES, state_dir=state)
    forge(field_db, result["run_id"])
    forge(field_db, NEVER_RUN)
    planned = undo(options(field_db), run_id=result["run_id"], state_dir=state, check_mode=True)
    assert "1 entries that this host did not write" in planned["diff"]["after"]
    back = undo(options(field_db), run_id=result["run_id"], state_dir=state)
    assert [c["id"] for c in back["conflicts"]] == ["data.forged"]
    assert "did not write" in back["conflicts"][0]["why"]
    assert back["fixed"]
    assert not undo(options(field_db), run_id=NEVER_RUN, state_dir=state)["changed"]
    assert field_db.value("SELECT count(*) FROM endpoints WHERE port = 1") == 0
    assert undo(options(field_db), run_id=NEVER_RUN, state_dir=state, unsealed=True)["changed"]


def test_a_changed_entry_is_left(field_db: Database, tmp_path: Path) -> None:
    result = run_fix(field_db, policy=DATES, state_dir=str(tmp_path))
    field_db.sql("UPDATE scannerdb_maintenance.journal SET before = before || '{\"port\": 1}'")
    assert not undo(options(field_db), run_id=result["run_id"], state_dir=str(tmp_path))["changed"]
    assert (tmp_path / "journal.key").stat().st_mode & 0o777 == 0o600


def test_another_host_s_entries_are_left(field_db: Database, tmp_path: Path) -> None:
    result = run_fix(field_db, policy=DATES, state_dir=str(tmp_path / "one"))
    assert not undo(options(field_db), run_id=result["run_id"], state_dir=str(tmp_path / "two"))["changed"]


def test_sql_in_the_journal_is_never_run(field_db: Database, tmp_path: Path) -> None:
    result = run_fix(field_db, policy=DATES, state_dir=str(tmp_path))
    field_db.sql(
        "INSERT INTO scannerdb_maintenance.journal"
        " (run_id, fix_id, table_schema, table_name, operation, after) VALUES"
        f" ('{result['run_id']}', 'schema.index.missing', 'public', 'x', 'structure',"
        """ '{"undo": [{"how": "plain", "lock": "none", "relations": [], "sql": ["DROP TABLE metadata CASCADE"]}]}'),"""
        f" ('{result['run_id']}', 'schema.index.missing', 'public', 'y', 'structure',"
        """ '{"undo": [{"kind": "alter_column", "arguments": {"schema": "public", "table": "endpoints","""
        """ "column": "ip","""
        """ "action": "TYPE text; DROP TABLE metadata CASCADE"}}]}')"""
    )
    back = undo(options(field_db), run_id=result["run_id"], unsealed=True)
    assert {c["object"] for c in back["conflicts"]} == {"x", "y"}
    assert field_db.value("SELECT to_regclass('public.metadata') IS NOT NULL")


def test_a_way_back_of_structure_is_shown(field_db: Database, tmp_path: Path) -> None:
    state = str(tmp_path)
    result = run_fix(field_db, policy=FixPolicy(only=("schema.foreign_key.on_delete",)), state_dir=state)
    planned = undo(options(field_db), run_id=result["run_id"], state_dir=state, check_mode=True)
    assert "FOREIGN KEY" in planned["diff"]["after"]
    back = undo(options(field_db), run_id=result["run_id"], state_dir=state)
    assert back["conflicts"] == []
    assert back["changed"]


def test_a_fix_that_fails_says_what_it_had_done(field_db: Database, tmp_path: Path) -> None:
    """The write probe fails at the end; what was applied before stays, and is told with its way back."""
    field_db.sql("ALTER TABLE endpoints ADD CONSTRAINT no_probe CHECK (ip NOT LIKE 'fd%') NOT VALID")
    result = run_fix(field_db, state_dir=str(tmp_path), safety=NO_BACKUP)
    assert "write probe on servers failed" in result["failures"][-1]
    assert result["changed"]
    assert result["fixed"]
    assert result["run_id"] in result["msg"]
    assert undo(options(field_db), run_id=result["run_id"], state_dir=str(tmp_path))["changed"]
