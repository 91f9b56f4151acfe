"""Rules that need more than one table, or another table than endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..connection import SQL, Composable, Identifier, Literal, Query, text_of
from ..finding import Finding, Fix
from ..finding_kinds import FindingKind, by_hand, declare, finding
from ..lockbudget import relation
from .context import Context
from .data import DATES, FUTURE_MINUTES
from .remedies import neighbours_dates, own_models, present_dates, transaction
from .unit import check

declare(
    FindingKind(
        "data.date_future",
        "warning",
        "A date in verified_endpoints, metadata or schema_version lies in the future: a clock was wrong, or a"
        " time zone was lost.",
        how="Find the machine whose clock is wrong; the SQL makes such dates now, the latest that they can be.",
        lock="ROW EXCLUSIVE",
    ),
)

# Dates besides those of endpoints and results, which have passes of their own.
OTHER_DATES = (
    ("verified_endpoints", "verification_date"),
    ("metadata", "updated_at"),
    ("schema_version", "applied_at"),
)


@check(
    "dates of benchmark results",
    FindingKind(
        "data.benchmark_results.date_future",
        "warning",
        "A test_date lies in the future: a clock was wrong, or a time zone was lost.",
        how="Find the machine whose clock is wrong; the SQL takes the date of the result before, in the order of ids.",
        lock="ROW EXCLUSIVE",
    ),
)
def result_dates(context: Context) -> Iterator[Finding]:
    """Benchmark results dated in the future; the index on test_date makes this cheap."""
    found = _future(context, "benchmark_results", "test_date")
    if found:
        rows, query, condition = found
        has_id = "id" in context.tables["benchmark_results"]
        yield finding(
            "data.benchmark_results.date_future",
            "benchmark_results.test_date",
            f"{rows} benchmark results are dated in the future.",
            {"rows": rows, "query": query},
            _offer("data.benchmark_results.date_future", neighbours_dates(context.schema, condition) if has_id else []),
        )


def _dates(name: str, column: str, context: Context) -> Iterator[Finding]:
    """Dates in the future in one of the smaller tables."""
    found = _future(context, name, column)
    if found:
        rows, query, condition = found
        yield finding(
            "data.date_future",
            f"{name}.{column}",
            f"{rows} rows of {name} have a {column} in the future.",
            {"rows": rows, "query": query},
            _offer("data.date_future", present_dates(context.schema, name, [column], condition)),
        )


def _declare_dates(name: str, column: str) -> None:
    @check(f"dates of {name}")
    def look(context: Context) -> Iterator[Finding]:
        return _dates(name, column, context)


for _place in OTHER_DATES:
    _declare_dates(*_place)


def _future(context: Context, name: str, column: str) -> tuple[int, str, Composable] | None:
    """How many rows `e` of a table have a date in the future, if any; the query that lists them, and its condition."""
    if not context.tables.get(name, {}).get(column, "").startswith(DATES):
        return None
    condition = SQL("e.{} > now() + {} * interval '1 minute'").format(
        Identifier(column), Literal(context.limits[FUTURE_MINUTES])
    )
    query = SQL("SELECT count(*) FROM {} e WHERE {}").format(relation(context.schema, name), condition)
    rows = context.number(query)
    return (rows, text_of(query).replace("count(*)", "*", 1), condition) if rows else None


def _offer(finding_id: str, statements: Sequence[Query]) -> Fix | None:
    return by_hand(finding_id, *transaction(*statements)) if statements else None


@check(
    "models of benchmark results",
    FindingKind(
        "data.benchmark_results.foreign_model",
        "warning",
        "A benchmark result names a model of another endpoint. Looked at where scannerdb_check_cross_table is true.",
        how="The SQL sets model_id to the endpoint's own model of that name, or to NULL where it has none.",
        lock="ROW EXCLUSIVE",
    ),
    cross_table=True,
)
def foreign_models(context: Context) -> Iterator[Finding]:
    """Results whose model belongs to another endpoint: the one rule that joins two large tables."""
    results, models = context.tables.get("benchmark_results", {}), context.tables.get("models", {})
    if not ({"model_id", "endpoint_id"} <= set(results) and {"id", "endpoint_id"} <= set(models)):
        return
    query = SQL(
        "SELECT count(*) FROM {} b JOIN {} m ON m.id = b.model_id WHERE m.endpoint_id IS DISTINCT FROM b.endpoint_id"
    ).format(relation(context.schema, "benchmark_results"), relation(context.schema, "models"))
    rows = context.number(query)
    if rows:
        yield finding(
            "data.benchmark_results.foreign_model",
            "benchmark_results.model_id",
            f"{rows} benchmark results name a model that belongs to another endpoint.",
            {"rows": rows, "query": text_of(query).replace("count(*)", "b.*", 1)},
            _offer("data.benchmark_results.foreign_model", own_models(context.schema)) if "name" in models else None,
        )
