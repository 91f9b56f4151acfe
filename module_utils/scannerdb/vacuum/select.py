"""Which tables a run works on. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidInput
from .measure import TableMeasure


def select(measures: Sequence[TableMeasure], names: Sequence[str]) -> list[TableMeasure]:
    """The tables with these names (`endpoints` or `public.endpoints`), or all of them where there are no names.

    A partitioned table stands for its partitions. Raises `InvalidInput` for a name that no table has, or that tables in
    several schemas have.
    """
    if not names:
        return list(measures)
    chosen: dict[str, TableMeasure] = {}
    for name in names:
        found = _named(measures, name)
        if not found:
            known = ", ".join(sorted(measure.qualified for measure in measures)) or "none at all"
            raise InvalidInput(f"There is no table named {name!r} in this database.", f"Its tables are: {known}.")
        chosen.update((measure.qualified, measure) for measure in found)
    return [measure for measure in measures if measure.qualified in chosen]


def _named(measures: Sequence[TableMeasure], name: str) -> list[TableMeasure]:
    exact = [m for m in measures if name == m.qualified or name in (f"{s}.{n}" for s, n in m.parents)]
    if exact:
        return exact
    bare = [m for m in measures if m.name == name]
    schemas = {m.schema for m in bare}
    below = [m for m in measures if name in (parent for _, parent in m.parents)]
    schemas |= {schema for m in below for schema, parent in m.parents if parent == name}
    if len(schemas) > 1:
        raise InvalidInput(
            f"There are tables named {name!r} in several schemas.",
            f"Say which: {', '.join(f'{schema}.{name}' for schema in sorted(schemas))}.",
        )
    return bare + below
