"""The playbooks, run as people and schedulers run them: another process, a real server, the exit code and the words."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import servers
from tests.integration.playbooks import ROOT, Site, over_tcp, run, site
from tests.integration.support import content, findings
from tests.servers import Database, Databases, standby_of

__all__ = ["site"]

MAINT = "scannerdb_maint"
SECRETS = {
    "scannerdb_maintenance_role_password": "hidden:maint\\word",
    "scannerdb_application_role_password": "hidden-application",
}
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
GRANTS = """
    SELECT c.oid::regclass::text, a.grantee::regrole::text, a.privilege_type
      FROM pg_class c, aclexplode(c.relacl) a WHERE relnamespace = 'public'::regnamespace
"""
OWNERS = """
    SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION SELECT pg_get_userbyid(proowner)::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""


@pytest.fixture
def one(request: pytest.FixtureRequest, pool: servers.Pool) -> Iterator[Databases]:
    """A factory of databases on one server only: what a playbook says does not depend on the version."""
    version = servers.asked_version(request.config, 18)
    factory = Databases(pool, pool.server(version))
    yield factory
    factory.clean()


def severities(database: Database, *severity: str) -> set[str]:
    """The ids of what a check finds at these severities in the database; the tests' servers themselves are not safe."""
    found = findings(database).items()
    return {name for name, of_it in found if of_it[0]["severity"] in severity and not name.startswith("server.")}


def groups_of(database: Database, role: str) -> set[str]:
    """The roles that a role is a direct member of."""
    query = "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = %s::regrole"
    return {name for (name,) in database.sql(query, role)}


# --- the main path, on every version


def test_a_field_database_is_adopted_then_maintained_without_a_superuser(site: Site, field_db: Database) -> None:
    before, grants = content(field_db), set(field_db.sql(GRANTS))
    deployed = site.add("db", field_db, **SECRETS).run("playbooks/deploy.yml", "-vvvv").ok()
    assert content(field_db) == before
    assert grants <= set(field_db.sql(GRANTS))
    assert set(field_db.sql(OWNERS)) == {("scanner_owner",)}  # of what was there and of what was made
    assert field_db.sql("SELECT rolsuper FROM pg_roles WHERE rolname = %s", MAINT) == [(False,)]
    assert "cannot maintain everything" in deployed.prose  # the test's database belongs to the superuser

    password = SECRETS["scannerdb_maintenance_role_password"]
    site.add("db", field_db, **over_tcp(MAINT, password))
    first = site.run("maintain.yml", "-vvvv", "--diff").ok()
    assert severities(field_db, "critical") == set()
    assert "Undo: ansible-playbook" in first.output
    for secret in SECRETS.values():
        for shown in (secret, json.dumps(secret)[1:-1]):
            assert shown not in deployed.output
            assert shown not in first.output

    second = site.run("maintain.yml").ok()
    assert second.changed["db"] == 1, second.output  # its backup
    assert "Fixed nothing" in second.prose
    assert "Vacuumed nothing" in second.prose
    assert len(site.backups("db")) == 2


def test_an_empty_server_becomes_the_baseline(site: Site, make_database: Databases) -> None:
    database = Database(make_database.server, "fresh")
    overlay = {"tables": {"endpoints": {"indexes": [["last_check_date"]]}}}
    site.add("db", database, **SECRETS, scannerdb_contract_overlay=overlay)
    deployed = site.run("playbooks/deploy.yml", scannerdb_deploy_extensions="amcheck, nowhere").ok()
    groups = "^(ollama|pg_(monitor|maintain|read_all_data|signal_backend))$"
    known = f"SELECT rolname::text FROM pg_roles WHERE rolname ~ '{groups}'"
    assert groups_of(database, MAINT) >= {name for (name,) in database.sql(known)}
    assert database.value("SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'") == 1
    assert "machine lacks the extension nowhere: install" in deployed.prose
    assert severities(database, "critical", "warning") == set()
    index = "SELECT count(*) FROM pg_indexes WHERE tablename = 'endpoints' AND indexdef LIKE '%(last_check_date)'"
    assert database.value(index) == 1
    assert database.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'") == [(MAINT,)]
    application = {"host": "127.0.0.1", "password": SECRETS["scannerdb_application_role_password"]}
    with database.connect("ollama", **application) as conn:
        conn.execute("INSERT INTO servers (ip) VALUES ('192.0.2.1')")
        assert conn.execute("SELECT port FROM endpoints WHERE verified = 1").fetchall() == [(11434,)]
    second = site.run("playbooks/deploy.yml", scannerdb_deploy_extensions=["amcheck"]).ok()
    assert second.changed["db"] == 0, second.output
    assert "A backup with the extension amcheck can be restored by a superuser only." in second.prose


# --- deploy, closer


def test_deploy_in_check_mode_then_for_real_under_a_hostile_name(site: Site, one: Databases) -> None:
    database = Database(one.server, 'we"ird; dr%op')
    catalog = "SELECT array_agg(rolname::text ORDER BY rolname) FROM pg_roles"
    existing = one()
    roles = existing.value(catalog)
    site.add("db", database)
    planned = site.run("playbooks/deploy.yml", "--check", "--diff").ok()
    assert planned.changed["db"] > 0
    assert existing.value(catalog) == roles
    assert existing.value("SELECT count(*) FROM pg_database WHERE datname = %s", database.name) == 0
    assert site.files("db") == []
    site.run("playbooks/deploy.yml").ok()
    assert severities(database, "critical", "warning") == set()
    site.run("maintain.yml").ok()


def test_deploy_gives_the_roles_what_a_strict_site_took_from_public(site: Site, one: Databases) -> None:
    database = one(filled=True)
    database.sql(f"REVOKE ALL ON DATABASE {database.name} FROM PUBLIC")
    database.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC, ollama")
    database.sql("REVOKE CREATE ON SCHEMA public FROM scanner_owner")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        database.connect("ollama")
    site.add("db", database, **SECRETS)
    assert site.run("playbooks/deploy.yml", "--check").ok().changed["db"] > 0
    site.run("playbooks/deploy.yml").ok()
    with database.connect("ollama") as conn:
        conn.execute("SELECT FROM servers")
    database.sql("DROP FUNCTION scannerdb_servers_insert CASCADE")  # work on the structure, for the maintenance role
    database.sql("DROP INDEX endpoints_verified_idx")
    site.add("db", database, **over_tcp(MAINT, SECRETS["scannerdb_maintenance_role_password"]))
    site.run("maintain.yml").ok()
    assert severities(database, "critical") == set()


def test_deploy_leaves_roles_alone_where_they_are_somebody_elses(site: Site, one: Databases) -> None:
    database = Database(one.server, "shared")
    role = "SELECT count(*) FROM pg_roles WHERE rolname = 'scannerdb_maint'"
    site.add("db", database).run("playbooks/deploy.yml", "-e", "scannerdb_deploy_roles=false").ok()
    assert database.value(role) == 0
    # The application's role exists where another test has made it.
    assert severities(database, "critical", "warning") <= {"schema.privilege.missing"}
    assert database.value("SELECT count(*) FROM servers") == 0


def test_the_maintenance_role_restores_a_database_that_it_owns(site: Site, one: Databases) -> None:
    database = Database(one.server, "owned")
    site.add("db", database, **SECRETS).run("playbooks/deploy.yml").ok()
    database.sql("INSERT INTO servers (ip) VALUES ('192.0.2.7')")
    site.add("db", database, **over_tcp(MAINT, SECRETS["scannerdb_maintenance_role_password"]))
    site.run("playbooks/backup.yml").ok()
    database.sql("DELETE FROM servers")
    site.run("playbooks/restore.yml", scannerdb_restore_source="latest", scannerdb_restore_confirm="owned").ok()
    assert database.value("SELECT ip FROM servers") == "192.0.2.7"
    assert database.value("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'owned'") == MAINT


# --- maintain, closer


def test_of_a_primary_and_its_standby_only_the_primary_is_fixed(site: Site, one: Databases) -> None:
    database = one(filled=True)
    with standby_of(database) as second:
        site.add("first", database).add("second", second)
        done = site.run("maintain.yml").ok()
        assert "second is a member of a cluster whose work first does" in done.prose
        assert severities(database, "critical") == set()
        assert (len(site.backups("first")), len(site.backups("second"))) == (1, 0)
        limited = site.run("maintain.yml", "-l", "second").ok()
        assert "nothing is done here (first, which it follows, is not in this run)" in limited.prose
        assert site.backups("second") == []
        site.run("maintain.yml", scannerdb_hosts="second").failed("Only standbys were found (second)")
        assert len(site.backups("second")) == 1


def test_check_mode_changes_nothing_and_tells_everything(site: Site, one: Databases) -> None:
    database = one(filled=True)
    before = content(database)
    catalog = "SELECT array_agg(c.oid::regclass::text || c.relfilenode ORDER BY 1) FROM pg_class c WHERE c.oid >= 16384"
    objects = database.value(catalog)
    planned = site.add("db", database).run("maintain.yml", "--check", "--diff").ok()
    assert (content(database), database.value(catalog), site.files("db")) == (before, objects, [])
    assert "check mode: nothing was changed" in planned.output
    assert "CREATE OR REPLACE TRIGGER" in planned.output  # the diff has the SQL
    assert re.search(r"To fix +\d+ findings", planned.output)
    assert re.search(r"To vacuum +\d+ table", planned.output)


def test_two_databases_of_one_inventory_from_another_folder(site: Site, one: Databases, tmp_path: Path) -> None:
    databases = {"left": one(filled=True), "right": one(filled=True)}
    for name, database in databases.items():
        site.add(name, database)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = site.run("maintain.yml", cwd=elsewhere).ok()
    for name, database in databases.items():
        assert site.report(name)["server"]["database"] == database.name
        assert [path.name.startswith(f"{database.name}_2") for path in site.backups(name)] == [True]
        logs = ["db_maintenance_fix.log", "db_schema_check.log", "view_update_fix.log"]
        assert site.files(name, "logs") == logs
        assert severities(database, "critical") == set()
        assert f"{database.name} on PostgreSQL" in done.output


def test_profiles(site: Site, one: Databases) -> None:
    database = one(filled=True)
    before, size = content(database), "SELECT pg_relation_size('chat_history')"
    large = database.value(size)
    daily = site.add("db", database).run("maintain.yml", "-e", "scannerdb_profile=daily").ok()
    assert daily.changed["db"] == 1  # the backup
    assert len(site.backups("db")) == 1
    assert content(database) == before
    assert site.files("db", "state/reports") == []
    extra = [
        "scannerdb_profile=monthly",
        "scannerdb_vacuum_allow_exclusive=true",
        "scannerdb_vacuum_tables=chat_history",
    ]
    site.run("maintain.yml", *(word for each in extra for word in ("-e", each))).ok()
    assert database.value(size) < large
    wrong = site.run("maintain.yml", "-e", "scannerdb_profile=dayly")
    wrong.failed("value of scannerdb_profile must be one of: daily, weekly, monthly, got: dayly")
    assert "Not done check, backup, fix, vacuum" in wrong.prose
    sets = site.files("db", "backups")
    late = site.run("maintain.yml", "-e", "scannerdb_vacuum_method=wipe")
    late.failed("value of scannerdb_vacuum_method must be one of:", "got: wipe")
    assert "Not done check, backup, fix, vacuum" in late.prose and site.files("db", "backups") == sets


def test_a_critical_finding_that_stays_fails_the_run_after_its_summary(site: Site, one: Databases) -> None:
    database = one(filled=True)
    done = site.add("db", database).run("maintain.yml", "-e", "scannerdb_fix_skip=data.verified.link_missing")
    done.failed("on which this check fails (scannerdb_check_fail_on)", "Undo: ansible-playbook")
    assert re.search(r"Left +[1-9]\d* critical", done.output)
    assert severities(database, "critical") == {"data.verified.link_missing"}
    looks = len(history(site))
    again = site.run("maintain.yml", "-e", "scannerdb_fix_skip=data.verified.link_missing")
    again.failed("1 are critical, on which this check fails (scannerdb_check_fail_on)", "Verdict: the error is above")
    assert "Fixed nothing" in again.prose
    assert re.search(r"Left +1 critical", again.output)
    assert len(history(site)) == looks + 1  # nothing was changed, so nothing was looked at twice
    site.run("maintain.yml", scannerdb_fix_skip="data.verified.link_missing", scannerdb_check_fail_on="never").ok()


def history(site: Site) -> list[str]:
    """What the checks have remembered, one line each."""
    return (site.folder / "db/state/check_history.jsonl").read_text(encoding="utf-8").splitlines()


def test_a_failed_backup_stops_the_run_and_the_summary_says_so(site: Site, one: Databases) -> None:
    database = one(filled=True)
    before = content(database)
    site.add("db", database, scannerdb_pg_bin_dir="/nowhere")
    done = site.run("maintain.yml").failed("Failed Backup:", "/nowhere", "Not done fix, vacuum")
    assert re.search(r"Found +\d+ critical", done.output)
    assert not re.search(r"Left +\d", done.output)
    assert content(database) == before


def test_every_kind_of_variable_as_a_string(site: Site, one: Databases) -> None:
    database = one(filled=True)
    ignored = '[{"id": "index.*", "reason": "looked at"}]'
    extra = {
        "scannerdb_login_port": str(database.server.port),
        "scannerdb_become": "false",
        "scannerdb_lock_timeout_ms": "60",
        "scannerdb_lock_deadline_s": "30",
        "scannerdb_lock_wait_s": "5",
        "scannerdb_contract_overlay": '{"tables": {"endpoints": {"indexes": [["last_check_date"]]}}}',
        "scannerdb_retention_days": "5",
        "scannerdb_retention_min": "1",
        "scannerdb_backup_jobs": "1",
        "scannerdb_backup_nice": "0",
        "scannerdb_backup_bandwidth": "0",
        "scannerdb_check_ignore": ignored,
        "scannerdb_check_statement_timeout_s": "60",
        "scannerdb_fix_only": "data.verified.*, schema.index.missing",
        "scannerdb_fix_skip": "",
        "scannerdb_fix_replace_foreign": "false",
        "scannerdb_fix_drop_indexes": "false",
        "scannerdb_fix_max_share": "0.9",
        "scannerdb_fix_require_backup": "false",
        "scannerdb_fix_backup_max_age_h": "0.5",
        "scannerdb_batch_rows": "100",
        "scannerdb_vacuum_tables": "models,public.endpoints",
        "scannerdb_vacuum_allow_exclusive": "false",
        "scannerdb_vacuum_free_gb": "2.5",
        "scannerdb_window": "00:00/24h/UTC",
        "scannerdb_check_standbys": "/nowhere:5432",
        "scannerdb_check_fail_on": "never",
    }
    site.add("db", database).run("maintain.yml", "-vvv", **extra).ok()
    left = severities(database, "critical", "warning")
    assert {"schema.column.default", "data.endpoints.last_check_date_null", "schema.view.trigger"} <= left
    assert not {"data.verified.link_missing", "data.verified.link_stale", "data.verified.honeypot"} & left
    report = site.report("db")
    assert {entry["id"] for entry in report["suppressed"]} >= {"index.duplicate"}
    columns = database.sql("SELECT indexdef FROM pg_indexes WHERE tablename = 'endpoints'")
    assert any("(last_check_date)" in definition for (definition,) in columns)


# --- the other playbooks


def test_fix_and_undo(site: Site, one: Databases) -> None:
    database = one(filled=True)
    before = content(database)
    site.add("db", database).run("playbooks/fix.yml").failed("There is no backup of", "Run playbooks/backup.yml first")
    assert content(database) == before
    fixed = site.run("playbooks/fix.yml", "-e", "scannerdb_fix_require_backup=false").ok()
    found = re.search(r"Undo: ansible-playbook (-i \S+ playbooks/undo.yml -l db -e \S+)", fixed.output)
    assert found and content(database) != before
    site.run("playbooks/undo.yml").failed("Say which run to undo")
    command = [sys.executable, "-m", "ansible", "playbook", *found[1].split()]
    run(command, site.folder, ROOT, {}).ok()
    assert content(database) == before


def test_rules_for_old_rows_and_counters_reach_fix(site: Site, one: Databases) -> None:
    """Also as text, as a survey gives them."""
    database = one(filled=True)
    database.sql("UPDATE benchmark_results SET test_date = now() - interval '9 days' WHERE id < 50")
    rule = "[{table: benchmark_results, column: test_date, days: 1}]"
    words = {"scannerdb_retention_rules": rule, "scannerdb_fix_counters": "true", "scannerdb_fix_max_share": 1}
    words |= {"scannerdb_fix_require_backup": False}
    told = site.add("db", database).run("playbooks/fix.yml", "--check", "--diff", "-e", json.dumps(words)).ok()
    assert "data.metadata.counter" in told.prose or "UPDATE public.metadata" in told.prose
    assert "it removes rows for good, and there is no fresh, verified backup" in told.prose


def test_check_fails_on_critical_findings_after_it_wrote_its_report(site: Site, one: Databases) -> None:
    database = one(filled=True)
    site.add("db", database).run("playbooks/check.yml").failed("on which this check fails", "Report")
    assert site.report("db")["summary"]["critical"] > 0
    assert site.run("playbooks/check.yml", "-e", "scannerdb_check_fail_on=never").ok().changed["db"] == 0


def test_vacuum_by_hand(site: Site, one: Databases) -> None:
    database = one(filled=True)
    dead = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'models'"
    assert database.value(dead) > 0
    done = site.add("db", database).run("playbooks/vacuum.yml", "-e", "scannerdb_vacuum_tables=models").ok()
    assert "Vacuumed 1 table " in done.prose
    assert database.value(dead) == 0
    assert re.search(r"public\.models: vacuum .*\n +in [\d.]+ s, from [\d.]+ \wB to [\d.]+ \wB\n", done.output)
    full = ("-e", "scannerdb_vacuum_method=vacuum_full", "-e", "scannerdb_vacuum_allow_exclusive=true")
    rewritten = site.run("playbooks/vacuum.yml", "-e", "scannerdb_vacuum_tables=models", *full).ok()
    assert re.search(r"public\.models: full .*\n .*the longest lock \d+ ms", rewritten.output)
    wrong = site.run("playbooks/vacuum.yml", "-e", "scannerdb_vacuum_method=wipe")
    wrong.failed("value of scannerdb_vacuum_method must be one of:", "got: wipe")


def test_restore_and_back(site: Site, one: Databases) -> None:
    database = one(filled=True)
    before = content(database)
    site.add("db", database).run("playbooks/backup.yml").ok()
    database.sql("DELETE FROM endpoints")
    damaged = content(database)
    wrong = {"scannerdb_restore_source": "latest", "scannerdb_restore_confirm": "some_other_name"}
    site.run("playbooks/restore.yml", **wrong).failed(database.name, "scannerdb_restore_confirm")
    assert content(database) == damaged
    right = ["-e", "scannerdb_restore_source=latest", "-e", f"scannerdb_restore_confirm={database.name}"]
    assert site.run("playbooks/restore.yml", *right, "--check").ok().changed["db"] == 1
    assert content(database) == damaged
    site.run("playbooks/restore.yml", *right).ok()
    assert content(database) == before
    site.run("playbooks/restore.yml", *right, "-e", "scannerdb_restore_undo=true").ok()
    assert content(database) == damaged


# --- what goes wrong before anything starts


def test_who_cannot_connect_is_told_why(site: Site, one: Databases) -> None:
    database = one()
    site.add("missing", Database(one.server, "no_such_database"))
    site.add("refused", database, **over_tcp("postgres", "wrong"))
    site.add("lost", database, **{**over_tcp("postgres", "any"), "scannerdb_login_host": "no-such-host.invalid"})
    done = site.run("maintain.yml")
    done.failed("has no database 'no_such_database'", "refused the login of role 'postgres'", "no host named")
    assert done.prose.count("Not done backup, fix, vacuum") == 3


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_no_database_to_work_on_is_a_failure(site: Site, playbook: str) -> None:
    path = f"playbooks/{playbook}.yml"
    site.run(path).failed("No inventory was given, or it has no host, so there is no database to work on.")


def test_a_group_or_limit_that_selects_nothing_is_a_failure(site: Site) -> None:
    site.hosts = {"db": {}}
    site.run("maintain.yml", "-e", "scannerdb_hosts=nobody").failed("No host of the inventory is in 'nobody'")
    other = {"ungrouped": {"hosts": {"other": {}}}}
    (site.folder / "more.yml").write_text(json.dumps(other), encoding="utf-8")
    more = ("-i", str(site.folder / "more.yml"))
    done = site.run("maintain.yml", *more, "--limit", "other")
    done.failed("within --limit other", "there is no database to work on")


# --- the example


def test_the_example_inventory_reads_well_and_suits_every_playbook(tmp_path: Path) -> None:
    example = str(ROOT / "inventories" / "example")
    listed = run([sys.executable, "-m", "ansible", "inventory", "-i", example, "--list"], tmp_path, ROOT, {}).ok()
    groups = json.loads(listed.output)
    assert set(groups["scannerdb"]["children"]) == {"on_database_host", "from_controller"}
    assert groups["_meta"]["hostvars"]["scanner-eu"]["ansible_connection"] == "local"
    playbooks = [str(ROOT / "maintain.yml"), *(str(ROOT / "playbooks" / f"{name}.yml") for name in PLAYBOOKS)]
    command = [sys.executable, "-m", "ansible", "playbook", "-i", example, "--syntax-check", *playbooks]
    run(command, tmp_path, ROOT, {}).ok()
