"""Roles of a backup whose place others take: owners, grants, default privileges, policies, the database's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier
from scannerdb.errors import InvalidInput, PrivilegeMissing, RestoreRefused, ValidationFailed
from scannerdb.load.role_mapping import RoleRules

from tests.integration.restore.restore_support import ansible_module, databases, maintenance, old_dump, options, state
from tests.integration.support import run_backup, run_restore
from tests.servers import Database, Databases

OLD, OLD_READER = 'Ro "le; OWNER TO x', "lecteur 'é'"
NEW, NEW_READER = 'dev "app"; ü', "dev_reader"
MAP = {OLD: NEW, OLD_READER: NEW_READER}
OBJECTS = """
CREATE SCHEMA "s; x" AUTHORIZATION {old};
SET ROLE {old};
CREATE TABLE "s; x"."a
 OWNER TO postgres; b" (id serial PRIMARY KEY, "TO" text, who text);
INSERT INTO "s; x"."a
 OWNER TO postgres; b" ("TO") VALUES ('GRANT ALL ON x TO postgres;'), ('two');
CREATE VIEW "s; x".v AS SELECT "TO" FROM "s; x"."a
 OWNER TO postgres; b";
CREATE MATERIALIZED VIEW "s; x".m AS SELECT count(*) FROM "s; x"."a
 OWNER TO postgres; b";
CREATE SEQUENCE "s; x".q;
CREATE DOMAIN "s; x".d AS text;
CREATE FUNCTION "s; x".f(int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
ALTER TABLE t OWNER TO postgres;
GRANT ALL ON t TO postgres; END $$;
REVOKE ALL ON FUNCTION "s; x".f FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "s; x".f TO {reader};
GRANT USAGE ON SCHEMA "s; x" TO {reader};
GRANT SELECT ("TO"), UPDATE (who) ON "s; x"."a
 OWNER TO postgres; b" TO {reader} WITH GRANT OPTION;
GRANT SELECT ON "s; x".v TO {reader}, PUBLIC;
GRANT USAGE ON SEQUENCE "s; x".q TO {reader};
ALTER DEFAULT PRIVILEGES FOR ROLE {old} IN SCHEMA "s; x" GRANT SELECT ON TABLES TO {reader};
ALTER DEFAULT PRIVILEGES FOR ROLE {old} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER TABLE "s; x"."a
 OWNER TO postgres; b" ENABLE ROW LEVEL SECURITY;
CREATE POLICY "p TO" ON "s; x"."a
 OWNER TO postgres; b" FOR SELECT TO {reader}, {old} USING ("TO" <> 'TO postgres');
COMMENT ON POLICY "p TO" ON "s; x"."a
 OWNER TO postgres; b" IS 'OWNER TO postgres';
CREATE POLICY open ON "s; x"."a
 OWNER TO postgres; b" USING (true);
SELECT lo_from_bytea(424242, 'it is large');
GRANT SELECT ON LARGE OBJECT 424242 TO {reader};
RESET ROLE;
"""
PICTURE = """
WITH things AS (
 SELECT 'relation' AS kind, format('%I.%I', nspname, relname) AS name, relowner AS owner,
        coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)) AS acl
   FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relkind IN ('r', 'v', 'm', 'S') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
 UNION ALL SELECT 'column', attname, relowner, attacl FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
            WHERE attacl IS NOT NULL AND relnamespace = '"s; x"'::regnamespace
 UNION ALL SELECT 'schema', nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace
            WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
 UNION ALL SELECT 'function', proname, proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
            WHERE pronamespace = '"s; x"'::regnamespace
 UNION ALL SELECT 'type', typname, typowner, coalesce(typacl, acldefault('T', typowner)) FROM pg_type
            WHERE typtype = 'd' AND typnamespace = '"s; x"'::regnamespace
 UNION ALL SELECT 'large object', oid::text, lomowner, lomacl FROM pg_largeobject_metadata
 UNION ALL SELECT 'default', defaclnamespace::regnamespace || defaclobjtype::text, defaclrole, defaclacl
             FROM pg_default_acl
 UNION ALL SELECT 'database', '', datdba, coalesce(datacl, acldefault('d', datdba)) FROM pg_database
            WHERE datname = current_database())
SELECT kind, name::text, owner::regrole::text, grantor::regrole::text, grantee::regrole::text, privilege_type,
       is_grantable
  FROM things LEFT JOIN LATERAL aclexplode(acl) ON true
 UNION ALL SELECT 'policy', polname, obj_description(oid, 'pg_policy'), r::regrole::text,
        pg_get_expr(polqual, polrelid), polcmd::text, polpermissive FROM pg_policy, unnest(polroles) r
 UNION ALL SELECT 'setting', setrole::regrole::text, setconfig::text, '', '', '', true FROM pg_db_role_setting
            WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def picture(db: Database) -> set[tuple[Any, ...]]:
    """Who owns what, and who may do what, by the server's own catalogs."""
    return set(db.sql(PICTURE))


def texts(*roles: str) -> list[str]:
    return ['"' + role.replace('"', '""') + '"' for role in roles]


def furnish(db: Database) -> None:
    """What the old roles have in the database."""
    old, reader = texts(OLD, OLD_READER)
    with db.connect() as conn:
        for role in (old, reader):
            conn.execute(f"CREATE ROLE {role}".encode())
        conn.execute(OBJECTS.format(old=old, reader=reader).encode())


def furnish_database(db: Database) -> None:
    """What the database itself has of the old roles."""
    old, reader = map(Identifier, (OLD, OLD_READER))
    name = Identifier(db.name)
    for statement in (
        SQL("ALTER DATABASE {} OWNER TO {}").format(name, old),
        SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(name),
        SQL("GRANT CONNECT ON DATABASE {} TO {} WITH GRANT OPTION").format(name, reader),
        SQL("ALTER ROLE {} IN DATABASE {} SET search_path TO 's; x', public").format(reader, name),
    ):
        with db.connect() as conn:
            conn.execute(statement)


def rename(db: Database) -> None:
    """The old roles are gone, and everything is as it shall be after the restore: PostgreSQL renames roles itself."""
    for old, new in MAP.items():
        with db.connect() as conn:
            conn.execute(SQL("ALTER ROLE {} RENAME TO {}").format(Identifier(old), Identifier(new)))


def run(db: Database, folder: Path, source: object, **more: Any) -> dict[str, Any]:
    login = more.pop("login", {})
    values = {
        "backup_dir": str(folder),
        "state_dir": str(folder / "state"),
        "confirm": db.name,
        "grace_s": 0,
        "prebackup": False,
        "role_map": MAP,
    }
    return run_restore(options(db, **login), source=str(source), **{**values, **more})


def spoil(db: Database) -> None:
    """What no restore may leave behind."""
    db.sql('DROP SCHEMA "s; x" CASCADE')
    db.sql("SELECT lo_unlink(424242)")


@pytest.mark.parametrize("form", ["c", "d", "t", "p", "inserts"])
def test_archives_and_plain_files(database: Database, tmp_path: Path, form: str) -> None:
    db = database
    furnish(db)
    with db.connect() as conn:  # a grant that its receiver made: it is dumped with SET SESSION AUTHORIZATION
        conn.execute(b"CREATE ROLE third")
        conn.execute(SQL("SET ROLE {}").format(Identifier(OLD_READER)))
        table = '"s; x"."a\n OWNER TO postgres; b"'
        conn.execute(f'GRANT SELECT ("TO") ON {table} TO {texts(OLD)[0]}, third'.encode())
    dump = old_dump(db, tmp_path / "x", *(("p", "--rows-per-insert=7") if form == "inserts" else form))
    rename(db)
    wanted, rows = picture(db), {k: v for k, v in state(db).items() if k.startswith("rows")}
    assert {("large object", "424242"), ("policy", "p TO"), ("default", '"s; x"r')} <= {row[:2] for row in wanted}
    spoil(db)
    result = run(db, tmp_path, dump)
    assert picture(db) == wanted
    assert {k: v for k, v in state(db).items() if k.startswith("rows")} == rows
    assert "ALTER TABLE t OWNER TO postgres;" in db.value("SELECT prosrc FROM pg_proc WHERE proname = 'f'")
    assert not [w for w in result["warnings"] if "role" in w.lower()]


def test_a_set_of_ours_with_no_database_left(make_database: Databases, tmp_path: Path) -> None:
    """Owner, privileges and settings of the database are the manifest's, and follow the mapping too."""
    db = make_database("a=b 'x")
    furnish(db)
    furnish_database(db)
    run_backup(options(db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"), verify_level="none")
    rename(db)
    wanted = picture(db)
    assert {row[0] for row in wanted} >= {"setting", "database"}
    with maintenance(db) as conn:
        conn.execute(SQL("DROP DATABASE {}").format(Identifier(db.name)))
    accept = ["schema.*"]
    told = run(db, tmp_path, "latest", check_mode=True, accept=accept)
    assert f"roles: {OLD!r} becomes {NEW!r}; {OLD_READER!r} becomes {NEW_READER!r}" in told["plan"]["steps"]
    assert (told["plan"]["role_map"], told["plan"]["missing_roles"]) == (MAP, [])
    with pytest.raises(RestoreRefused, match=r"does not have: Ro .*scannerdb_restore_role_map"):
        run(db, tmp_path, "latest", accept=accept, role_map={})
    run(db, tmp_path, "latest", accept=accept)
    assert picture(db) == wanted


@pytest.mark.parametrize("form", ["c", "p"])
def test_without_a_superuser(database: Database, tmp_path: Path, form: str) -> None:
    """Membership in the role that is to own is needed, and asked for before anything is written."""
    db = database
    furnish(db)
    dump = old_dump(db, tmp_path / "x", form)
    rename(db)
    wanted = picture(db)
    db.sql("CREATE ROLE maint LOGIN CREATEDB")
    with db.connect() as conn:
        conn.execute(SQL("ALTER DATABASE {} OWNER TO maint").format(Identifier(db.name)))
        conn.execute(b"CREATE ROLE stranger")
    before, names = state(db), databases(db)
    login = {"user": "maint"}
    with pytest.raises(PrivilegeMissing, match=r'no member of dev "app"; ü.* GRANT "dev ""app""; ü" TO "maint"'):
        run(db, tmp_path, dump, login=login)
    with pytest.raises(PrivilegeMissing, match="no member of stranger"):
        run(db, tmp_path, dump, login=login, role_map={**MAP, OLD: "stranger"}, check_mode=True)
    assert (state(db), databases(db)) == (before, names)
    with db.connect() as conn:
        conn.execute(SQL("GRANT {} TO maint").format(Identifier(NEW)))
    spoil(db)
    run(db, tmp_path, dump, login=login)
    own = [row for row in picture(db) if row[0] != "database"]
    assert set(own) == {row for row in wanted if row[0] != "database"}


@pytest.mark.parametrize("form", ["c", "p"])
def test_missing_roles_are_made_without_a_superuser(database: Database, tmp_path: Path, form: str) -> None:
    db = database
    furnish(db)
    wanted = {row for row in picture(db) if row[0] != "database"}
    dump = old_dump(db, tmp_path / "x", form)
    db.sql("CREATE ROLE maint LOGIN CREATEDB")
    with db.connect() as conn:
        conn.execute(SQL("ALTER DATABASE {} OWNER TO maint").format(Identifier(db.name)))
        for role in map(Identifier, (OLD, OLD_READER)):
            conn.execute(SQL("DROP OWNED BY {} CASCADE").format(role))
            conn.execute(SQL("DROP ROLE {}").format(role))
    before, names = state(db), databases(db)
    more = {"login": {"user": "maint"}, "role_map": {}, "missing_roles": "create"}
    for check in (True, False):
        with pytest.raises(PrivilegeMissing, match=r"'maint' may not create the roles that are missing: Ro .*lecteur"):
            run(db, tmp_path, dump, **more, check_mode=check)
    assert (state(db), databases(db)) == (before, names)
    db.sql("ALTER ROLE maint CREATEROLE")
    run(db, tmp_path, dump, **more)
    assert {row for row in picture(db) if row[0] != "database"} == wanted


def test_a_clone_whose_roles_are_others(make_database: Databases, tmp_path: Path) -> None:
    """Roles that exist are replaced too, the live database's own in the clone included; the live one keeps them."""
    db = make_database()
    furnish(db)
    furnish_database(db)
    run_backup(options(db), backup_dir=str(tmp_path), state_dir=str(tmp_path / "state"), verify_level="none")
    for role in (NEW, NEW_READER):
        with db.connect() as conn:
            conn.execute(SQL("CREATE ROLE {}").format(Identifier(role)))
    live = picture(db)
    run(db, tmp_path, "latest", into_database="dev", confirm="dev")
    assert picture(db) == live
    clone = picture(Database(db.server, "dev"))
    assert not [row for row in clone if {OLD, OLD_READER, *texts(OLD, OLD_READER)} & set(map(str, row))]
    rename_in = dict(zip(texts(OLD, OLD_READER), [texts(NEW)[0], NEW_READER]))
    assert clone == {tuple(rename_in.get(str(v), v) if isinstance(v, str) else v for v in row) for row in live}


def test_two_roles_change_places(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE ROLE one")
    database.sql("CREATE ROLE two")
    database.sql("CREATE TABLE t ()")
    database.sql("ALTER TABLE t OWNER TO one")
    database.sql("GRANT SELECT ON t TO two")
    dump = old_dump(database, tmp_path / "x")
    run(database, tmp_path, dump, role_map={"one": "two", "two": "one"})
    assert database.value("SELECT relowner::regrole::text FROM pg_class WHERE relname = 't'") == "two"
    rights = "SELECT has_table_privilege('one', 't', 'SELECT'), has_table_privilege('one', 't', 'INSERT')"
    assert database.sql(rights) == [(True, False)]


def test_the_applications_role_is_replaced_in_the_contract_too(make_database: Databases, tmp_path: Path) -> None:
    db = make_database(filled=True)
    db.sql("CREATE ROLE dev_app")
    dump = old_dump(db, tmp_path / "x")
    result = run(db, tmp_path, dump, role_map={"ollama": "dev_app", "nobody here": "dev_app"})
    log = Path(result["log"]).read_text(encoding="utf-8")
    assert "critical: " in log and "schema.privilege.missing" not in log
    assert db.value("SELECT has_table_privilege('dev_app', 'endpoints', 'UPDATE')") is True
    assert db.value("SELECT has_table_privilege('ollama', 'endpoints', 'SELECT')") is False
    assert any("speaks of nobody here, which this backup does not name" in w for w in result["warnings"])


@pytest.mark.parametrize("form", ["c", "p"])
def test_some_are_replaced_and_some_ignored(database: Database, tmp_path: Path, form: str) -> None:
    """A policy loses only the role that is ignored; one for nobody else is left out."""
    db = database
    furnish(db)
    db.sql('CREATE POLICY gone ON "s; x"."a\n OWNER TO postgres; b" TO "lecteur \'é\'" USING (true)')
    dump = old_dump(db, tmp_path / "x", form)
    rename(db)
    db.sql("DROP OWNED BY dev_reader")
    db.sql("DROP ROLE dev_reader")
    result = run(db, tmp_path, dump, role_map={OLD: NEW}, missing_roles="ignore")
    found = picture(db)
    assert [row[3] for row in found if row[:2] == ("policy", "p TO")] == texts(NEW)
    assert not [row for row in found if row[:2] == ("policy", "gone")]
    assert {row[2] for row in found if row[:2] == ("relation", '"s; x".v')} == set(texts(NEW))
    assert form == "p" or any(OLD_READER in warning for warning in result["warnings"])


def test_what_is_refused(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database.sql("CREATE ROLE one")
    database.sql("CREATE ROLE two")
    database.sql("CREATE TABLE t ()")
    database.sql("ALTER TABLE t OWNER TO one")
    dump = old_dump(database, tmp_path / "x")
    before, names = state(database), databases(database)
    for role_map in ({"one": "not_there"}, {"nobody": "not_there"}):
        with pytest.raises(RestoreRefused, match="roles that this server does not have: not_there"):
            run(database, tmp_path, dump, role_map=role_map, check_mode=True)
    for wrong in ({"one": ""}, {"one": None}, {"": "two"}):
        with pytest.raises(InvalidInput, match="names no role in the place of"):
            run(database, tmp_path, dump, role_map=wrong)
    monkeypatch.setattr(RoleRules, "rewritten", lambda self, text: text)  # as if a statement had been missed
    with pytest.raises(ValidationFailed, match="After the restore one still owned something"):
        run(database, tmp_path, dump, role_map={"one": "two"})
    assert (state(database), databases(database)) == (before, names)


def test_as_a_module_with_the_mapping_as_text(database: Database, tmp_path: Path) -> None:
    """A survey gives text: JSON, or pairs."""
    database.sql("CREATE ROLE one")
    database.sql("CREATE ROLE two")
    dump = old_dump(database, tmp_path / "x")
    values = {
        **database.login,
        "backup_dir": str(tmp_path),
        "state_dir": str(tmp_path / "state"),
        "source": str(dump),
        "confirm": database.name,
    }
    for text in (json.dumps({"one": "two"}), "one=two"):
        told = ansible_module("scannerdb_restore", {**values, "role_map": text}, check=True)
        assert told["plan"]["role_map"] == {"one": "two"}, told
