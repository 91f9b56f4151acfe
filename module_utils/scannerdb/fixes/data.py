"""The data fixes: what is written, for which rows, on what evidence. Pure text; batches.py executes it.

Each fix drives over the `id`s of one table. `condition` picks rows `t`; `writes` are carried out for the picked ids, in
order, in one transaction. A write's `changes` are (column, expression over `t` as it is before the fix). Texts are
templates: `{schema}` and the fix's `names` are filled in as identifiers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..connection import SQL, Composable, Identifier, text_of
from ..finding import Fix
from .policy import FixPolicy

LINK = "EXISTS (SELECT FROM {schema}.verified_endpoints v WHERE v.endpoint_id = t.id)"
LINK_DATE = "(SELECT min(v.verification_date) FROM {schema}.verified_endpoints v WHERE v.endpoint_id = t.id)"
FLAGGED = "(t.is_honeypot IS TRUE OR t.is_active IS FALSE)"
VERIFIED_EVIDENCE = f"coalesce(t.verification_date, {LINK_DATE}, t.scan_date, now())"


@dataclass(frozen=True)
class Write:
    """One kind of write.

    `update`: set columns of the driving table; `triggering` names the changed columns that fire row triggers which
    stamp others, so those are written first and the stamped ones after, in a second UPDATE.
    `delete`: remove the rows of `table` whose `key` is a picked id. `insert`: add one row to `table` for each.
    """

    kind: str
    table: str
    key: str = "id"
    changes: tuple[tuple[str, str], ...] = ()
    triggering: frozenset[str] = frozenset()

    @property
    def needs_links(self) -> bool:
        """True where the write depends on the link rows staying what they are."""
        return bool(self.triggering) or self.table == "verified_endpoints"


@dataclass(frozen=True)
class DataFix:
    """A named fix of rows. `names` are more identifiers for the condition's placeholders."""

    id: str
    table: str
    condition: str
    writes: tuple[Write, ...]
    order: int
    names: Mapping[str, str] = field(default_factory=dict)


def unverify(fix_id: str, condition: str, order: int) -> DataFix:
    """verified = 0 and no link; the date of the last verification stays what it was."""
    return DataFix(
        fix_id,
        "endpoints",
        condition,
        (
            Write("delete", "verified_endpoints", "endpoint_id"),
            Write(
                "update",
                "endpoints",
                changes=(("verified", "0"), ("verification_date", "t.verification_date")),
                triggering=frozenset({"verified"}),
            ),
        ),
        order,
    )


HONEYPOT = unverify("data.verified.honeypot", "t.verified = 1 AND t.is_honeypot IS TRUE", 70)
INACTIVE = unverify(
    "data.verified.inactive", "t.verified = 1 AND t.is_active IS FALSE AND t.is_honeypot IS NOT TRUE", 71
)
LINK_OF_FAILED = DataFix(
    "data.verified.link_stale",
    "endpoints",
    f"{LINK} AND (t.verified = 2 OR coalesce(t.verified, 0) = 0 AND {FLAGGED})",
    (Write("delete", "verified_endpoints", "endpoint_id"),),
    72,
)
LINK_OF_UNVERIFIED = DataFix(
    "data.verified.link_stale",
    "endpoints",
    f"{LINK} AND coalesce(t.verified, 0) = 0 AND NOT {FLAGGED}",
    (
        Write(
            "update",
            "endpoints",
            changes=(("verified", "1"), ("verification_date", VERIFIED_EVIDENCE)),
            triggering=frozenset({"verified"}),
        ),
    ),
    73,
)
NO_LINK = DataFix(
    "data.verified.link_missing",
    "endpoints",
    f"t.verified = 1 AND t.is_honeypot IS NOT TRUE AND NOT {LINK}",
    (
        Write(
            "insert",
            "verified_endpoints",
            changes=(
                ("endpoint_id", "t.id"),
                ("verification_date", "coalesce(t.verification_date, t.scan_date, now())"),
            ),
        ),
    ),
    74,
)


def date_fix(column: str, condition: str, value: str, order: int) -> DataFix:
    """An empty date is filled."""
    write = Write("update", "endpoints", changes=((column, value),))
    return DataFix(f"data.endpoints.{column}_null", "endpoints", condition, (write,), order)


def data_fixes(policy: FixPolicy) -> tuple[DataFix, ...]:
    """The data fixes under a site's policy, in the order in which they are applied (honeypots first)."""
    verified, checked = VERIFIED_EVIDENCE, "coalesce(greatest(t.verification_date, t.scan_date), now())"
    if policy.dates == "now":
        verified = checked = "now()"
    return (
        HONEYPOT,
        INACTIVE,
        LINK_OF_FAILED,
        LINK_OF_UNVERIFIED,
        NO_LINK,
        date_fix("verification_date", "t.verified = 1 AND t.verification_date IS NULL", verified, 75),
        date_fix("last_check_date", "t.last_check_date IS NULL", checked, 76),
    )


def orphan_fix(
    table: str, column: str, parent: str, parent_column: str = "id", children: Iterable[tuple[str, str]] = ()
) -> DataFix:
    """Rows without a parent leave the table, and their own children (table, column) with them, into the journal."""
    writes = [Write("delete", child, child_column) for child, child_column in children]
    return DataFix(
        "data.orphan",
        table,
        "t.{column} IS NOT NULL AND NOT EXISTS (SELECT FROM {schema}.{parent} p WHERE p.{parent_column} = t.{column})",
        (*writes, Write("delete", table)),
        16,
        {"column": column, "parent": parent, "parent_column": parent_column},
    )


def composed(template: str, schema: str, fix: DataFix) -> Composable:
    """A condition or expression of a fix with its identifiers filled in."""
    names = {name: Identifier(value) for name, value in fix.names.items()}
    return SQL(template).format(schema=Identifier(schema), **names)  # type: ignore[arg-type,unused-ignore]


def statement_for_people(fix: DataFix, write: Write, schema: str) -> str:
    """One write as a single statement over all rows; a run does the same in small journalled batches."""
    where = composed(fix.condition, schema, fix)
    table = SQL("{}.{}").format(Identifier(schema), Identifier(write.table))
    driving = SQL("{}.{}").format(Identifier(schema), Identifier(fix.table))
    columns = SQL(", ").join(Identifier(column) for column, _ in write.changes)
    values = [composed(text, schema, fix) for _, text in write.changes]
    if write.kind == "update":
        pairs = zip(write.changes, values)
        sets = SQL(", ").join(SQL("{} = {}").format(Identifier(column), value) for (column, _), value in pairs)
        return text_of(SQL("UPDATE {} t SET {} WHERE {}").format(table, sets, where))
    if write.kind == "insert":
        listed = SQL(", ").join(values)
        query = SQL("INSERT INTO {} ({}) SELECT {} FROM {} t WHERE {}")
        return text_of(query.format(table, columns, listed, driving, where))
    query = SQL("DELETE FROM {} WHERE {} IN (SELECT t.id FROM {} t WHERE {})")
    return text_of(query.format(table, Identifier(write.key), driving, where))


def fix_text(fixes: Iterable[DataFix], schema: str, rows: int | None) -> Fix:
    """What a finding says about its data fix."""
    fixes = list(fixes)
    sql = tuple(statement_for_people(fix, write, schema) for fix in fixes for write in fix.writes)
    return Fix(fixes[0].id, sql, rows, "ROW EXCLUSIVE", order=fixes[0].order)
