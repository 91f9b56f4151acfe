"""Databases as they are met in the field, before anybody fixed them.

Written without a look at the bundle's contract, so that the demo and the tests can't confirm themselves. Everything is
generated on the server, repeatably: the same scale and base date give the same rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

import psycopg
from psycopg.sql import SQL, Identifier

from demo.kinds import KINDS, Kind, Plan, make_plan

Connection = psycopg.Connection[Any]

SQL_DIR = Path(__file__).parent / "sql"
OWNER = "scanner_owner"
APP_ROLE = "ollama"
APP_PASSWORD = "ollama-demo"  # noqa: S105 - a generated database on a private server
READ_ONLY_ROLE = "grafana_ro"
HOSTILE_NAMES = ('we"ird; drop', "a=b")  # a quoting trap, and what pg_dump takes for a connection string
ORPHANS = {
    ("models", "endpoint_id"): 7,
    ("verified_endpoints", "endpoint_id"): 5,
    ("benchmark_results", "endpoint_id"): 4,
    ("benchmark_results", "model_id"): 3,
}


@dataclass(frozen=True)
class Damage:
    """What a generated database has, and what is wrong with it, in the generator's own numbers.

    findings          finding id -> affected rows (data.*) or objects (schema.*, index.*, table.*)
    objects           finding id -> names of the objects, where a finding is about objects
    kinds             kind of endpoint (see demo.kinds) -> number of endpoints; `ids(kind)` lists them
    links             rows in verified_endpoints
    date_evidence     of the endpoints in data.endpoints.verification_date_null: link, scan, nothing -> rows
    missing_links     links to make: verified = 1, no link, no honeypot
    stale_links       failed (remove), clean (endpoint becomes verified = 1), flagged (remove) -> links
    inactive          verified = 1 and inactive, honeypots left out; inactive_with_honeypots counts them too
    verified_odd      verified outside 0, 1, 2 and NULL
    metadata          key -> (value stored, true value); last_sync has no true value
    orphans           (table, column) -> rows without a parent
    """

    plan: Plan
    findings: dict[str, int]
    objects: dict[str, tuple[str, ...]]
    kinds: dict[str, int]
    endpoints: int
    verified: int
    links: int
    models: int
    benchmark_results: int
    date_evidence: dict[str, int]
    missing_links: int
    stale_links: dict[str, int]
    honeypots_linked: int
    honeypots_unlinked: int
    inactive: int
    inactive_with_honeypots: int
    verified_odd: int
    verified_null: int
    honeypot_null: int
    active_null: int
    metadata: dict[str, tuple[str, Optional[str]]]
    orphans: dict[tuple[str, str], int] = field(default_factory=dict)

    def ids(self, kind: str) -> list[int]:
        """Ids of the endpoints of a kind."""
        return self.plan.ids(kind)


def generate(
    conn: Connection,
    scale: float = 1.0,
    *,
    owner: str = OWNER,
    orphans: bool = False,
    base: Optional[dt.datetime] = None,
) -> Damage:
    """Fill the empty database behind an autocommit superuser connection; returns what is wrong with it.

    `owner` owns every object ("postgres" for a database that was never given away); `base` is the youngest date that
    may occur, by default today's midnight; `orphans` breaks foreign keys and adds rows without a parent.
    """
    plan = make_plan(scale)
    damage = count_damage(plan, orphans)
    midnight = dt.datetime.now(dt.timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    _run(conn, "roles.sql")
    with conn.transaction():
        conn.execute("SET LOCAL session_replication_role = replica")  # foreign keys hold anyway; half the time
        _become(conn, owner)
        _run(conn, "tables.sql")
        _insert_kinds(conn, plan)
        _run(conn, "rows.sql", _row_parameters(plan, base or midnight))
        _insert_metadata(conn, damage, base or midnight)
        _run(conn, "objects.sql")
        if orphans:
            _run(conn, "orphans.sql")
    _break_an_index(conn, owner)
    conn.execute("VACUUM chat_history")  # its room becomes free, and stays
    take_statistics(conn)
    return damage


def take_statistics(conn: Connection) -> None:
    """Let the server count live and dead rows now; a database copied from a template starts without counts."""
    if conn.info.server_version >= 150000:
        conn.execute("SELECT pg_stat_force_next_flush()")  # or our own late counts would be added on top
    conn.execute("ANALYZE")


def older_layout(conn: Connection) -> None:
    """Fill an empty database with the layout of the first scanner: `servers` is a table with 60 rows."""
    _run(conn, "roles.sql")
    with conn.transaction():
        _run(conn, "older_layout.sql")


def missing_tables(conn: Connection) -> tuple[str, ...]:
    """Fill an empty database with only a part of the schema; returns the names of what is missing.

    What is there stands as in the field, with three endpoints and a model each.
    """
    gone = ("verified_endpoints", "benchmark_results", "metadata", "servers")
    _run(conn, "roles.sql")
    with conn.transaction():
        _become(conn, OWNER)
        _run(conn, "tables.sql")
        for table in gone[:-1]:
            conn.execute(SQL("DROP TABLE {}").format(Identifier(table)))
        conn.execute(
            "INSERT INTO endpoints (ip, port, verified) "
            "SELECT '95.217.3.' || j, 11434, j - 1 FROM generate_series(1, 3) AS j"
        )
        conn.execute("INSERT INTO models (endpoint_id, name) SELECT id, 'mistral:7b' FROM endpoints")
    return gone


def count_damage(plan: Plan, orphans: bool = False) -> Damage:
    """The damage that a plan leads to, from the kinds' flags alone."""

    def count(test: Callable[[Kind], bool]) -> int:
        return sum(plan.count(kind.name) for kind in KINDS if test(kind))

    undated = [kind for kind in KINDS if kind.verified == 1 and not kind.dated]
    stale = [kind for kind in KINDS if kind.linked and kind.verified in (0, 2, None)]
    metadata = _metadata(plan.endpoints, count(lambda k: k.verified == 1), plan.models)
    objects = _broken_objects(orphans)
    rows = {
        "data.endpoints.verification_date_null": _total(plan, undated),
        "data.endpoints.last_check_date_null": count(lambda k: not k.checked),
        "data.verified.link_missing": count(lambda k: k.verified == 1 and not k.linked and not k.is_honeypot),
        "data.verified.link_stale": _total(plan, stale),
        "data.verified.honeypot": count(lambda k: k.verified == 1 and k.is_honeypot is True),
        "data.verified.inactive": count(lambda k: k.verified == 1 and k.is_active is False and not k.is_honeypot),
    }
    if orphans:
        rows["data.orphan"] = sum(ORPHANS.values())
    return Damage(
        plan=plan,
        findings={**rows, **{finding: len(names) for finding, names in objects.items()}},
        objects=objects,
        kinds={kind.name: plan.count(kind.name) for kind in KINDS},
        endpoints=plan.endpoints,
        verified=count(lambda k: k.verified == 1),
        links=count(lambda k: k.linked) + (ORPHANS["verified_endpoints", "endpoint_id"] if orphans else 0),
        models=plan.models + (ORPHANS["models", "endpoint_id"] if orphans else 0),
        benchmark_results=plan.benchmarks
        + (sum(n for (table, _), n in ORPHANS.items() if table == "benchmark_results") if orphans else 0),
        date_evidence={
            "link": _total(plan, (k for k in undated if k.linked and k.link_dated)),
            "scan": _total(plan, (k for k in undated if not (k.linked and k.link_dated) and k.scanned)),
            "nothing": _total(plan, (k for k in undated if not (k.linked and k.link_dated) and not k.scanned)),
        },
        missing_links=rows["data.verified.link_missing"],
        stale_links={
            "failed": _total(plan, (k for k in stale if k.verified == 2)),
            "clean": _total(plan, (k for k in stale if k.verified != 2 and not _flagged(k))),
            "flagged": _total(plan, (k for k in stale if k.verified != 2 and _flagged(k))),
        },
        honeypots_linked=count(lambda k: k.verified == 1 and k.is_honeypot is True and k.linked),
        honeypots_unlinked=count(lambda k: k.verified == 1 and k.is_honeypot is True and not k.linked),
        inactive=rows["data.verified.inactive"],
        inactive_with_honeypots=count(lambda k: k.verified == 1 and k.is_active is False),
        verified_odd=count(lambda k: k.verified not in (0, 1, 2, None)),
        verified_null=count(lambda k: k.verified is None),
        honeypot_null=count(lambda k: k.is_honeypot is None),
        active_null=count(lambda k: k.is_active is None),
        metadata=metadata,
        orphans=dict(ORPHANS) if orphans else {},
    )


def _total(plan: Plan, kinds: Iterable[Kind]) -> int:
    return sum(plan.count(kind.name) for kind in kinds)


def _flagged(kind: Kind) -> bool:
    return kind.is_honeypot is True or kind.is_active is False


def _metadata(endpoints: int, verified: int, models: int) -> dict[str, tuple[str, Optional[str]]]:
    """What the metadata table says, beside what is true: the counters drifted, except one."""
    return {
        "server_count": (str(endpoints - 37), str(endpoints)),
        "verified_server_count": (str(verified + 12), str(verified)),
        "model_count": (str(models), str(models)),
        "last_sync": ("2025-04-18 12:00:00", None),
    }


def _broken_objects(orphans: bool) -> dict[str, tuple[str, ...]]:
    """Finding id -> the objects it is about."""
    broken: dict[str, tuple[str, ...]] = {
        "schema.view.trigger": ("servers",),
        "schema.column.default": ("endpoints.port",),
        "schema.foreign_key.on_delete": ("benchmark_results_model_id_fkey",),
        "schema.index.missing": ("endpoints (verified, is_active)", "benchmark_results (test_date)"),
        "schema.table.unexpected": ("chat_history", "user_selected_models"),
        "schema.column.unexpected": ("endpoints.api_type", "models.api_type"),
        "index.invalid": ("idx_endpoints_verified_active",),
        "index.duplicate": ("verified_endpoints_endpoint_id_idx", "metadata_key_idx"),
        "index.redundant": ("endpoints_ip_idx", "models_endpoint_id_idx"),
        "table.dead_tuples": ("models",),
        "table.bloat": ("chat_history",),
    }
    if orphans:
        broken["schema.foreign_key.missing"] = ("benchmark_results_endpoint_id_fkey",)
        broken["schema.foreign_key.not_valid"] = (
            "models_endpoint_id_fkey",
            "verified_endpoints_endpoint_id_fkey",
            "benchmark_results_model_id_fkey",
        )
    return broken


def _run(conn: Connection, file: str, parameters: Optional[dict[str, Any]] = None) -> None:
    """Execute one of our SQL files, all statements at once."""
    text = (SQL_DIR / file).read_text(encoding="utf-8")
    psycopg.ClientCursor(conn).execute(text.encode(), parameters)


def _become(conn: Connection, owner: str) -> None:
    """Let the owner make the objects until the end of the transaction."""
    conn.execute(SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(Identifier(owner)))
    database = SQL("GRANT TEMPORARY ON DATABASE {} TO {}")
    conn.execute(database.format(Identifier(conn.info.dbname), Identifier(owner)))
    conn.execute(SQL("SET LOCAL ROLE {}").format(Identifier(owner)))


def _insert_kinds(conn: Connection, plan: Plan) -> None:
    """Hand the kinds and their slots to the server."""
    conn.execute(
        "CREATE TEMPORARY TABLE field_kinds (first integer, last integer, verified integer, dated boolean, "
        "linked boolean, link_dated boolean, is_honeypot boolean, is_active boolean, scanned boolean, checked boolean)"
    )
    with conn.cursor().copy("COPY field_kinds FROM STDIN") as copy:
        for k in KINDS:
            first, end = plan.slots[k.name]
            flags = (k.dated, k.linked, k.link_dated, k.is_honeypot, k.is_active, k.scanned, k.checked)
            copy.write_row((first, end - 1, k.verified, *flags))


def _row_parameters(plan: Plan, base: dt.datetime) -> dict[str, Any]:
    return {
        "base": base,
        "total": plan.endpoints,
        "stride": plan.stride,
        "models": plan.models,
        "junk": plan.junk_models,
        "benchmarks": plan.benchmarks,
        "chats": plan.chats,
    }


def _insert_metadata(conn: Connection, damage: Damage, base: dt.datetime) -> None:
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO metadata (key, value, updated_at) VALUES (%s, %s, %s)",
            [(key, stored, base - dt.timedelta(days=3)) for key, (stored, _) in damage.metadata.items()],
        )


def _break_an_index(conn: Connection, owner: str) -> None:
    """Leave an invalid index behind, the way it happens: CREATE INDEX CONCURRENTLY gave up waiting for a writer."""
    with conn.transaction():
        conn.execute("LOCK TABLE endpoints IN ROW EXCLUSIVE MODE")
        with psycopg.connect(conn.info.dsn, password=conn.info.password, autocommit=True) as second:
            second.execute(SQL("SET ROLE {}").format(Identifier(owner)))
            second.execute("SET lock_timeout = '20ms'")
            try:
                second.execute(
                    "CREATE INDEX CONCURRENTLY idx_endpoints_verified_active ON endpoints (verified, is_active)"
                )
            except psycopg.errors.LockNotAvailable:
                return
    raise AssertionError("CREATE INDEX CONCURRENTLY did not wait for the writer; no index is invalid")
