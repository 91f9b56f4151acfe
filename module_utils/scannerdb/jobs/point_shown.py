"""What a restore to a point in time would do and, from a copy that stands there, what it would bring back."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from ..backup.then_and_now import TableFacts, table_facts
from ..connection import Options, connect
from ..errors import DatabaseMissing
from ..partial import telling_changes
from ..restore.request import RestoreRequest, state_line
from ..runs import Run
from .point_in_time import PointRequest, at_point, judged_point
from .point_plan import PointPlan


def look_at_point(
    options: Options, request: RestoreRequest, ask: PointRequest, run: Run, check_mode: bool
) -> dict[str, Any]:
    """The module's result of a run that restores nothing: the plan and, with `show`, the tables of then and now.

    What it had to change for a look (WAL switched out, what an earlier run left) is said; in check mode nothing is.
    """
    session = contextlib.closing(connect(options, dbname=options.maintenance_db, purpose="restore plan"))
    with (
        telling_changes(run),
        session as conn,
        judged_point(conn, options, ask, run, may_switch=not check_mode) as point,
    ):
        tables: list[dict[str, Any]] = []
        if ask.show and not check_mode:
            then: list[TableFacts] = []
            at_point(point, options, run, lambda paused: then.extend(table_facts(paused.options)))
            tables = _beside(then, _of_now(options))
    run.progress("done")
    return _result(options, request, run, point.plan, tables)


def _result(
    options: Options, request: RestoreRequest, run: Run, plan: PointPlan, tables: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    lines = [*plan.lines(), *_table_lines(tables)]
    written = request.into_database or options.db
    told = f"Would restore {written!r} from {plan.name}: "
    told += " ".join(["no database was changed.", *run.changes]) if run.changes else "nothing was changed."
    return {
        "changed": bool(run.changes),
        "done": list(run.changes),
        "restore": {"source": plan.name, "database": options.db, "previous_database": None, "cutover_ms": None},
        "plan": {**plan.values(), "tables": list(tables)},
        "run_id": run.run_id,
        "log": "",
        "warnings": [],
        "diff": {"before": state_line(written, "as it is"), "after": "".join(f"{line}\n" for line in lines)},
        "msg": told,
    }


def _table_lines(tables: Sequence[dict[str, Any]]) -> list[str]:
    """The tables in words, those that differ first. Pure."""

    def words(rows: Any, newest: str) -> str:
        return "missing" if rows is None else f"{rows} rows" + (f", newest {newest}" if newest else "")

    told = []
    for one in sorted(tables, key=lambda one: one["rows_then"] == one["rows_now"]):
        then, now = words(one["rows_then"], one["newest_then"]), words(one["rows_now"], one["newest_now"])
        told.append(f"{one['table']}: then {then}; now {now}" if then != now else f"{one['table']}: {then}, as now")
    return told


def _of_now(options: Options) -> list[TableFacts]:
    try:
        return table_facts(options)
    except DatabaseMissing:
        return []


def _beside(then: Sequence[TableFacts], now: Sequence[TableFacts]) -> list[dict[str, Any]]:
    """Tables of then and now, by name. Pure."""
    old, new = ({one.name: one for one in facts} for facts in (then, now))
    return [
        {
            "table": name,
            "rows_then": old[name].rows if name in old else None,
            "rows_now": new[name].rows if name in new else None,
            "newest_then": old[name].newest if name in old else "",
            "newest_now": new[name].newest if name in new else "",
        }
        for name in sorted({*old, *new})
    ]
