"""What rebuilds have reached: bytes per row, so that an estimate that is wrong is not believed twice. Values only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from .decide import density
from .measure import TableMeasure
from .run import Outcome


def parse(text: str) -> dict[str, float]:
    """The memory out of its file; anything unreadable counts as nothing."""
    try:
        values = json.loads(text)["rebuilt"]
        return {str(name): float(size) for name, size in values.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def render(rebuilt: Mapping[str, float]) -> str:
    """The memory as the content of its file."""
    return json.dumps({"rebuilt": dict(sorted(rebuilt.items()))}, indent=1, ensure_ascii=False) + "\n"


def learn(
    rebuilt: Mapping[str, float], outcomes: Iterable[Outcome], after: Mapping[str, TableMeasure]
) -> dict[str, float]:
    """`rebuilt` with what this run's rebuilds reached; `after` has the measures by qualified name.

    Objects that are gone are forgotten.
    """
    learnt = dict(rebuilt)
    for outcome in outcomes:
        table = after.get(outcome.decision.measure.qualified)
        if not outcome.done or table is None or outcome.action.kind not in ("full", "reindex"):
            continue
        if outcome.action.kind == "full":
            learnt[table.qualified] = density(table.heap_bytes, table.live)
        for index in table.indexes:
            if outcome.action.kind == "full" or index.name == outcome.action.index:
                learnt[index.qualified] = density(index.bytes, index.rows)
    known = set(after) | {index.qualified for table in after.values() for index in table.indexes}
    return {name: size for name, size in learnt.items() if name in known}
