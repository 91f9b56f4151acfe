"""From where on a table or an index is worth the work: limits that fall as it grows. Pure.

Small tables are left alone unless they are grossly bad: a fifth of dead rows is nothing in a table of a hundred rows
and a lot in one of ten million. `table.dead_tuples` and `table.bloat` of the check ask `is_dead_heavy` and `is_bloated`
here, so that what a check reports is what a vacuum would repair.
"""

from __future__ import annotations

from dataclasses import dataclass

from .measure import IndexMeasure, TableMeasure

MIB = 1 << 20


@dataclass(frozen=True)
class VacuumThresholds:
    """From where on a table is worth the work.

    The shares are limits for small objects (up to `small_rows` rows or `small_bytes` bytes); for larger ones they fall
    with the fourth root of the size, but not below their `_least`.
    """

    dead_rows: int = 10
    dead_share: float = 0.30
    dead_least: float = 0.02
    changed_rows: int = 50
    changed_share: float = 0.20
    changed_least: float = 0.02
    small_rows: int = 1000
    bloat_bytes: int = MIB
    bloat_share: float = 0.50
    bloat_least: float = 0.25
    index_bloat_bytes: int = MIB
    index_bloat_share: float = 0.50
    index_bloat_least: float = 0.40  # a btree under random inserts settles at two thirds full: not worth a rebuild
    small_bytes: int = 64 * MIB
    freeze_share: float = 0.75  # of autovacuum_freeze_max_age, where autovacuum would start on its own

    @property
    def floor(self) -> int:
        """Bytes below which neither a table nor an index can be bloated."""
        return min(self.bloat_bytes, self.index_bloat_bytes)

    def dead_limit(self, rows: int) -> float:
        """The share of dead rows from which a table of `rows` rows, live and dead, needs a vacuum."""
        return _falling(self.dead_share, self.dead_least, rows, self.small_rows)

    def changed_limit(self, rows: int) -> float:
        """The changed rows since the last ANALYZE, as a share of the live ones, that make its statistics stale."""
        return _falling(self.changed_share, self.changed_least, rows, self.small_rows)

    def bloat_limit(self, size: int) -> float:
        """The share of bloat from which a table of `size` bytes is worth compacting."""
        return _falling(self.bloat_share, self.bloat_least, size, self.small_bytes)

    def index_bloat_limit(self, size: int) -> float:
        """The share of bloat from which an index of `size` bytes is worth rebuilding."""
        return _falling(self.index_bloat_share, self.index_bloat_least, size, self.small_bytes)


def _falling(share: float, least: float, size: int, small: int) -> float:
    return share if size <= small else max(least, share * (small / size) ** 0.25)


def is_dead_heavy(measure: TableMeasure, thresholds: VacuumThresholds) -> bool:
    """True where a table's dead rows are worth a vacuum."""
    limit = thresholds.dead_limit(measure.live + measure.dead)
    return measure.dead >= thresholds.dead_rows and measure.dead_ratio >= limit


def is_bloated(measure: TableMeasure, thresholds: VacuumThresholds) -> bool:
    """True where much of a table is room that neither live nor dead rows fill, as far as can be estimated."""
    limit = thresholds.bloat_limit(measure.heap_bytes)
    return measure.bloat_known and measure.bloat_bytes >= thresholds.bloat_bytes and measure.bloat_ratio >= limit


def is_worth_rewriting(measure: TableMeasure, thresholds: VacuumThresholds) -> bool:
    """True where writing a table anew would give enough back: the room of its dead rows counts too."""
    limit = thresholds.bloat_limit(measure.heap_bytes)
    return measure.bloat_known and measure.waste_bytes >= thresholds.bloat_bytes and measure.waste_ratio >= limit


def is_index_bloated(index: IndexMeasure, thresholds: VacuumThresholds) -> bool:
    """True where an index is worth rebuilding, as far as can be estimated."""
    limit = thresholds.index_bloat_limit(index.bytes)
    return index.bloat_known and index.bloat_bytes >= thresholds.index_bloat_bytes and index.bloat_ratio >= limit
