"""A conversion of a table's columns to other types, as values and statements. Pure.

Beside each column grows another one of the wanted type: batches fill it, a trigger of ours keeps it current, and in one
short transaction it takes the column's place. The old column stays under another name, which is what an undo goes back
to: the same in the other direction, with the old words wherever they still mean what the column says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..connection import SQL, Composable, Identifier, Literal, text_of
from ..contract import ddl
from ..contract.conversion import TRIGGER, beside_name, function_name, kept_name, proof_name
from ..contract.retypable import BOOLEAN, TIMESTAMPTZ, convertible, is_text
from ..errors import InvalidInput
from ..finding import Reversal
from ..lockbudget import relation
from .readings import reading, restored

KIND = "retype"


@dataclass(frozen=True)
class Retyped:
    """One column: the type it has before a conversion and after it, and the default that it gets."""

    name: str
    have: str
    want: str
    default: Composable | None = None


@dataclass(frozen=True)
class Retyping:
    """A table's columns, and the direction; `zone` is the time zone of what names none."""

    schema: str
    table: str
    columns: tuple[Retyped, ...]
    zone: str
    back: bool = False

    @property
    def names(self) -> dict[str, str]:
        """The column that takes each one's place."""
        return {c.name: kept_name(c.name) if self.back else beside_name(c.name) for c in self.columns}

    def value(self, column: Retyped, row: str) -> Composable:
        """What belongs into the column beside, of the row of that alias."""
        source, beside = (_of(row, name) for name in (column.name, self.names[column.name]))
        if self.back:
            return restored(column.have, beside, source, self.zone)
        return reading(column.have, source, self.zone)

    def reversal(self) -> Reversal:
        """How it is taken back, for the journal."""
        columns = [{"name": c.name, "have": c.have, "want": c.want} for c in self.columns]
        return Reversal(KIND, {"schema": self.schema, "table": self.table, "columns": columns, "zone": self.zone})


def backwards(reversal: Reversal) -> Retyping:
    """The conversion that takes another one back; raises `InvalidInput` for words that are not ours."""
    try:
        words = reversal.arguments
        columns = tuple(Retyped(str(c["name"]), str(c["have"]), str(c["want"])) for c in words["columns"])
        texts = [words[name] for name in ("schema", "table", "zone")]
        if not columns or not all(isinstance(text, str) for text in texts):
            raise ValueError("a word is missing")
        if not all(convertible(c.have, c.want) for c in columns):
            raise ValueError("a type is another one")
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"The journal's way back of a conversion is not one that this release makes: {error}."
        ) from (error)
    return Retyping(texts[0], texts[1], columns, texts[2], back=True)


def _of(row: str, column: str) -> Composable:
    return SQL("{}.{}").format(SQL(row), Identifier(column))  # type: ignore[arg-type,unused-ignore]


def unreadable(one: Retyping, row: str = "t") -> Composable:
    """The condition on a row in which a value is there, and its reading is not (in the columns beside)."""
    return SQL(" OR ").join(
        SQL("({} IS NOT NULL AND {} IS NULL)").format(_of(row, c.name), _of(row, one.names[c.name]))
        for c in one.columns
    )


def begun(one: Retyping, have: Mapping[str, str]) -> list[Composable]:
    """The columns beside; `have` are those of the table, with their types. One of another type is debris, and goes.

    An undo has its columns: the kept ones.
    """
    made: list[Composable] = []
    for column in () if one.back else one.columns:
        name, kind = one.names[column.name], column.want
        if name in have and have[name] != kind:
            made.append(_alter(one, SQL("DROP COLUMN {}").format(Identifier(name))))
        if have.get(name) != kind:
            made.append(_alter(one, SQL("ADD COLUMN {} {}").format(Identifier(name), _type(kind))))
    return made


def trigger(one: Retyping) -> list[Composable]:
    """Our trigger and its function, with the rights of whoever writes, and without an error for anybody."""
    name = relation(one.schema, function_name(one.table))
    return [
        SQL(
            "CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER"
            " SET search_path = pg_catalog, pg_temp AS {}"
        ).format(name, Literal(body(one))),
        SQL("CREATE TRIGGER {} BEFORE INSERT OR UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION {}()").format(
            Identifier(TRIGGER), relation(one.schema, one.table), name
        ),
        _alter(one, SQL("ENABLE ALWAYS TRIGGER {}").format(Identifier(TRIGGER))),
    ]


def body(one: Retyping) -> str:
    """The body of the function."""
    return "\nBEGIN\n" + "".join(_kept_current(one, column) for column in one.columns) + "    RETURN NEW;\nEND;\n"


def _kept_current(one: Retyping, column: Retyped) -> str:
    new, old = (text_of(_of(row, column.name)) for row in ("NEW", "OLD"))
    beside = text_of(_of("NEW", one.names[column.name]))
    return (
        f"    IF TG_OP = 'INSERT' OR {beside} IS NULL OR {new} IS DISTINCT FROM {old} THEN\n"
        f"        BEGIN\n            {beside} := {text_of(one.value(column, 'NEW'))};\n"
        f"        EXCEPTION WHEN OTHERS THEN\n            {beside} := NULL;\n        END;\n    END IF;\n"
    )


def ended(one: Retyping, columns: Mapping[str, Mapping[str, Any]], keep: bool, finished: bool) -> list[Composable]:
    """The columns beside take their places. `columns` are the old ones' properties; `keep` says whether those stay.

    `finished`: every row is converted, so that NOT NULL can be asked for.
    """
    made: list[Composable] = []
    for column in one.columns:
        name, seen = Identifier(column.name), columns[column.name]
        kept = Identifier(kept_name(column.name))
        if keep and not one.back:
            made.append(_alter(one, SQL("RENAME COLUMN {} TO {}").format(name, kept)))
            made += [_alter(one, SQL("ALTER COLUMN {} DROP NOT NULL").format(kept))] if seen["not_null"] else []
        else:
            made.append(_alter(one, SQL("DROP COLUMN {}").format(name)))
        made.append(_alter(one, SQL("RENAME COLUMN {} TO {}").format(Identifier(one.names[column.name]), name)))
        made += _properties(one, column, seen, finished)
    return made


def _properties(one: Retyping, column: Retyped, seen: Mapping[str, Any], finished: bool) -> list[Composable]:
    """What the old column had besides its values. (An undo's column has its own default still.)"""
    name, made = Identifier(column.name), []
    if column.default is not None and not one.back:
        made.append(_alter(one, SQL("ALTER COLUMN {} SET DEFAULT {}").format(name, column.default)))
    if seen["target"] >= 0:
        made.append(_alter(one, SQL("ALTER COLUMN {} SET STATISTICS {}").format(name, Literal(seen["target"]))))
    if seen["comment"] is not None:
        place = SQL("{}.{}").format(relation(one.schema, one.table), name)
        made.append(SQL("COMMENT ON COLUMN {} IS {}").format(place, Literal(seen["comment"])))
    if seen["not_null"] and finished:
        check = Identifier(ddl.short_name("scannerdb", one.table, column.name, "not_null"))
        made.append(_alter(one, SQL("ADD CONSTRAINT {} CHECK ({} IS NOT NULL) NOT VALID").format(check, name)))
    return made


def proof(one: Retyping) -> Composable:
    """The index over rows that cannot be read, which is empty."""
    condition = SQL(" OR ").join(
        SQL("({} IS NOT NULL AND {} IS NULL)").format(Identifier(c.name), Identifier(one.names[c.name]))
        for c in one.columns
    )
    return SQL("CREATE INDEX CONCURRENTLY {} ON {} ({}) WHERE {}").format(
        Identifier(proof_name(one.table)),
        relation(one.schema, one.table),
        Identifier(one.names[one.columns[0].name]),
        condition,
    )


def for_people(one: Retyping, column: Retyped) -> str:
    """One column's conversion as the statement that does it all at once, as a plan shows it."""
    action = SQL("ALTER COLUMN {0} TYPE {1} USING {2}").format(
        Identifier(column.name), _type(column.want), _plainly(one, column)
    )
    return text_of(_alter(one, action))


def _plainly(one: Retyping, column: Retyped) -> Composable:
    if column.want == BOOLEAN:
        return SQL("{} <> 0").format(Identifier(column.name))
    if is_text(column.have):
        return SQL("{}::timestamp with time zone").format(Identifier(column.name))
    return SQL("{} AT TIME ZONE {}").format(Identifier(column.name), Literal(one.zone))


def _alter(one: Retyping, action: Composable) -> Composable:
    return SQL("ALTER TABLE {} {}").format(relation(one.schema, one.table), action)


def _type(kind: str) -> Composable:
    if not (kind in (TIMESTAMPTZ, BOOLEAN) or convertible(kind, TIMESTAMPTZ) or convertible(kind, BOOLEAN)):
        raise ValueError(f"not a type of a conversion: {kind!r}")
    return SQL(kind)  # type: ignore[arg-type,unused-ignore]
