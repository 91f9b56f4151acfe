"""How a value of one type is read as another: by expressions that never fail, as NULL where it cannot be read. Pure.

They run in the trigger of a conversion, in a writer's own session: no setting of that session may change what they
mean, and nothing may make them raise. Every function is named with its schema, every operand has its operator's type.
UTC is an interval of nothing: since PostgreSQL 18 the word is whatever the session's own TimeZone calls so.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..connection import SQL, Composable, Literal
from ..contract.retypable import INTEGERS, TIMESTAMP, length_of

_ZONE = " ?(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
# ISO 8601: calendar, week and ordinal dates, extended and basic; what is left out of a time is zero. (Captures would
# take twenty times as long: what matches is cut by position.)
_FORMS = (
    "^(?:[0-9]{4}-(?:[0-9]{2}-[0-9]{2}|W[0-9]{2}-[1-7]|[0-9]{3})"
    "(?:[Tt ][0-9]{2}(?::[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?)?" + _ZONE + "|"
    "[0-9]{4}(?:[0-9]{2}[0-9]{2}|W[0-9]{2}[1-7]|[0-9]{3})"
    "(?:[Tt][0-9]{2}(?:[0-9]{2}(?:[0-9]{2}(?:[.,][0-9]+)?)?)?" + _ZONE + ")$"
)
# Each step reads what the one before has made. OFFSET 0 keeps the planner from merging them, which would compute each
# word as often as it is named.
_STEPS = (
    'pg_catalog.btrim({value}::pg_catalog.text COLLATE pg_catalog."C") AS word',
    "CASE WHEN q.word ~ {forms}::pg_catalog.text THEN q.word END AS v",
    # the hyphens of the extended form, and whether it is a calendar (c), week (w) or ordinal (o) date
    "q.v, CASE pg_catalog.substr(q.v, 5, 1) WHEN '-' THEN 1 ELSE 0 END AS gap",
    """
    q.v, q.gap,
    CASE WHEN pg_catalog.substr(q.v, 5 + q.gap, 1) = 'W'::pg_catalog.text THEN 'w'::pg_catalog.text
         WHEN q.gap = 1 AND pg_catalog.substr(q.v, 8, 1) = '-'::pg_catalog.text
           OR q.gap = 0 AND pg_catalog.substr(q.v, 8, 1) ~ '[0-9]'::pg_catalog.text THEN 'c'::pg_catalog.text
         ELSE 'o'::pg_catalog.text END AS kind
    """,
    """
    q.v, q.gap, q.kind,
    pg_catalog.substr(q.v, CASE q.kind WHEN 'o' THEN 9 + q.gap ELSE 10 + 2 * q.gap END) AS rest
    """,
    """
    q.v, q.gap, q.kind, q.rest,
    pg_catalog.strpos(pg_catalog.translate(q.rest, 'Zz+-', '####') || '#'::pg_catalog.text, '#') AS cut
    """,
    """
    q.v, q.gap, q.kind,
    pg_catalog.replace(pg_catalog.btrim(pg_catalog.substr(q.rest, 1, q.cut - 1)), ':', '') AS clock,
    pg_catalog.replace(pg_catalog.substr(q.rest, q.cut), ':', '') AS zone
    """,
    """
    pg_catalog.substr(q.v, 1, 4)::pg_catalog.int4 AS y,
    CASE q.kind WHEN 'c' THEN pg_catalog.substr(q.v, 5 + q.gap, 2)::pg_catalog.int4 END AS mo,
    CASE q.kind WHEN 'c' THEN pg_catalog.substr(q.v, 7 + 2 * q.gap, 2)::pg_catalog.int4 END AS dd,
    CASE q.kind WHEN 'w' THEN pg_catalog.substr(q.v, 6 + q.gap, 2)::pg_catalog.int4 END AS wk,
    CASE q.kind WHEN 'w' THEN pg_catalog.substr(q.v, 8 + 2 * q.gap, 1)::pg_catalog.int4 END AS wd,
    CASE q.kind WHEN 'o' THEN pg_catalog.substr(q.v, 5 + q.gap, 3)::pg_catalog.int4 END AS doy,
    pg_catalog.rpad(pg_catalog.substr(q.clock, 1, 6), 6, '0') AS hms,
    ('0.0'::pg_catalog.text || pg_catalog.substr(q.clock, 8, 30))::pg_catalog.numeric
        * 10::pg_catalog.numeric AS part,
    q.zone <> ''::pg_catalog.text AS zoned,
    CASE pg_catalog.substr(q.zone, 1, 1) WHEN '-' THEN -1 ELSE 1 END AS sign,
    pg_catalog.rpad(q.zone, 5, '0') AS zone
    """,
    """
    q.y, q.mo, q.dd, q.wk, q.wd, q.doy, q.zoned, q.sign,
    CASE WHEN q.y % 400 = 0 OR q.y % 4 = 0 AND q.y % 100 <> 0 THEN 1 ELSE 0 END AS leap,
    pg_catalog.substr(q.hms, 1, 2)::pg_catalog.int4 AS h, pg_catalog.substr(q.hms, 3, 2)::pg_catalog.int4 AS mi,
    pg_catalog.substr(q.hms, 5, 2)::pg_catalog.int4 AS s,
    pg_catalog.round(q.part, 6)::pg_catalog.float8 AS part,
    pg_catalog.substr(q.zone, 2, 2)::pg_catalog.int4 AS zh, pg_catalog.substr(q.zone, 4, 2)::pg_catalog.int4 AS zm
    """,
    """
    q.h, q.mi, q.s, q.part, q.zoned, q.sign, q.zh, q.zm,
    CASE WHEN q.y < 1 THEN NULL
         WHEN q.mo BETWEEN 1 AND 12 THEN
             CASE WHEN q.dd BETWEEN 1 AND CASE WHEN q.mo = 2 THEN 28 + q.leap WHEN q.mo IN (4, 6, 9, 11) THEN 30
                                               ELSE 31 END
                  THEN pg_catalog.make_date(q.y, q.mo, q.dd) END
         WHEN q.doy BETWEEN 1 AND 365 + q.leap THEN pg_catalog.make_date(q.y, 1, 1) + (q.doy - 1)
         WHEN q.wk BETWEEN 1 AND pg_catalog.date_part(
                  'week', pg_catalog.make_date(q.y, 12, 28)::pg_catalog.timestamp)::pg_catalog.int4 THEN
             pg_catalog.make_date(q.y, 1, 4) + ((q.wk - 1) * 7 + q.wd - pg_catalog.date_part(
                 'isodow', pg_catalog.make_date(q.y, 1, 4)::pg_catalog.timestamp)::pg_catalog.int4)
    END AS day
    """,
    """
    q.day::pg_catalog.timestamp + pg_catalog.make_interval(hours => q.h, mins => q.mi,
                                                           secs => q.s::pg_catalog.float8 + q.part) AS at,
    q.zoned, pg_catalog.make_interval(hours => q.sign * q.zh, mins => q.sign * q.zm) AS ahead,
    q.mi < 60 AND q.s <= 60 AND q.zh < 16 AND q.zm < 60
        AND (q.h < 24 OR q.h = 24 AND q.mi = 0 AND q.s = 0 AND q.part = 0::pg_catalog.float8) AS right
    """,
    """
    CASE WHEN NOT q.right THEN NULL WHEN q.zoned THEN pg_catalog.timezone(pg_catalog.make_interval(), q.at) - q.ahead
         ELSE pg_catalog.timezone({zone}::pg_catalog.text, q.at) END
    """,
)


def _nested(steps: Sequence[str]) -> str:
    inner = ""
    for step in steps:
        source = f" FROM {inner} q" if inner else ""
        inner = f"(SELECT {step.strip()}{source} OFFSET 0)"
    return inner


_DATE = _nested(_STEPS)
_INSTANT = (
    "CASE WHEN NOT pg_catalog.isfinite({value}) OR {value} BETWEEN '4713-01-03 BC'::pg_catalog.timestamp"
    " AND '294276-12-29'::pg_catalog.timestamp THEN pg_catalog.timezone({zone}::pg_catalog.text, {value}) END"
)
_TRUTH = "CASE {value}::pg_catalog.int8 WHEN 0::pg_catalog.int8 THEN false WHEN 1::pg_catalog.int8 THEN true END"
_LONG, _SHORT = 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'


def reading(have: str, value: Composable, zone: str) -> Composable:
    """`value`, of the type `have`, as the contract's type; NULL where it cannot be read."""
    if have in INTEGERS:
        return SQL(_TRUTH).format(value=value)
    if have == TIMESTAMP:
        return SQL(_INSTANT).format(value=value, zone=Literal(zone))
    return SQL(_DATE).format(value=value, zone=Literal(zone), forms=Literal(_FORMS))


def writing(have: str, value: Composable, zone: str) -> Composable:
    """`value`, of the contract's type, as the type `have` that the column had."""
    if have in INTEGERS:
        return SQL("{}::pg_catalog.int4").format(value)
    if have == TIMESTAMP:
        return SQL("pg_catalog.timezone({}::pg_catalog.text, {})").format(Literal(zone), value)
    length = length_of(have)
    words = _SHORT if length is not None and length < len("YYYY-MM-DDTHH:MM:SS.UUUUUU+00:00") else _LONG
    return SQL(
        "CASE WHEN pg_catalog.isfinite({0})"
        " THEN pg_catalog.to_char(pg_catalog.timezone(pg_catalog.make_interval(), {0}), {1})"
        " ELSE {0}::pg_catalog.text END"
    ).format(value, Literal(words))


def restored(have: str, kept: Composable, value: Composable, zone: str) -> Composable:
    """What the old column holds for `value`: its own word where that means the same, else `value` written anew."""
    return SQL("CASE WHEN {} IS NOT DISTINCT FROM {} THEN {} ELSE {} END").format(
        reading(have, kept, zone), value, kept, writing(have, value, zone)
    )
