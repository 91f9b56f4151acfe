"""Objects that a restore is told to do without, by name: what of the archive is then not made. Pure.

A name is `index`, `schema.index`, `schema.table.constraint`, or `schema.function(integer)`, quoted as in SQL where
needed. Of a table or a materialized view the rows are left out, and it stays, empty; of anything else the whole. A
CHECK comes back NOT VALID.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import InvalidInput
from .contents import Contents, ContentsEntry

_PART = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^".(]+(?:\(.*\))?))\s*(\.|$)')
_ROWS = ("TABLE DATA", "MATERIALIZED VIEW DATA")
_KEPT = ("TABLE", "MATERIALIZED VIEW")
# What stands behind its table's name.
_OF_A_TABLE = ("CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "TRIGGER", "RULE", "POLICY", "DEFAULT")


def parts_of(text: str) -> tuple[str, ...]:
    """The parts of a name; raises `InvalidInput` where it is none."""
    found, at = [], 0
    while at < len(text):
        match = _PART.match(text, at)
        if not match:
            break
        found.append((match.group(1) or "").replace('""', '"') or (match.group(2) or "").strip())
        at = match.end()
        if not match.group(3):
            break
    if at < len(text) or not found or not all(found) or len(found) > 3:
        raise InvalidInput(
            f"{text!r} in scannerdb_restore_leave_out is no name.",
            'Write it like public.my_view, public.my_table.my_constraint or public."odd name".',
        )
    return tuple(found)


def quoted(name: str) -> str:
    """A part of a name as this list takes it."""
    plain = re.fullmatch(r"[^\W\d]\w*(?:\(.*\))?", name)
    return name if plain else '"' + name.replace('"', '""') + '"'


def item_of(entry: ContentsEntry, owners: Iterable[str]) -> str:
    """The name of an entry as this list takes it; its owner, behind the last blank, is no part of it."""
    tag = entry.rest
    for owner in sorted(owners, key=len, reverse=True):
        if tag.endswith(f" {owner}"):
            tag = tag[: -len(owner) - 1]
            break
    else:
        tag = tag.rpartition(" ")[0] or tag
    parts = tag.split(" ", 1) if entry.is_a(*_OF_A_TABLE) else [tag]
    return ".".join(quoted(part) for part in ([] if entry.schema == "-" else [entry.schema]) + parts)


@dataclass(frozen=True)
class Named:
    """The names that were given, as their parts."""

    items: tuple[tuple[str, ...], ...] = ()
    everything: bool = False  # whatever CHECK there is

    def __bool__(self) -> bool:
        return bool(self.items) or self.everything

    @property
    def texts(self) -> list[str]:
        """The names as they are written."""
        return [".".join(map(quoted, item)) for item in self.items]

    def entry(self, entry: ContentsEntry) -> bool:
        """Whether an entry is to be left out."""
        if entry.is_a(*_KEPT) and not entry.is_a(*_ROWS):
            return False
        return any(_means(item, entry) for item in self.items)

    def constraint(self, schema: str, table: str, name: str) -> bool:
        """Whether a constraint of a table is to be left out."""
        return self.everything or any((schema, table, name)[-len(item) :] == item for item in self.items)

    def unknown(self, contents: Contents, script: str) -> list[str]:
        """The names that mean nothing in an archive; `script` is its structure, where alone its CHECKs are."""
        return [
            text
            for text, item in zip(self.texts, self.items)
            if not any(_means(item, entry) for entry in contents.entries)
            and not re.search(rf'CONSTRAINT (?:"{re.escape(item[-1])}"|{re.escape(item[-1])}) CHECK', script)
        ]


def named(texts: Sequence[str]) -> Named:
    """The names out of an option; raises `InvalidInput`."""
    return Named(tuple(parts_of(text) for text in texts))


def _means(item: tuple[str, ...], entry: ContentsEntry) -> bool:
    """Names end where a blank is; those of constraints and triggers stand behind their table's."""
    label = entry.label
    if len(item) == 1:
        behind = entry.is_a(*_OF_A_TABLE) and f" {item[0]} " in f" {entry.rest} "
        return behind or f"{entry.rest} ".startswith(f"{item[0]} ")
    rest = " ".join(item[1:])
    short = " ".join(item)  # a table and its constraint, without the schema
    return label.startswith(f"{item[0]} {rest} ") or f"{entry.rest} ".startswith(f"{short} ")
