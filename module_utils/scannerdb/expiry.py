"""A site's rules for rows that go when they are old: what a rule says, and the queries that follow from it. Pure.

    - {table: benchmark_results, column: test_date, days: 180, keep: 5}
    - {table: chat_history, column: timestamp, days: 90}

A row goes when its date is older than `days` days and it is not among the `keep` newest of its endpoint (of the rows
with the same value in `by`; `endpoint_id` where the table has it, else of the whole table). A date that is text counts
by its day, a day later, since it does not say its zone; one that is no date stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .connection import SQL, Composable, Identifier, Literal
from .errors import InvalidInput
from .lockbudget import relation

KEYS = {"table", "column", "days", "keep", "by"}
MOST_DAYS = 36_500
GROUP = "endpoint_id"
TEXTS = ("text", "character varying", "character")


@dataclass(frozen=True)
class ExpiryRule:
    """One rule; `by` is empty for the default."""

    table: str
    column: str
    days: int
    keep: int = 0
    by: str = ""

    @property
    def sentence(self) -> str:
        """The rule in words."""
        kept = f", but for the {self.keep} newest{f' of each {self.by}' if self.by else ''}" if self.keep else ""
        return f"rows whose {self.column} is more than {self.days} days old{kept}"


def rules_from(given: Any) -> tuple[ExpiryRule, ...]:
    """The rules out of `scannerdb_retention_rules`; raises `InvalidInput` that names the wrong one."""
    if not isinstance(given, (list, tuple)):
        raise InvalidInput(f"scannerdb_retention_rules must be a list, not {given!r}.")
    rules = tuple(_rule(item) for item in given)
    names = [rule.table for rule in rules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(f"scannerdb_retention_rules has two rules for {', '.join(twice)}.")
    return rules


def _rule(item: Any) -> ExpiryRule:
    if not isinstance(item, Mapping) or not set(map(str, item)) <= KEYS:
        raise InvalidInput(
            f"scannerdb_retention_rules: {item!r} is no rule.", f"A rule is a dictionary of {', '.join(sorted(KEYS))}."
        )
    table, column, by = item.get("table"), item.get("column"), item.get("by") or ""
    if not (isinstance(table, str) and table and isinstance(column, str) and column and isinstance(by, str)):
        raise InvalidInput(f"scannerdb_retention_rules: {item!r} needs the names of a table and of its date column.")
    return ExpiryRule(table, column, _number(item, "days", 1), _number(item, "keep", 0), by)


def _number(item: Mapping[str, Any], key: str, least: int) -> int:
    value = item.get(key, 0)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST_DAYS:
        raise InvalidInput(f"scannerdb_retention_rules: {key} of {item.get('table')} must be a number from {least} on.")
    return value


def group_of(rule: ExpiryRule, columns: Mapping[str, str]) -> str:
    """The column whose rows are counted together for `keep`; empty for the whole table."""
    return rule.by or (GROUP if GROUP in columns else "")


def unfit(rule: ExpiryRule, columns: Mapping[str, str], referenced_by: Sequence[str]) -> str:
    """Why a rule cannot be applied to a table with these columns (name and type); empty where it can."""
    missing = [name for name in ("id", rule.column, *filter(None, [rule.by])) if name not in columns]
    if not columns:
        return f"there is no table {rule.table}"
    if missing:
        return f"{rule.table} has no column {missing[0]}"
    if not columns["id"].startswith(("integer", "bigint", "smallint")):
        return f"{rule.table}.id is no number"
    if not columns[rule.column].startswith(("timestamp", "date", *TEXTS)):
        return f"{rule.table}.{rule.column} is no date, but {columns[rule.column]}"
    if referenced_by:
        return f"rows of {', '.join(referenced_by)} belong to those of {rule.table}, and would go or hinder it"
    return ""


def is_old(rule: ExpiryRule, kind: str) -> Composable:
    """The condition on a row `t` whose date is older than the rule allows."""
    column = Identifier(rule.column)
    if not kind.startswith(TEXTS):
        return SQL("t.{} < pg_catalog.now() - pg_catalog.make_interval(days => {})").format(column, Literal(rule.days))
    # Both are compared as days; what does not begin like one is left.
    return SQL(
        "(t.{0} ~ '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}' AND pg_catalog.left(t.{0}, 10) < pg_catalog.to_char("
        "pg_catalog.now() - pg_catalog.make_interval(days => {1}), 'YYYY-MM-DD'))"
    ).format(column, Literal(rule.days + 1))


def expired(schema: str, rule: ExpiryRule, columns: Mapping[str, str], among: Composable | None = None) -> Composable:
    """The query for the ids of rows that go; of those in `among` (an array of ids) only, where that is given.

    Whether a row is one of the newest is found out among all rows of its group.
    """
    table, old, by = relation(schema, rule.table), is_old(rule, columns[rule.column]), group_of(rule, columns)
    chosen = SQL(" AND t.id = ANY ({})").format(among) if among else SQL("")
    if not rule.keep:
        return SQL("SELECT t.id FROM {} t WHERE {}{}").format(table, old, chosen)
    part = SQL("PARTITION BY t.{} ").format(Identifier(by)) if by else SQL("")
    inside: Composable = SQL("")
    if among and by:
        inside = SQL(" WHERE t.{0} IS NULL OR t.{0} IN (SELECT g.{0} FROM {1} g WHERE g.id = ANY ({2}))").format(
            Identifier(by), table, among
        )
    return SQL(
        "SELECT t.id FROM (SELECT t.id, t.{0}, row_number() OVER ({1}ORDER BY t.{0} DESC NULLS LAST, t.id DESC)"
        " AS place FROM {2} t{3}) t WHERE {4} AND t.place > {5}{6}"
    ).format(Identifier(rule.column), part, table, inside, old, Literal(rule.keep), chosen)


def removal(schema: str, rule: ExpiryRule, columns: Mapping[str, str], among: Composable | None = None) -> Composable:
    """The statement that removes them."""
    return SQL("DELETE FROM {} d WHERE d.id IN ({})").format(
        relation(schema, rule.table), expired(schema, rule, columns, among)
    )
