"""The exact SQL for what only people can decide about rows: it shows what was there, then repairs it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..connection import SQL, Composable, Identifier, Literal, Query, text_of
from ..lockbudget import relation

LOOK = "-- Keep what the SELECT showed, look at the numbers of rows; ROLLBACK if they are not what you expect.\nCOMMIT"


def transaction(*statements: Query) -> tuple[str, ...]:
    """Statements in one transaction, with the advice to look before it is committed."""
    return ("BEGIN", *(text_of(statement) for statement in statements), LOOK)


def deactivation(
    schema: str, columns: Mapping[str, str], condition: Composable, reason: str, links: bool
) -> list[Query]:
    """Endpoints `e` that fulfil a condition become inactive, and what is inactive is not verified: it has no link."""
    endpoints = relation(schema, "endpoints")
    sets: list[Composable] = [SQL("is_active = false")]
    if "inactive_reason" in columns:
        sets.append(SQL("inactive_reason = {}").format(Literal(reason)))
    if "verified" in columns:
        sets.append(SQL("verified = CASE WHEN e.verified = 1 THEN 0 ELSE e.verified END"))
    unlink = SQL("DELETE FROM {} v USING {} e WHERE e.id = v.endpoint_id AND {}")
    return [
        SQL("SELECT * FROM {} e WHERE {}").format(endpoints, condition),
        *([unlink.format(relation(schema, "verified_endpoints"), endpoints, condition)] if links else []),
        SQL("UPDATE {} e SET {} WHERE {}").format(endpoints, SQL(", ").join(sets), condition),
    ]


def settled(schema: str, condition: Composable) -> list[Query]:
    """Endpoints `e` with a `verified` that means nothing: the link tells, but for a honeypot or an inactive one."""
    endpoints, links = relation(schema, "endpoints"), relation(schema, "verified_endpoints")
    flagged = SQL("(e.is_honeypot IS TRUE OR e.is_active IS FALSE)")
    return [
        SQL("SELECT * FROM {} e WHERE {}").format(endpoints, condition),
        SQL("DELETE FROM {} v USING {} e WHERE e.id = v.endpoint_id AND {} AND {}").format(
            links, endpoints, flagged, condition
        ),
        SQL(
            "UPDATE {} e SET verification_date = coalesce(e.verification_date, now()), verified ="
            " CASE WHEN EXISTS (SELECT FROM {} v WHERE v.endpoint_id = e.id) THEN 1 ELSE 0 END WHERE {}"
        ).format(endpoints, links, condition),
    ]


def present_dates(schema: str, name: str, dates: Sequence[str], condition: Composable) -> list[Query]:
    """Dates of a table's rows `e` that lie in the future become now: what they tell of has happened, not after that."""
    table = relation(schema, name)
    one = SQL("{0} = CASE WHEN e.{0} > now() THEN now() ELSE e.{0} END")
    sets = SQL(", ").join(one.format(Identifier(date)) for date in dates)
    return [
        SQL("SELECT * FROM {} e WHERE {}").format(table, condition),
        SQL("UPDATE {} e SET {} WHERE {}").format(table, sets, condition),
    ]


def neighbours_dates(schema: str, condition: Composable) -> list[Query]:
    """Results `e` dated in the future get the date of the last one before them: ids are handed out in order."""
    results = relation(schema, "benchmark_results")
    before = SQL(
        "SELECT p.test_date FROM {} p WHERE p.id < e.id AND p.test_date <= now() ORDER BY p.id DESC LIMIT 1"
    ).format(results)
    return [
        SQL("SELECT id, test_date FROM {} e WHERE {}").format(results, condition),
        SQL("UPDATE {} e SET test_date = coalesce(({}), now()) WHERE {}").format(results, before, condition),
    ]


def own_models(schema: str) -> list[Query]:
    """Results get their endpoint's own model of the same name; those whose endpoint has none name no model any more."""
    results, models = relation(schema, "benchmark_results"), relation(schema, "models")
    foreign = SQL("m.id = b.model_id AND m.endpoint_id IS DISTINCT FROM b.endpoint_id")
    own = SQL("o.endpoint_id = b.endpoint_id AND o.name = m.name")
    return [
        SQL("SELECT b.id, b.endpoint_id, b.model_id FROM {} b, {} m WHERE {}").format(results, models, foreign),
        SQL("UPDATE {} b SET model_id = o.id FROM {} m, {} o WHERE {} AND {}").format(
            results, models, models, foreign, own
        ),
        SQL("UPDATE {} b SET model_id = NULL FROM {} m WHERE {}").format(results, models, foreign),
    ]
