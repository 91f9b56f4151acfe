"""The counters and marks that the application keeps in `metadata`: what they count, and what they tell of a scan."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping

from ..connection import SQL, Literal, text_of
from ..counters import CONSENT, COUNTS, NEEDED, TABLE, count_query, refresh
from ..finding import Finding, Fix
from ..finding_kinds import BY_FIX, FindingKind, finding
from ..lockbudget import relation
from .context import Context
from .thresholds import threshold
from .unit import check

METADATA_DRIFT_ROWS = threshold("metadata_drift_rows", 0, "a counter in `metadata` that is further off than this")

UNCOUNTED = "0"  # every counter stands there until its program has run
MARKS = "SELECT key::text AS key, value::text AS value FROM {} WHERE key ~ '^last_.+_(start|end)$'"
ORDER = 90  # after the rows that are counted
LONGEST_RUN = datetime.timedelta(days=1)


@check(
    "counters in metadata",
    FindingKind(
        "data.metadata.counter",
        "warning",
        "A counter in metadata contradicts what it counts; '0' is what it says before its program has run.",
        BY_FIX,
        how="Only with scannerdb_fix_counters: true; the application writes them at its next sync, too.",
        lock="ROW EXCLUSIVE",
    ),
)
def stored_counters(context: Context) -> Iterator[Finding]:
    """One finding for all counters that are wrong."""
    columns = context.tables.get(TABLE, {})
    if not {"key", "value"} <= set(columns):
        return
    table = relation(context.schema, TABLE)
    query = SQL("SELECT key::text AS key, value::text AS value FROM {} WHERE key = ANY({})")
    stored = {row["key"]: row["value"] for row in context.read(query.format(table, Literal([*COUNTS])))}
    wrong = contradictions(stored, _true_counts(context, stored), context.limits[METADATA_DRIFT_ROWS])
    if wrong:
        said = ", ".join(f"{key} says {says!r}, there are {is_}" for key, (says, is_) in wrong.items())
        yield finding(
            "data.metadata.counter",
            "metadata",
            f"Counters in metadata are wrong: {said}.",
            {key: {"stored": says, "actual": is_} for key, (says, is_) in wrong.items()},
            Fix(
                "data.metadata.counter",
                tuple(text_of(refresh(context.schema, key, dated=is_dated(columns))) for key in wrong),
                len(wrong),
                "ROW EXCLUSIVE",
                consent=CONSENT,
                order=ORDER,
            ),
        )


def is_dated(columns: Mapping[str, str]) -> bool:
    """Whether a counter notes when it was written."""
    return columns.get("updated_at", "").startswith("timestamp")


@check(
    "interrupted scans",
    FindingKind(
        "data.metadata.interrupted",
        "info",
        "A scan or prune began more than a day ago, and metadata knows no end of it.",
        how="Look whether it still runs; else start it again.",
    ),
)
def marks(context: Context) -> Iterator[Finding]:
    """One finding for each scan or prune that has no end."""
    if not {"key", "value"} <= set(context.tables.get(TABLE, {})):
        return
    table = relation(context.schema, TABLE)
    found = {row["key"]: row["value"] for row in context.read(SQL(MARKS).format(table))}
    yield from interrupted(found, context.now)


def _true_counts(context: Context, wanted: Mapping[str, str | None]) -> dict[str, int]:
    """What the counters should say: from the pass over endpoints where it was made, else counted now."""
    counts = dict(context.counts)
    for key in wanted:
        tables = NEEDED.get(key, ("endpoints",))
        if key not in counts and all(table in context.tables for table in tables):
            counts[key] = context.number(count_query(context.schema, key))
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
