"""The SQL of each action, with the options that the server's version has. Pure."""

from __future__ import annotations

from ..connection import SQL, Query, text_of
from ..lockbudget import relation
from .plan import REPACK, Action

REWRITE = {"full": "VACUUM (FULL) {}", REPACK: "REPACK (CONCURRENTLY) {}"}
BUFFER_LIMIT_SINCE = 160000
ONLY_SINCE = 180000  # from there on VACUUM and ANALYZE of a table take those along that inherit from it
BUFFER_LIMIT = "BUFFER_USAGE_LIMIT '4MB'"  # larger than the default ring, and still a small part of the cache


def statements(action: Action, schema: str, table: str, version_num: int, parallel: int = 0) -> list[Query]:
    """The statements of an action, in order; `version_num` as in `server_version_num`, `parallel` workers or 0.

    A rewrite is followed by a plain VACUUM: it makes the visibility map, which the copy lacks, and the statistics;
    after pg_repack, which is no statement, that is all. REPACK is PostgreSQL 19's.
    """
    name = relation(schema, table)
    alone = SQL("ONLY {}").format(name) if version_num >= ONLY_SINCE else name
    if action.kind == "reindex":
        return [SQL("REINDEX INDEX CONCURRENTLY {}").format(relation(schema, action.index))]
    if action.kind == "drop_repack":
        return []  # pgrepack.py knows what there is to drop
    if action.kind == "drop_index":
        return [SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(relation(schema, action.index))]
    if action.kind == "analyze":
        return [SQL("ANALYZE ({}) {}").format(SQL(", ".join(_analyze_words(version_num))), alone)]
    words = SQL(", ".join(_vacuum_words(action, version_num, parallel)))
    plain = SQL("VACUUM ({}) {}").format(words, alone)
    rewrite = REWRITE.get(action.kind)
    return [SQL(rewrite).format(name if action.kind == REPACK else alone), plain] if rewrite else [plain]


def _vacuum_words(action: Action, version_num: int, parallel: int) -> list[str]:
    words = ["ANALYZE", "SKIP_LOCKED", "INDEX_CLEANUP AUTO"]
    if action.freeze:
        words.append("FREEZE")
    if parallel:
        words.append(f"PARALLEL {parallel:d}")
    if version_num >= BUFFER_LIMIT_SINCE:
        words.append(BUFFER_LIMIT)
    return words


def _analyze_words(version_num: int) -> list[str]:
    return ["SKIP_LOCKED", BUFFER_LIMIT] if version_num >= BUFFER_LIMIT_SINCE else ["SKIP_LOCKED"]


def as_text(statement: Query) -> str:
    """A statement for people: one line, ended by a semicolon."""
    return f"{text_of(statement)};"
