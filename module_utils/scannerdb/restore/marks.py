"""Names and comments of the databases a restore makes, so that anybody can tell whose they are. Pure.

A side database (being restored) and a kept one (what a cutover replaced) carry a comment in JSON. The comment, not the
name, decides: a shortened name proves nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ..jsontext import read_json

LONGEST = 63  # bytes; PostgreSQL cuts the rest off without a word
SIDE = "side"
KEPT = "kept"
KEY = "scannerdb"


@dataclass(frozen=True)
class DatabaseMark:
    """What the comment on one of our databases says.

    `kind` is `side` or `kept`; `database` the name the users know; `run_id` and `at` the run that made it; `source`
    what was restored. `switching` is true while a cutover that would bring this database in is under way: where it
    stays true, the cutover was cut short. `comment` is the database's own comment, given back when it is renamed.
    """

    kind: str
    database: str
    run_id: str
    at: str
    source: str = ""
    switching: bool = False
    comment: str = ""

    def text(self) -> str:
        """The mark as a comment."""
        values = asdict(self)
        note = {
            SIDE: "Being restored; removed by the next run if it is left over.",
            KEPT: "What a restore replaced; drop it when it is not needed for an undo any more.",
        }[self.kind]
        return json.dumps({KEY: values.pop("kind"), **values, "note": note}, ensure_ascii=False)


def parse_mark(comment: Optional[str]) -> Optional[DatabaseMark]:
    """The mark in a database's comment, or None where it is not ours."""
    if not comment or not comment.startswith("{"):
        return None
    try:
        values: Any = read_json(comment)
        kind, database, run_id = values[KEY], values["database"], values["run_id"]
    except (ValueError, KeyError, TypeError):
        return None
    if kind not in (SIDE, KEPT) or not isinstance(database, str) or not isinstance(run_id, str):
        return None
    return DatabaseMark(
        kind=kind,
        database=database,
        run_id=run_id,
        at=str(values.get("at", "")),
        source=str(values.get("source", "")),
        switching=values.get("switching") is True,
        comment=str(values.get("comment", "")),
    )


def side_name(database: str, run_id: str) -> str:
    """The name of the database a run restores into, e.g. `ollama_scanner__restore_0a1b2c3d`."""
    return _with_suffix(database, f"__restore_{_short(run_id)}")


def kept_name(database: str, run_id: str) -> str:
    """The name under which a run keeps what it replaced, e.g. `ollama_scanner__before_0a1b2c3d`."""
    return _with_suffix(database, f"__before_{_short(run_id)}")


def looks_like_side(name: str, database: str) -> bool:
    """True where `name` is one that `side_name` gives for this database and some run."""
    match = re.search(r"__restore_([0-9a-f]{8})$", name)
    return bool(match) and name == _with_suffix(database, f"__restore_{match.group(1)}" if match else "")


def _short(run_id: str) -> str:
    """The random part of a run's name; of anything else a hash."""
    tail = run_id.rpartition("-")[2]
    return tail if re.fullmatch(r"[0-9a-f]{8}", tail) else hashlib.sha256(run_id.encode()).hexdigest()[:8]


def _with_suffix(database: str, suffix: str) -> str:
    """`database` + `suffix` within the limit; a name that has to be cut gets a hash of the whole, to stay unique."""
    if len((database + suffix).encode()) <= LONGEST:
        return database + suffix
    whole = database.encode()
    mark = "_" + hashlib.sha256(whole).hexdigest()[:8]
    room = LONGEST - len((mark + suffix).encode())
    return whole[:room].decode("utf-8", "ignore") + mark + suffix
