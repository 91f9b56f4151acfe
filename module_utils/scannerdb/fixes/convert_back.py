"""A conversion taken back: online, with the old words where they still hold, and nothing written since lost."""

from __future__ import annotations

import dataclasses

from ..connection import fetch
from ..contract.conversion import kept_name, removal
from ..errors import FixLeft
from ..finding import Change, Reversal
from ..frame import Frames
from ..lockbudget import Budget, LockRecord
from .convert import HAVE, Converter
from .convert_null import prove_not_null
from .journal import JournalEntry
from .retyped import Retyping, backwards
from .rights import writer_for
from .rowfix import At
from .structure import run_strong_change

BATCH_ROWS = 5000


def convert_back(frames: Frames, reversal: Reversal, application: str, budget: Budget, record: LockRecord) -> None:
    """Give the columns their old types again; one that has its old type already is left as it is.

    Raises `FixLeft` where the old values are no longer there.
    """
    one = backwards(reversal)
    have = {row["name"]: row["type"] for row in fetch(frames.conn, HAVE, [one.schema, one.table])}
    left = tuple(c for c in one.columns if have.get(c.name) == c.want)
    gone = [c.name for c in left if have.get(kept_name(c.name)) != c.have]
    if gone:
        raise FixLeft(f"the old values of {one.table}.{', '.join(gone)} are no longer kept")
    if not left:
        _left_over(frames, one, have, budget, record)
        prove_not_null(frames, one, budget, record)
        return
    writer = writer_for(frames, one.schema, [one.table], application)
    entry = JournalEntry("", "", one.schema, kept=False)
    at = At(writer, entry, budget, record, BATCH_ROWS, lambda rows: None)
    Converter(at, dataclasses.replace(one, columns=left)).run()


def _left_over(frames: Frames, one: Retyping, have: dict[str, str], budget: Budget, record: LockRecord) -> None:
    """What a conversion that never came to its end has left goes."""
    forth = dataclasses.replace(one, back=False)
    left = [name for name in forth.names.values() if name in have]
    if left:
        statements = tuple(removal(one.schema, one.table, left))
        drop = Change(statements, "ACCESS EXCLUSIVE", "strong", ((one.schema, one.table),))
        run_strong_change(frames, drop, budget, record, f"Cleaning up {one.table}")


def said_back(reversal: Reversal) -> str:
    """What would be done, for `--diff`."""
    one = backwards(reversal)
    columns = ", ".join(f"{c.name} {c.have}" for c in one.columns)
    return f"the columns of {one.table} get their types back, online: {columns}"
