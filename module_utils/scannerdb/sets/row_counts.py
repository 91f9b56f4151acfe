"""Counts the rows in pg_restore's output, so that a dump proves to be whole: every byte read, every row there.

pg_restore 16 and 17 end with code 0 when zstd or lz4 data break off or do not decompress; what they print lacks the
rows then. Pure: bytes in, counts out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Optional

from .manifest import TableCount

_END = b"\n\\.\n"
_COPY = b"COPY "
_STDIN = b" FROM stdin;"
_NAME = re.compile(r'("(?:[^"]|"")*"|[^".\s(]+)\.("(?:[^"]|"")*"|[^".\s(]+)\s')


def line_feeds(data: bytes) -> int:
    """How many there are. `count` looks at byte after byte; `replace` leaps from one to the next, six times as fast."""
    return len(data) - len(data.replace(b"\n", b""))


class CopyCounter:
    """Takes the output of `pg_restore --section=data` piece by piece and counts the rows of each COPY block.

    In the text form of COPY a line feed stands only at a row's end, and `\\.` alone on a line ends the block.
    """

    def __init__(self) -> None:
        self.blocks: list[tuple[bytes, int]] = []
        self._text = b""  # outside of a block: the line that is not complete yet
        self._header = b""  # a COPY statement whose names hold line feeds, so far
        self._data: Optional[bytes] = None  # inside a block: what is not counted yet, after one counted byte
        self._rows = 0

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        rest: Optional[bytes] = piece
        while rest is not None:
            rest = self._feed_text(rest) if self._data is None else self._feed_data(rest)

    @property
    def unfinished(self) -> bool:
        """True where the output ended inside a block."""
        return self._data is not None

    def _feed_text(self, piece: bytes) -> Optional[bytes]:
        """Skip lines up to the header of a block; what follows it is returned as data."""
        buffer = self._text + piece
        start = 0
        while True:
            end = buffer.find(b"\n", start)
            if end < 0:
                self._text = buffer[start:]
                return None
            if self._opens(buffer[start:end]):
                self._text, self._data, self._rows = b"", buffer[end : end + 1], 0
                return buffer[end + 1 :]
            start = end + 1

    def _opens(self, line: bytes) -> bool:
        """True where this line completes a COPY statement."""
        if not self._header and not line.startswith(_COPY):
            return False
        self._header += line
        # A quoted name may itself contain a line feed, or the statement's end.
        if self._header.endswith(_STDIN) and self._header.count(b'"') % 2 == 0:
            self.blocks.append((self._header, 0))
            self._header = b""
            return True
        self._header += b"\n"
        return False

    def _feed_data(self, piece: bytes) -> Optional[bytes]:
        """Count rows up to the end of the block; what follows it is returned as text."""
        buffer = (self._data or b"") + piece
        end = buffer.find(_END)
        if end >= 0:
            self._rows += line_feeds(buffer[1 : end + 1])
            self.blocks[-1] = (self.blocks[-1][0], self._rows)
            self._data = None
            return buffer[end + len(_END) :]
        keep = max(0, len(buffer) - (len(_END) - 1))  # the end mark may be cut in two
        if keep:
            self._rows += line_feeds(buffer[1 : keep + 1])
        self._data = buffer[keep:]
        self.blocks[-1] = (self.blocks[-1][0], self._rows)
        return None


def table_of(header: bytes) -> Optional[tuple[str, str]]:
    """Schema and name out of a COPY statement; None where they cannot be read (another encoding than UTF-8)."""
    try:
        text = header.decode("utf-8")[len(_COPY) :]
    except UnicodeDecodeError:
        return None
    match = _NAME.match(text)
    return (_unquoted(match[1]), _unquoted(match[2])) if match else None


def rows_by_table(blocks: Iterable[tuple[bytes, int]]) -> list[TableCount]:
    """The rows of each table, of all its blocks; tables whose names cannot be read are left out."""
    found: Counter[tuple[str, str]] = Counter()
    for header, rows in blocks:
        table = table_of(header)
        if table is not None:
            found[table] += rows
    return [TableCount(schema, name, rows) for (schema, name), rows in found.items()]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def differences(counter: CopyCounter, expected: Sequence[TableCount]) -> list[str]:
    """Compare the rows found with the manifest's counts, as sentences; empty where all agree.

    Blocks of tables that the manifest does not count (an extension's own configuration) are passed over. Tables whose
    names cannot be read in the output are compared by their counts alone.
    """
    problems = ["The dump's data break off in the middle."] if counter.unfinished else []
    found: dict[tuple[str, str], int] = {}
    nameless: Counter[int] = Counter()
    for header, rows in counter.blocks:
        table = table_of(header)
        if table is None:
            nameless[rows] += 1
        else:
            found[table] = rows
    for table_count in expected:
        rows_found = found.get((table_count.schema, table_count.name))
        if rows_found is None and nameless[table_count.rows] > 0:
            nameless[table_count.rows] -= 1
            continue
        if rows_found != table_count.rows:
            problems.append(
                f"The dump holds {rows_found or 0} rows of {table_count.schema}.{table_count.name}; "
                f"the snapshot had {table_count.rows}."
            )
    return problems
