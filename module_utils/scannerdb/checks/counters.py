"""The counters and marks that the application keeps in `metadata`: what they count, and what they tell of a scan."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping

from ..connection import SQL, Composable, Identifier, Literal, text_of
from ..finding import Finding
from ..lockbudget import relation
from .context import Context
from .registry import by_hand, finding

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
UNCOUNTED = "0"  # every counter stands there until its program has run
MARKS = "SELECT key::text AS key, value::text AS value FROM {} WHERE key ~ '^last_.+_(start|end)$'"
LONGEST_RUN = datetime.timedelta(days=1)


def check(context: Context) -> Iterator[Finding]:
    """One finding for all counters that are wrong, and one for each scan or prune that has no end."""
    if not {"key", "value"} <= set(context.tables.get("metadata", {})):
        return
    table = relation(context.schema, "metadata")
    query = SQL("SELECT key::text AS key, value::text AS value FROM {} WHERE key = ANY({})")
    stored = {row["key"]: row["value"] for row in context.read(query.format(table, Literal([*COUNTS])))}
    wrong = contradictions(stored, _true_counts(context, stored), context.limits.metadata_drift_rows)
    if wrong:
        said = ", ".join(f"{key} says {says!r}, there are {is_}" for key, (says, is_) in wrong.items())
        yield finding(
            "data.metadata.counter",
            "metadata",
            f"Counters in metadata are wrong: {said}.",
            {key: {"stored": says, "actual": is_} for key, (says, is_) in wrong.items()},
            by_hand("data.metadata.counter", *(_refresh(context, key) for key in wrong), rows=len(wrong)),
        )
    marks = {row["key"]: row["value"] for row in context.read(SQL(MARKS).format(table))}
    yield from interrupted(marks, context.now)


def _count(context: Context, key: str) -> Composable:
    names = {"endpoints": "endpoints", "links": "verified_endpoints", "models": "models"}
    places = {name: relation(context.schema, table) for name, table in names.items()}
    return SQL(COUNTS[key]).format(**places)  # type: ignore[arg-type,unused-ignore]


def _refresh(context: Context, key: str) -> str:
    """The statement that counts, whenever it is run: by then the number is another one."""
    columns = context.tables["metadata"]
    dated = columns.get("updated_at", "").startswith("timestamp")
    return text_of(
        SQL("UPDATE {} SET value = ({}){} WHERE {} = {}").format(
            relation(context.schema, "metadata"),
            _count(context, key),
            SQL(", updated_at = now()" if dated else ""),
            Identifier("key"),
            Literal(key),
        )
    )


def _true_counts(context: Context, wanted: Mapping[str, str | None]) -> dict[str, int]:
    """What the counters should say: from the pass over endpoints where it was made, else counted now."""
    counts = dict(context.counts)
    for key in wanted:
        tables = NEEDED.get(key, ("endpoints",))
        if key not in counts and all(table in context.tables for table in tables):
            counts[key] = context.number(_count(context, key))
    return counts


def contradictions(
    stored: Mapping[str, str | None], actual: Mapping[str, int], drift: float
) -> dict[str, tuple[str | None, int]]:
    """The counters that are further than `drift` from the truth, or no number at all. Pure."""
    wrong: dict[str, tuple[str | None, int]] = {}
    for key in COUNTS:
        if key not in stored or key not in actual:
            continue
        text = (stored[key] or "").strip()
        is_number = text.isascii() and text.isdigit()
        if text != UNCOUNTED and (not is_number or abs(int(text) - actual[key]) > drift):
            wrong[key] = (stored[key], actual[key])
    return wrong


def interrupted(marks: Mapping[str, str | None], now: datetime.datetime) -> Iterator[Finding]:
    """Scans, prunes and the like that began long ago, and did not end since. Pure."""
    for key, value in sorted(marks.items()):
        if not key.endswith("_start"):
            continue
        begun, ended = moment(value), moment(marks.get(key[: -len("_start")] + "_end"))
        if begun and now - begun > LONGEST_RUN and (ended is None or ended < begun):
            name = key[len("last_") : -len("_start")].replace("_", " ")
            yield finding(
                "data.metadata.interrupted",
                f"metadata.{key}",
                f"The last {name} began at {value} and has not ended: it was interrupted, or runs for very long.",
                {"start": value, "end": marks.get(key[: -len("_start")] + "_end")},
            )


def moment(text: str | None) -> datetime.datetime | None:
    """A date as the application writes it (ISO 8601, UTC where it says nothing), or None. Pure."""
    try:
        found = datetime.datetime.fromisoformat((text or "").strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=datetime.timezone.utc)
