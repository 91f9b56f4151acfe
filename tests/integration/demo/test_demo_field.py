"""The generated field database: what the generator claims, counted independently; and the other layouts."""

from __future__ import annotations

import pytest

from demo import field
from demo.kinds import KINDS
from tests.servers import Database, Databases

V1 = "FROM endpoints e LEFT JOIN verified_endpoints v ON v.endpoint_id = e.id WHERE e.verified = 1"
COUNTS = {
    "data.endpoints.verification_date_null": f"{V1} AND e.verification_date IS NULL",
    "data.endpoints.last_check_date_null": "FROM endpoints WHERE last_check_date IS NULL",
    "data.verified.link_missing": f"{V1} AND v.id IS NULL AND e.is_honeypot IS NOT TRUE",
    "data.verified.link_stale": (
        "FROM endpoints JOIN verified_endpoints v ON v.endpoint_id = endpoints.id "
        "WHERE verified IN (0, 2) OR verified IS NULL"
    ),
    "data.verified.honeypot": f"{V1} AND e.is_honeypot",
    "data.verified.inactive": f"{V1} AND NOT e.is_active AND e.is_honeypot IS NOT TRUE",
}
STALE = "FROM endpoints e JOIN verified_endpoints v ON v.endpoint_id = e.id WHERE"
FLAGGED = "(e.is_honeypot IS TRUE OR e.is_active IS FALSE)"
OPEN = "(e.verified = 0 OR e.verified IS NULL)"
FIELDS = {
    "endpoints": "FROM endpoints",
    "verified": "FROM endpoints WHERE verified = 1",
    "links": "FROM verified_endpoints",
    "models": "FROM models",
    "benchmark_results": "FROM benchmark_results",
    "honeypots_linked": f"{V1} AND e.is_honeypot AND v.id IS NOT NULL",
    "honeypots_unlinked": f"{V1} AND e.is_honeypot AND v.id IS NULL",
    "inactive_with_honeypots": f"{V1} AND NOT e.is_active",
    "verified_odd": "FROM endpoints WHERE verified NOT IN (0, 1, 2)",
    "verified_null": "FROM endpoints WHERE verified IS NULL",
    "honeypot_null": "FROM endpoints WHERE is_honeypot IS NULL",
    "active_null": "FROM endpoints WHERE is_active IS NULL",
}


def count(database: Database, rest: str) -> int:
    return int(database.value(f"SELECT count(*) {rest}"))


def test_every_count_of_the_generator_is_what_the_server_counts(field_db: Database) -> None:
    damage = field_db.damage
    assert damage is not None
    assert {finding: count(field_db, rest) for finding, rest in COUNTS.items()} == {
        finding: damage.findings[finding] for finding in COUNTS
    }
    assert {name: count(field_db, rest) for name, rest in FIELDS.items()} == {
        name: getattr(damage, name) for name in FIELDS
    }
    assert damage.date_evidence == {
        "link": count(field_db, f"{V1} AND e.verification_date IS NULL AND v.verification_date IS NOT NULL"),
        "scan": count(
            field_db,
            f"{V1} AND e.verification_date IS NULL AND v.verification_date IS NULL AND e.scan_date IS NOT NULL",
        ),
        "nothing": count(
            field_db,
            f"{V1} AND e.verification_date IS NULL AND v.verification_date IS NULL AND e.scan_date IS NULL",
        ),
    }
    assert damage.stale_links == {
        "failed": count(field_db, f"{STALE} e.verified = 2"),
        "clean": count(field_db, f"{STALE} {OPEN} AND NOT {FLAGGED}"),
        "flagged": count(field_db, f"{STALE} {OPEN} AND {FLAGGED}"),
    }
    assert min(damage.findings.values()) > 0
    assert min(damage.kinds.values()) > 0


def test_ids_of_a_kind_name_its_rows(field_db: Database) -> None:
    damage = field_db.damage
    assert damage is not None
    for kind in KINDS:
        flags = field_db.sql(
            "SELECT DISTINCT e.verified, e.is_honeypot, e.is_active, v.id IS NOT NULL "
            "FROM endpoints e LEFT JOIN verified_endpoints v ON v.endpoint_id = e.id WHERE e.id = ANY (%s)",
            damage.ids(kind.name),
        )
        assert flags == [(kind.verified, kind.is_honeypot, kind.is_active, kind.linked)], kind.name
    everybody = sorted(endpoint for kind in KINDS for endpoint in damage.ids(kind.name))
    assert everybody == list(range(1, damage.endpoints + 1))


def test_dates_lie_in_the_past_and_in_order(field_db: Database) -> None:
    assert field_db.value("SELECT max(greatest(scan_date, verification_date, last_check_date)) < now() FROM endpoints")
    assert count(field_db, "FROM endpoints WHERE verification_date < scan_date OR last_check_date < scan_date") == 0


def test_objects_are_broken_as_told(field_db: Database) -> None:
    damage = field_db.damage
    assert damage is not None
    invalid = field_db.sql("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
    assert [name for (name,) in invalid] == list(damage.objects["index.invalid"])
    indexes = {name for (name,) in field_db.sql("SELECT indexname FROM pg_indexes WHERE schemaname = 'public'")}
    assert {*damage.objects["index.duplicate"], *damage.objects["index.redundant"]} <= indexes
    assert count(field_db, "FROM pg_trigger WHERE tgrelid = 'servers'::regclass") == 0
    assert field_db.value(
        "SELECT confdeltype::text FROM pg_constraint WHERE conname = 'benchmark_results_model_id_fkey'"
    ) == ("n")
    assert count(field_db, "FROM pg_attrdef WHERE adrelid = 'endpoints'::regclass AND adnum = 3") == 0
    assert count(field_db, "FROM pg_constraint WHERE NOT convalidated") == 0


def test_bloat_is_there(field_db: Database) -> None:
    dead = "SELECT n_dead_tup, n_live_tup FROM pg_stat_user_tables WHERE relname = %s"
    assert field_db.sql(dead, "models")[0][0] > field_db.sql(dead, "models")[0][1]
    assert field_db.sql(dead, "chat_history")[0][0] == 0
    live = field_db.value("SELECT sum(pg_column_size(c.*)) FROM chat_history c")
    assert field_db.value("SELECT pg_relation_size('chat_history')") > 3 * live


def test_roles_see_what_they_should(field_db: Database) -> None:
    with field_db.connect("ollama") as conn:
        conn.execute("INSERT INTO endpoints (ip, port) VALUES ('10.0.0.1', 1)")
        with pytest.raises(Exception, match="cannot insert into view"):
            conn.execute("INSERT INTO servers (ip, port) VALUES ('10.0.0.2', 1)")
    with field_db.connect("grafana_ro") as conn:
        assert conn.execute("SELECT count(*) FROM recent_servers").fetchone() is not None


def test_orphans_are_there_on_demand(database: Database) -> None:
    with database.connect() as conn:
        damage = field.generate(conn, 0.002, orphans=True)
    for (table, column), rows in damage.orphans.items():
        parent = "models" if column == "model_id" else "endpoints"
        lost = f"FROM {table} c LEFT JOIN {parent} p ON p.id = c.{column} WHERE c.{column} IS NOT NULL AND p.id IS NULL"
        assert count(database, lost) == rows
    assert {name: count(database, rest) for name, rest in FIELDS.items()} == {
        name: getattr(damage, name) for name in FIELDS
    }
    assert count(database, "FROM pg_constraint WHERE NOT convalidated") == 3


@pytest.mark.parametrize("field_db", field.HOSTILE_NAMES, indirect=True)
def test_hostile_names_work(field_db: Database) -> None:
    assert field_db.value("SELECT current_database()") in field.HOSTILE_NAMES


def test_other_layouts(make_database: Databases) -> None:
    older, partial = make_database(), make_database()
    with older.connect() as conn:
        field.older_layout(conn)
    assert older.value("SELECT relkind::text FROM pg_class WHERE oid = 'servers'::regclass") == "r"
    with partial.connect() as conn:
        gone = field.missing_tables(conn)
    assert all(partial.value("SELECT to_regclass(%s)", name) is None for name in gone)
    assert count(partial, "FROM models") == 3


def test_a_database_that_was_never_given_away_belongs_to_the_superuser(database: Database) -> None:
    with database.connect() as conn:
        field.generate(conn, 0.002, owner="postgres")
    assert database.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'") == [("postgres",)]
