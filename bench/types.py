"""A conversion of types beside a writer: text dates and an integer boolean of all endpoints, and its undo."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from scannerdb.fixes.policy import FixPolicy
from scannerdb.jobs.fix import Safety, fix
from scannerdb.jobs.undo import undo

from bench.figure import Beside, Figure, Goal
from bench.lab import Lab
from bench.load import UPDATE_ENDPOINT, Seen, load, worst_lines
from bench.measure import timed

# As a move from SQLite leaves them.
RETYPE = (
    "DROP VIEW IF EXISTS recent_servers, servers CASCADE",
    "DROP TRIGGER IF EXISTS endpoint_scan_date ON endpoints",
    "DROP TRIGGER IF EXISTS endpoint_verification_date ON endpoints",
    "ALTER TABLE endpoints ALTER scan_date DROP DEFAULT, ALTER is_active DROP DEFAULT,"
    " ALTER scan_date TYPE text USING to_char(scan_date, 'YYYY-MM-DD\"T\"HH24:MI:SS.US'),"
    " ALTER last_check_date TYPE text USING to_char(last_check_date, 'YYYY-MM-DD HH24:MI:SS'),"
    " ALTER is_active TYPE integer USING is_active::integer",
    "INSERT INTO endpoints (ip, port, scan_date, last_check_date, is_active, verified)"
    " SELECT '2001:db8::' || to_hex(i), 1, '2025-01-02T03:04:05.678', '2025-02-03 04:05:06', 1, 0"
    " FROM generate_series((SELECT count(*) FROM endpoints) + 1, {rows}) i",
    "CREATE VIEW servers AS SELECT e.id, e.ip, e.port, e.scan_date FROM endpoints e"
    " JOIN verified_endpoints v ON e.id = v.endpoint_id",
    "VACUUM (ANALYZE) endpoints",
)
SMALL = 0.02  # of the other tables; endpoints are filled up to what the lab's scale says
WRITES = (UPDATE_ENDPOINT, "UPDATE endpoints SET scan_date = '2026-01-02T03:04:05' WHERE id = %(id)s")
READ = "SELECT ip, port FROM servers WHERE id = %(id)s"
POLICY = FixPolicy(only=("schema.column.type",), types="convert", types_zone="UTC")


@dataclasses.dataclass
class Converted:
    """What one run did: seconds there and back, and what clients saw."""

    there_s: float
    back_s: float
    there: Seen
    back: Seen


def conversion(lab: Lab, repetitions: int) -> Iterator[Figure | Beside]:
    """There and back beside two writers and a reader."""
    seen = [_once(lab) for _ in range(repetitions)]
    yield Figure("conversion of three columns", "s", [one.there_s for one in seen])
    yield Figure("undo of the conversion", "s", [one.back_s for one in seen])
    worst = [one.there.worst() for one in seen]
    yield Figure("a writer's worst latency during a conversion of types", "ms", worst, goal=Goal(most=100))
    worst = [one.back.worst() for one in seen]
    yield Figure("a writer's worst latency during its undo", "ms", worst, goal=Goal(most=100))
    yield from worst_lines("a conversion of types", {"ours": [one.there for one in seen]})
    yield from worst_lines("its undo", {"ours": [one.back for one in seen]})


def _once(lab: Lab) -> Converted:
    with lab.copy(scale=SMALL) as name:
        with lab.session(name) as conn:
            for statement in RETYPE:
                conn.execute(statement.format(rows=int(lab.scale * 50_000)).encode())
        result: dict[str, Any] = {}

        def there() -> None:
            result.update(fix(lab.options(name), policy=POLICY, safety=Safety(require_backup=False)))

        with load(lab, name, WRITES, [READ]) as seen:
            there_s = timed(there)
        if result["failures"] or len([one for one in result["fixed"] if one["object"].startswith("endpoints")]) != 3:
            raise RuntimeError(f"The conversion did not do its work: {result['msg']}")
        with load(lab, name, WRITES, [READ]) as back:
            back_s = timed(lambda: undo(lab.options(name), run_id=result["run_id"], unsealed=True))
        return Converted(there_s, back_s, seen, back)


MEASUREMENTS = (conversion,)
