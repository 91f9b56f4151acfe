"""The data's own rules. All rules over `endpoints` share one pass over the table; a rule that a validated foreign key
proves is not looked at again.

NULL counts as 0 or false: conditions say IS TRUE, IS DISTINCT FROM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ..connection import SQL, Composable, Identifier, text_of
from ..finding import Finding, Fix
from ..finding_kinds import BY_FIX, FindingKind, by_hand, finding
from ..lockbudget import relation
from .context import Context, Reference
from .remedies import deactivation, present_dates, settled, transaction
from .thresholds import threshold
from .unit import check

FUTURE_MINUTES = threshold("future_minutes", 60, "a date so far ahead")

NUMBERS = ("smallint", "integer", "bigint", "numeric")
DATES = ("timestamp", "date")
TEXTS = ("text", "character", "citext")
# What a column must be for a rule to make sense; another type is a finding of the contract's already.
FAMILIES = {"verified": NUMBERS, "port": NUMBERS, "is_honeypot": ("boolean",), "is_active": ("boolean",), "ip": TEXTS}
FLAGS = ("is_honeypot", "is_active", "verification_date")
DATE_COLUMNS = ("scan_date", "verification_date", "last_check_date")
OCTET = "(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
NO_ADDRESS = f"e.ip !~ '^({OCTET}[.]){{3}}{OCTET}$' AND e.ip !~ '^[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*$'"
NO_ADDRESS_SINCE_16 = "NOT pg_input_is_valid(e.ip, 'inet') OR strpos(e.ip, '/') > 0"

# A join: a subquery would be run again for each rule that asks for it, and keeps workers out. Where nothing proves
# that an endpoint has one link at most, the links are made distinct first.
LINKED = (
    "SELECT e.*, v.endpoint_id IS NOT NULL AS linked FROM {endpoints} e LEFT JOIN {links} v ON v.endpoint_id = e.id"
)
DISTINCT_LINKS = "(SELECT DISTINCT endpoint_id FROM {links})"
UNIQUE_LINK = ("verified_endpoints", ("endpoint_id",))


# The rules whose fix takes endpoints out of `servers`, and which of their rows: those that lose their link.
UNLINKED = {
    "data.verified.honeypot": "true",
    "data.verified.inactive": "true",
    "data.verified.link_stale": "(e.verified = 2 OR e.is_honeypot IS TRUE OR e.is_active IS FALSE)",
}


@dataclass(frozen=True)
class DataRule:
    """A condition on an endpoint `e` (and `linked`: it has a link row) that must hold for no row."""

    id: str
    condition: str
    needs: frozenset[str]
    message: str
    place: str
    links: bool = False
    list_rows: bool = False  # the evidence says how to list the rows: nobody but a person can repair them
    reason: str = ""  # why such an endpoint is made inactive by the offered SQL; the inactive are left alone

    @property
    def composed(self) -> Composable:
        """The condition, to be put into a query: it is this module's own text."""
        return SQL(self.condition)  # type: ignore[arg-type,unused-ignore]


RULES = (
    DataRule(
        "data.verified.honeypot",
        "e.verified = 1 AND e.is_honeypot IS TRUE",
        frozenset({"verified", "is_honeypot"}),
        "{rows} honeypots count as verified.",
        "endpoints.verified",
    ),
    DataRule(
        "data.verified.inactive",
        "e.verified = 1 AND e.is_active IS FALSE AND e.is_honeypot IS NOT TRUE",
        frozenset({"verified", "is_active", "is_honeypot"}),
        "{rows} inactive endpoints count as verified.",
        "endpoints.verified",
    ),
    DataRule(
        "data.verified.link_missing",
        "e.verified = 1 AND e.is_honeypot IS NOT TRUE AND NOT linked",
        frozenset({"verified", "is_honeypot"}),
        "{rows} verified endpoints have no row in verified_endpoints, so they are not in servers.",
        "verified_endpoints",
        links=True,
    ),
    DataRule(
        "data.verified.link_stale",
        "linked AND coalesce(e.verified, 0) IN (0, 2)",
        frozenset({"verified"}),
        "{rows} rows in verified_endpoints belong to endpoints that are not verified.",
        "verified_endpoints",
        links=True,
    ),
    DataRule(
        "data.endpoints.verification_date_null",
        "e.verified = 1 AND e.verification_date IS NULL",
        frozenset({"verified", "verification_date"}),
        "{rows} verified endpoints have no verification_date.",
        "endpoints.verification_date",
    ),
    DataRule(
        "data.endpoints.last_check_date_null",
        "e.last_check_date IS NULL",
        frozenset({"last_check_date"}),
        "{rows} endpoints have no last_check_date.",
        "endpoints.last_check_date",
    ),
    DataRule(
        "data.endpoints.verified_range",
        "e.verified NOT IN (0, 1, 2)",
        frozenset({"verified"}),
        "{rows} endpoints have a verified that is neither 0, 1 nor 2.",
        "endpoints.verified",
        list_rows=True,
    ),
    DataRule(
        "data.endpoints.port_range",
        "e.port NOT BETWEEN 1 AND 65535",
        frozenset({"port"}),
        "{rows} endpoints have a port outside 1 to 65535.",
        "endpoints.port",
        list_rows=True,
        reason="nothing can listen on this port",
    ),
)


def all_rules(context: Context) -> list[DataRule]:
    """The rules, with those that depend on the server's version, the columns and the thresholds."""
    columns = context.tables.get("endpoints", {})
    dates = _dates(columns)
    latest = f"greatest({', '.join(f'e.{name}' for name in dates)})"
    return [
        *RULES,
        DataRule(
            "data.endpoints.ip_unparsable",
            NO_ADDRESS_SINCE_16 if context.version >= 160000 else NO_ADDRESS,
            frozenset({"ip"}),
            "{rows} endpoints have an ip that is no address.",
            "endpoints.ip",
            list_rows=True,
            reason="the ip is no address",
        ),
        DataRule(
            "data.endpoints.date_future",
            f"{latest} > now() + interval '{context.limits[FUTURE_MINUTES]:g} minutes'",
            frozenset(dates or DATE_COLUMNS),
            "{rows} endpoints have a date in the future.",
            "endpoints",
            list_rows=True,
        ),
    ]


def _dates(columns: Mapping[str, str]) -> list[str]:
    return [name for name in DATE_COLUMNS if columns.get(name, "").startswith(DATES)]


def _fits(column: str, columns: Mapping[str, str]) -> bool:
    """True where a column exists and its type is one that rules can be asked of."""
    family = FAMILIES.get(column, DATES if column.endswith("_date") else ())
    return column in columns and (not family or columns[column].startswith(family))


def applicable(context: Context) -> list[DataRule]:
    """The rules whose tables and columns exist; what is missing is a finding of the contract's already."""
    columns = context.tables.get("endpoints", {})
    has_links = "endpoint_id" in context.tables.get("verified_endpoints", {})
    return [
        _of_the_active(rule, _fits("is_active", columns))
        for rule in all_rules(context)
        if all(_fits(column, columns) for column in rule.needs | {"id"}) and (has_links or not rule.links)
    ]


def _of_the_active(rule: DataRule, known: bool) -> DataRule:
    """A rule that is kept by making endpoints inactive, without those that are."""
    if not rule.reason:
        return rule
    active = f"({rule.condition}) AND e.is_active IS NOT FALSE"
    return replace(rule, condition=active) if known else replace(rule, reason="")


def _aggregates(rules: list[DataRule]) -> Composable:
    """For each rule, how many rows break it and the smallest id of these; and the counters of `metadata`."""
    parts: list[Composable] = [SQL("count(*) AS total")]
    if any("verified" in rule.needs for rule in rules):
        parts.append(SQL("count(*) FILTER (WHERE e.verified = 1) AS verified"))
    linked = any(rule.links for rule in rules)
    flags = any({"is_active", "is_honeypot"} <= rule.needs for rule in rules)
    for number, rule in enumerate(rules):
        for function, suffix in (("count(*)", "n"), ("min(e.id)", "id")):
            name = Identifier(f"{suffix}{number}")
            aggregate = SQL(function)  # type: ignore[arg-type,unused-ignore]
            parts.append(SQL("{} FILTER (WHERE {}) AS {}").format(aggregate, rule.composed, name))
        if linked and flags and rule.id in UNLINKED:
            leaving = SQL(UNLINKED[rule.id])  # type: ignore[arg-type,unused-ignore]
            query = SQL("count(*) FILTER (WHERE linked AND {} AND {}) AS {}")
            parts.append(query.format(rule.composed, leaving, Identifier(f"leave{number}")))
    return SQL(",\n       ").join(parts)


@check(
    "data rules of endpoints",
    FindingKind(
        "data.endpoints.verification_date_null",
        "warning",
        "A verified endpoint has no verification_date. (NULL on an unverified endpoint is right.)",
        BY_FIX,
        lock="ROW EXCLUSIVE",
    ),
    FindingKind(
        "data.endpoints.last_check_date_null",
        "warning",
        "An endpoint has no last_check_date.",
        BY_FIX,
        lock="ROW EXCLUSIVE",
    ),
    FindingKind(
        "data.endpoints.verified_range",
        "warning",
        "verified is neither 0, 1 nor 2. Reported only: nobody but the application knows what was meant.",
        how="The SQL goes by the link: 1 with one, else 0; a honeypot or inactive endpoint loses it.",
        lock="ROW EXCLUSIVE",
    ),
    FindingKind(
        "data.endpoints.port_range",
        "warning",
        "The port of an active endpoint is outside 1 to 65535, so nothing can listen there.",
        how="Correct it where the scanner's logs know it; else the SQL makes the endpoint inactive, without its link.",
        lock="ROW EXCLUSIVE",
    ),
    FindingKind(
        "data.endpoints.ip_unparsable",
        "warning",
        "The ip of an active endpoint is no IPv4 or IPv6 address; programs that parse the column stop at it.",
        how="Correct it where you know it; else the SQL makes the endpoint inactive, without its link.",
        lock="ROW EXCLUSIVE",
    ),
    FindingKind(
        "data.endpoints.date_future",
        "warning",
        "A date of an endpoint lies in the future: a clock was wrong, or a time zone was lost.",
        how="Find the machine whose clock is wrong; the SQL makes such dates now, the latest that they can be.",
        lock="ROW EXCLUSIVE",
    ),
    FindingKind(
        "data.verified.link_missing",
        "critical",
        "An endpoint with verified = 1 has no row in verified_endpoints, so it is not in servers.",
        BY_FIX,
        lock="ROW EXCLUSIVE",
    ),
    FindingKind(
        "data.verified.link_stale",
        "critical",
        "A row in verified_endpoints belongs to an endpoint that is not verified.",
        BY_FIX,
        lock="ROW EXCLUSIVE",
    ),
    FindingKind("data.verified.honeypot", "warning", "A honeypot counts as verified.", BY_FIX, lock="ROW EXCLUSIVE"),
    FindingKind(
        "data.verified.inactive",
        "warning",
        "An inactive endpoint counts as verified. Repaired only where scannerdb_fix_inactive is unverify.",
        BY_FIX,
        lock="ROW EXCLUSIVE",
    ),
    deep=False,
)
def endpoints(context: Context) -> Iterator[Finding]:
    """All rules over endpoints and their links, in one pass."""
    rules = applicable(context)
    if not rules:
        return
    table = relation(context.schema, "endpoints")
    source: Composable = SQL("SELECT e.* FROM {} e").format(table)
    if any(rule.links for rule in rules):
        links: Composable = relation(context.schema, "verified_endpoints")
        if UNIQUE_LINK in context.unguarded:
            links = SQL(DISTINCT_LINKS).format(links=links)
        source = SQL(LINKED).format(endpoints=table, links=links)
    query = SQL("SELECT {} FROM ({}) e").format(_aggregates(rules), source)
    row = context.read(query)[0]
    context.counts["scanned_count"] = row["total"]
    if "verified" in row:
        context.counts["verified_server_count"] = context.counts["verified_count"] = row["verified"]
    for number, rule in enumerate(rules):
        rows = row[f"n{number}"]
        if rows:
            evidence = {"rows": rows, "example_id": row[f"id{number}"]}
            if row.get(f"leave{number}"):
                evidence["leave_servers"] = row[f"leave{number}"]
            if rule.list_rows:
                evidence["query"] = _listing(table, rule)
            offered = offer(context, rule, rows) if rule.list_rows else None
            yield finding(rule.id, rule.place, rule.message.format(rows=rows), evidence, offered)


def offer(context: Context, rule: DataRule, rows: int) -> Fix | None:
    """The exact SQL for people, for a rule that nothing else repairs."""
    columns, condition = context.tables["endpoints"], rule.composed
    links = "endpoint_id" in context.tables.get("verified_endpoints", {})
    if rule.id == "data.endpoints.date_future":
        statements = present_dates(context.schema, "endpoints", _dates(columns), condition)
    elif rule.id == "data.endpoints.verified_range" and links and {*FLAGS} <= set(columns):
        statements = settled(context.schema, condition)
    elif rule.reason:
        statements = deactivation(context.schema, columns, condition, rule.reason, links)
    else:
        return None
    return by_hand(rule.id, *transaction(*statements), rows=rows)


def _listing(table: Composable, rule: DataRule) -> str:
    """The query that shows a rule's rows."""
    return text_of(SQL("SELECT * FROM {} e WHERE {}").format(table, rule.composed))


@check(
    "orphans",
    FindingKind(
        "data.orphan",
        "warning",
        "Rows whose parent is gone, where no foreign key watches.",
        BY_FIX,
        lock="ROW EXCLUSIVE",
    ),
    deep=False,
)
def orphans(context: Context) -> Iterator[Finding]:
    """Rows without their parent, only where no validated foreign key rules them out."""
    for reference in context.unproven:
        child_columns = context.tables.get(reference.table, {})
        parent_columns = context.tables.get(reference.parent, {})
        if reference.column not in child_columns or reference.parent_column not in parent_columns:
            continue
        rows = context.number(orphan_count(context.schema, reference))
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
        child=relation(schema, reference.table),
        parent=relation(schema, reference.parent),
        column=Identifier(reference.column),
        parent_column=Identifier(reference.parent_column),
    )
