"""The data's own rules. All rules over `endpoints` share one pass over the table; a rule that a validated foreign key
proves is not looked at again.

NULL counts as 0 or false: conditions say IS TRUE, IS DISTINCT FROM.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..connection import SQL, Composable, Identifier, fetch, scalar
from ..finding import Finding
from .context import Context, Reference
from .registry import finding

LINKED = "EXISTS (SELECT FROM {links} v WHERE v.endpoint_id = e.id)"


@dataclass(frozen=True)
class Rule:
    """A condition on an endpoint `e` (and `linked`: it has a link row) that must hold for no row."""

    id: str
    condition: str
    needs: frozenset[str]
    message: str
    place: str
    links: bool = False


RULES = (
    Rule(
        "data.verified.honeypot",
        "e.verified = 1 AND e.is_honeypot IS TRUE",
        frozenset({"verified", "is_honeypot"}),
        "{rows} honeypots count as verified.",
        "endpoints.verified",
    ),
    Rule(
        "data.verified.inactive",
        "e.verified = 1 AND e.is_active IS FALSE AND e.is_honeypot IS NOT TRUE",
        frozenset({"verified", "is_active", "is_honeypot"}),
        "{rows} inactive endpoints count as verified.",
        "endpoints.verified",
    ),
    Rule(
        "data.verified.link_missing",
        "e.verified = 1 AND e.is_honeypot IS NOT TRUE AND NOT linked",
        frozenset({"verified", "is_honeypot"}),
        "{rows} verified endpoints have no row in verified_endpoints, so they are not in servers.",
        "verified_endpoints",
        links=True,
    ),
    Rule(
        "data.verified.link_stale",
        "linked AND coalesce(e.verified, 0) IN (0, 2)",
        frozenset({"verified"}),
        "{rows} rows in verified_endpoints belong to endpoints that are not verified.",
        "verified_endpoints",
        links=True,
    ),
    Rule(
        "data.endpoints.verification_date_null",
        "e.verified = 1 AND e.verification_date IS NULL",
        frozenset({"verified", "verification_date"}),
        "{rows} verified endpoints have no verification_date.",
        "endpoints.verification_date",
    ),
    Rule(
        "data.endpoints.last_check_date_null",
        "e.last_check_date IS NULL",
        frozenset({"last_check_date"}),
        "{rows} endpoints have no last_check_date.",
        "endpoints.last_check_date",
    ),
    Rule(
        "data.endpoints.verified_range",
        "e.verified NOT IN (0, 1, 2)",
        frozenset({"verified"}),
        "{rows} endpoints have a verified that is neither 0, 1 nor 2.",
        "endpoints.verified",
    ),
)


def applicable(context: Context) -> list[Rule]:
    """The rules whose tables and columns exist; what is missing is a finding of the contract's already."""
    columns = context.tables.get("endpoints", frozenset())
    has_links = "endpoint_id" in context.tables.get("verified_endpoints", frozenset())
    return [rule for rule in RULES if rule.needs | {"id"} <= columns and (has_links or not rule.links)]


def _aggregates(rules: list[Rule]) -> Composable:
    """For each rule, how many rows break it and the smallest id of these."""
    parts: list[Composable] = []
    for number, rule in enumerate(rules):
        condition = SQL(rule.condition)  # type: ignore[arg-type,unused-ignore]
        for function, suffix in (("count(*)", "n"), ("min(e.id)", "id")):
            name = Identifier(f"{suffix}{number}")
            aggregate = SQL(function)  # type: ignore[arg-type,unused-ignore]
            parts.append(SQL("{} FILTER (WHERE {}) AS {}").format(aggregate, condition, name))
    return SQL(",\n       ").join(parts)


def endpoints(context: Context) -> Iterator[Finding]:
    """All rules over endpoints and their links, in one pass."""
    rules = applicable(context)
    if not rules:
        return
    linked: Composable = SQL("false")
    if any(rule.links for rule in rules):
        links = SQL("{}.{}").format(Identifier(context.schema), Identifier("verified_endpoints"))
        linked = SQL(LINKED).format(links=links)
    table = SQL("{}.{}").format(Identifier(context.schema), Identifier("endpoints"))
    query = SQL("SELECT {} FROM (SELECT e.*, {} AS linked FROM {} e) e").format(_aggregates(rules), linked, table)
    row = fetch(context.conn, query)[0]
    for number, rule in enumerate(rules):
        rows = row[f"n{number}"]
        if rows:
            evidence = {"rows": rows, "example_id": row[f"id{number}"]}
            yield finding(rule.id, rule.place, rule.message.format(rows=rows), evidence)


def orphans(context: Context) -> Iterator[Finding]:
    """Rows without their parent, only where no validated foreign key rules them out."""
    for reference in context.unproven:
        child_columns = context.tables.get(reference.table, frozenset())
        parent_columns = context.tables.get(reference.parent, frozenset())
        if reference.column not in child_columns or reference.parent_column not in parent_columns:
            continue
        rows = scalar(context.conn, orphan_count(context.schema, reference))
        if rows:
            yield finding(
                "data.orphan",
                f"{reference.table}.{reference.column}",
                f"{rows} rows of {reference.table} point at a row of {reference.parent} that does not exist.",
                {"rows": rows, "column": reference.column, "parent": reference.parent},
            )


def orphan_count(schema: str, reference: Reference) -> Composable:
    """The query that counts a reference's orphans."""
    return SQL(
        "SELECT count(*) FROM {child} c WHERE c.{column} IS NOT NULL"
        " AND NOT EXISTS (SELECT FROM {parent} p WHERE p.{parent_column} = c.{column})"
    ).format(
        child=SQL("{}.{}").format(Identifier(schema), Identifier(reference.table)),
        parent=SQL("{}.{}").format(Identifier(schema), Identifier(reference.parent)),
        column=Identifier(reference.column),
        parent_column=Identifier(reference.parent_column),
    )
