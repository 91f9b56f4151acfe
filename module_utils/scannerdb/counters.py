"""The counters that the application keeps in `metadata`: what each counts, and the statement that counts. Pure."""

from __future__ import annotations

from .connection import SQL, Composable, Identifier, Literal
from .lockbudget import relation

TABLE = "metadata"
CONSENT = "scannerdb_fix_counters"
# What each counts, as a query over the schema; server_count is the rows of the view `servers`.
COUNTS = {
    "server_count": "SELECT count(*) FROM {endpoints} e JOIN {links} v ON v.endpoint_id = e.id",
    "scanned_count": "SELECT count(*) FROM {endpoints}",
    "verified_count": "SELECT count(*) FROM {endpoints} WHERE verified = 1",
    "verified_server_count": "SELECT count(*) FROM {endpoints} WHERE verified = 1",
    "failed_count": "SELECT count(*) FROM {endpoints} WHERE verified = 2",
    "model_count": "SELECT count(*) FROM {models}",
}
NEEDED = {
    "server_count": ("endpoints", "verified_endpoints"),
    "model_count": ("models",),
}


def tables_of(keys: tuple[str, ...]) -> tuple[str, ...]:
    """The tables that these counters are kept in and count."""
    return tuple(sorted({TABLE, *(table for key in keys for table in NEEDED.get(key, ("endpoints",)))}))


def count_query(schema: str, key: str) -> Composable:
    """The query that counts what a counter stands for."""
    names = {"endpoints": "endpoints", "links": "verified_endpoints", "models": "models"}
    places = {name: relation(schema, table) for name, table in names.items()}
    return SQL(COUNTS[key]).format(**places)  # type: ignore[arg-type,unused-ignore]


def refresh(schema: str, key: str, *, dated: bool, returning: Composable | None = None) -> Composable:
    """The statement that counts, whenever it is run: by then the number is another one."""
    return SQL("UPDATE {} t SET value = ({}){} {}WHERE t.{} = {}{}").format(
        relation(schema, TABLE),
        count_query(schema, key),
        SQL(", updated_at = now()" if dated else ""),
        SQL("FROM {} o ").format(relation(schema, TABLE)) if returning else SQL(""),
        Identifier("key"),
        Literal(key),
        returning or SQL(""),
    )
