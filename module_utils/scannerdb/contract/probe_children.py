"""The write probe's deletes of endpoints that rows of other tables reference, one for each foreign key: how a row is
made in a table of which only the catalog is known. Pure but for the reading of the catalog."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from ..connection import SQL, Composable, Connection, Identifier, Literal, Row, fetch
from .ddl import qualified
from .introspect import RULES
from .model import Contract
from .pointing import REFUSING, deleted_with

# Foreign keys that reference what goes with an endpoint; of their tables, the columns that an INSERT has to fill.
_KEYS = """
SELECT x.conname::text AS name, n.nspname::text AS schema, c.relname::text AS table, c.oid AS relation,
       r.relname::text AS parent, x.confdeltype::text AS rule,
       ARRAY(SELECT a.attname::text FROM unnest(x.conkey) WITH ORDINALITY u(num, pos)
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.num ORDER BY u.pos) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(x.confkey) WITH ORDINALITY u(num, pos)
               JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = u.num ORDER BY u.pos) AS referenced,
       coalesce((SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'kind', b.typcategory, 'type', b.typname,
                                  'length', greatest(a.atttypmod, t.typtypmod) - 4, 'label',
                                  (SELECT min(e.enumlabel) FROM pg_enum e WHERE e.enumtypid = b.oid), 'endpoint',
                                  EXISTS (SELECT FROM pg_constraint k JOIN pg_class f ON f.oid = k.confrelid
                                           WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.conkey = ARRAY[a.attnum]
                                             AND f.relnamespace = rn.oid AND f.relname = 'endpoints')))
                   FROM pg_attribute a
                   JOIN pg_type t ON t.oid = a.atttypid
                   JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attnotnull AND NOT a.atthasdef
                    AND a.attidentity = '' AND NOT a.attnum = ANY (x.conkey)), '[]') AS required
  FROM pg_constraint x
  JOIN pg_class c ON c.oid = x.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class r ON r.oid = x.confrelid
  JOIN pg_namespace rn ON rn.oid = r.relnamespace
 WHERE x.contype = 'f' AND x.conparentid = 0 AND c.relkind IN ('r', 'p')
   AND rn.nspname = %(schema)s AND r.relname = ANY (%(tables)s)
   AND NOT (n.nspname = rn.nspname AND c.relname = 'verified_endpoints') -- whose rows the trigger makes
 ORDER BY n.nspname, c.relname, x.conname
"""


@dataclass(frozen=True)
class ProbeChild:
    """A foreign key whose rows the probe makes; `required` are the other columns that want a value."""

    name: str
    schema: str
    table: str
    relation: int
    parent: str
    on_delete: str
    columns: tuple[str, ...]
    referenced: tuple[str, ...]
    required: tuple[Row, ...] = ()

    @property
    def refuses(self) -> bool:
        """True where the key lets no row go that it references: a finding of its own, and no fault of the triggers."""
        return self.on_delete in REFUSING

    @property
    def text(self) -> str:
        """The name of the probe's step."""
        return f"delete with rows in {self.table}({', '.join(self.columns)})"


def children(conn: Connection, contract: Contract) -> tuple[ProbeChild, ...]:
    """The foreign keys that a delete of an endpoint meets."""
    rows = fetch(conn, _KEYS, {"schema": contract.schema, "tables": sorted(deleted_with("endpoints", contract))})
    return tuple(
        ProbeChild(
            r["name"],
            r["schema"],
            r["table"],
            r["relation"],
            r["parent"],
            RULES[r["rule"]],
            tuple(r["columns"]),
            tuple(r["referenced"]),
            tuple(r["required"]),
        )
        for r in rows
    )


def insert_child(child: ProbeChild, schema: str, parent: int, endpoint: int) -> Composable:
    """The INSERT of a row that references the row `parent` of an endpoint. Raises `LookupError` where a column wants a
    value that cannot be made up."""
    values: Sequence[Composable] = [
        *(Identifier("p", column) for column in child.referenced),
        *(Literal(endpoint) if column["endpoint"] else _made_up(column) for column in child.required),
    ]
    names = [*child.columns, *(str(column["name"]) for column in child.required)]
    return SQL("INSERT INTO {} ({}) SELECT {} FROM {} p WHERE p.id = {}").format(
        qualified(child.schema, child.table),
        SQL(", ").join(map(Identifier, names)),
        SQL(", ").join(values),
        qualified(schema, child.parent),
        Literal(parent),
    )


def _made_up(column: Row) -> Composable:
    """A value for a column, by its type's category; one that hardly any row has."""
    kind, type_name, length = column["kind"], column["type"], int(column["length"])
    number = str(1_000_000_000 + secrets.randbelow(1_000_000_000)) if type_name in ("int4", "int8") else "1"
    text = secrets.token_hex(8)
    made = {"N": number, "D": "now", "B": "false", "T": "0", "A": "{}", "E": column["label"]}
    named = {"uuid": str(uuid.uuid4()), "json": "{}", "jsonb": "{}", "bytea": ""}
    value = (text[:length] if length > 0 else text) if kind == "S" else named.get(type_name, made.get(kind))
    if value is None:
        raise LookupError(f"column {column['name']} of type {type_name} wants a value")
    return Literal(value)
