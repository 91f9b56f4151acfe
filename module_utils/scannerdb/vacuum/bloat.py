"""How large a table or a btree index would be if it were packed anew: an estimate from the planner's statistics.

The method is the well-known one of ioguix' pgsql-bloat-estimation: average column widths and NULL fractions from
`pg_stats` give the size of an average row, that and the number of rows give the pages, and what the relation has beyond
them is bloat. It costs no read of the data. Two refinements of our own: padding follows the order and alignment of the
columns, and a btree's rows with equal keys are counted as the posting lists that deduplication makes of them.

Everything here is pure; sizes are bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PAGE_HEADER = 24
LINE_POINTER = 4
HEAP_TUPLE_HEADER = 23
INDEX_TUPLE_HEADER = 8
BTREE_SPECIAL = 16
MAX_ALIGN = 8
SHORT_VARLENA = 127  # a longer value has a 4-byte header, which is aligned
POSTING_MAX_TIDS = 200  # a posting list ends at about a sixth of a page of 8 kB
TID = 6


@dataclass(frozen=True)
class ColumnWidth:
    """What decides a column's share of a row.

    `align` is 1, 2, 4 or 8. `width` and `null_frac` are None where there are no statistics. `distinct` is the number of
    distinct values, or minus their share of the rows, as in `pg_stats`.
    """

    align: int
    fixed: bool
    width: float | None
    null_frac: float | None
    distinct: float = 0.0

    @property
    def known(self) -> bool:
        """True where there are statistics."""
        return self.width is not None and self.null_frac is not None


def aligned(size: float, to: int = MAX_ALIGN) -> int:
    """`size` rounded up to a multiple of `to`."""
    return math.ceil(size / to) * to


def data_width(columns: Sequence[ColumnWidth]) -> float:
    """The average width of the columns of one row, with the padding between them."""
    offset, exact = 0.0, True
    for column in columns:
        width, share = column.width or 0.0, 1 - (column.null_frac or 0.0)
        if column.fixed or width > SHORT_VARLENA:
            # Behind a value of varying length any offset is as likely as another.
            padding = aligned(offset, column.align) - offset if exact else (column.align - 1) / 2
            offset += padding * share
        offset += width * share
        exact = exact and column.fixed and share == 1
    return offset


def heap_tuple_width(columns: Sequence[ColumnWidth]) -> int:
    """The average size of a row in a table, with its header and without its line pointer."""
    nullable = any((column.null_frac or 0) > 0 for column in columns)
    bitmap = math.ceil(len(columns) / 8) if nullable else 0
    return aligned(HEAP_TUPLE_HEADER + bitmap) + aligned(data_width(columns))


def heap_pages(columns: Sequence[ColumnWidth], rows: float, block: int, fillfactor: int) -> int:
    """The pages of a freshly written table of `rows` rows; `block` is the page size, `fillfactor` a percentage."""
    if rows <= 0:
        return 0
    room = (block - PAGE_HEADER) * fillfactor / 100
    per_page = max(1, math.floor(room / (heap_tuple_width(columns) + LINE_POINTER)))
    return math.ceil(rows / per_page)


def distinct_keys(columns: Sequence[ColumnWidth], rows: float) -> float:
    """At most how many distinct keys the columns make."""
    product = 1.0
    for column in columns:
        values = column.distinct if column.distinct >= 0 else -column.distinct * rows
        product *= max(1.0, values or rows)  # 0 means unknown: take every row for distinct
    return min(rows, product)


def btree_bytes_per_row(columns: Sequence[ColumnWidth], rows: float, deduplicated: bool) -> float:
    """The average size of one row's entry in the leaves of a btree, with its line pointer."""
    nullable = any((column.null_frac or 0) > 0 for column in columns)
    key = aligned(INDEX_TUPLE_HEADER + (MAX_ALIGN if nullable else 0) + data_width(columns))
    per_key = rows / max(1.0, distinct_keys(columns, rows))
    tids = min(per_key, POSTING_MAX_TIDS)
    alone = float(key + LINE_POINTER)
    if not deduplicated or tids < 2:
        return alone
    return min(alone, (key + aligned(TID * tids) + LINE_POINTER) / tids)  # a list of few short keys may save nothing


def btree_pages(columns: Sequence[ColumnWidth], rows: float, block: int, fillfactor: int, deduplicated: bool) -> int:
    """The pages that a freshly built btree over `rows` rows needs: meta page, leaves and the pages above them."""
    if rows <= 0:
        return 1
    room = (block - PAGE_HEADER - BTREE_SPECIAL) * fillfactor / 100
    leaves = math.ceil(rows * btree_bytes_per_row(columns, rows, deduplicated) / room)
    fanout = max(2.0, room / (btree_bytes_per_row(columns, rows, False) or 1))
    pages, level = leaves, leaves
    while level > 1:
        level = math.ceil(level / fanout)
        pages += level
    return pages + 1
