"""Owners and privileges of a database's objects, read from one database and given to the same objects of another.

For dumps that name none (pg_dump -O -x): what they bring would belong to whoever restores, and nobody else could read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Optional

from ..connection import SQL, Composable, Connection, Identifier, explained, fetch

Key = tuple[str, str, str, str]  # kind, schema, name, and a routine's arguments or a column
Granted = tuple[str, str, bool]  # grantee ('' for PUBLIC), privilege, grantable

# Extensions own what they make, and its privileges come with them.
_READ = """
WITH objects (rank, kind, classid, oid, nsp, name, part, shown, owner, acl) AS (
    SELECT 1, 'SCHEMA', 'pg_namespace'::regclass, oid, oid, ''::name, '', quote_ident(nspname), nspowner, nspacl
      FROM pg_namespace
    UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 3 ELSE 2 END, CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
           'pg_class'::regclass, oid, relnamespace, relname, '', quote_ident(relname), relowner, relacl
      FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL
    SELECT 4, 'COLUMN', 'pg_class'::regclass, c.oid, c.relnamespace, c.relname, quote_ident(a.attname),
           quote_ident(c.relname), NULL, a.attacl
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
     WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL
    SELECT 5, 'ROUTINE', 'pg_proc'::regclass, oid, pronamespace, proname, pg_get_function_identity_arguments(oid),
           format('%I(%s)', proname, pg_get_function_identity_arguments(oid)), proowner, proacl
      FROM pg_proc
    UNION ALL
    SELECT 6, 'TYPE', 'pg_type'::regclass, t.oid, t.typnamespace, t.typname, '', quote_ident(t.typname), t.typowner,
           t.typacl
      FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid WHERE t.typtype IN ('d', 'e', 'r') OR c.relkind = 'c')
SELECT o.kind, n.nspname::text AS schema, o.name::text AS name, o.part,
       CASE o.kind WHEN 'SCHEMA' THEN o.shown ELSE format('%I.%s', n.nspname, o.shown) END AS label,
       coalesce(pg_get_userbyid(o.owner)::text, '') AS owner,
       CASE WHEN o.acl IS NULL THEN NULL ELSE
            (SELECT coalesce(json_agg(json_build_array(
                        CASE x.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(x.grantee) END,
                        x.privilege_type, x.is_grantable)), '[]')
               FROM aclexplode(o.acl) x) END AS grants
  FROM objects o JOIN pg_namespace n ON n.oid = o.nsp
 WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.classid = o.classid AND d.objid = o.oid)
 ORDER BY o.rank, 2, 3, 4
"""


# What owners give on objects that they are going to make; only of roles that this one may act for.
_DEFAULTS = """
SELECT pg_get_userbyid(d.defaclrole)::text AS role, coalesce(n.nspname, '')::text AS schema,
       d.defaclobjtype::text AS kind,
       (SELECT coalesce(json_agg(json_build_array(
                   CASE x.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(x.grantee) END,
                   x.privilege_type, x.is_grantable)), '[]')
          FROM aclexplode(d.defaclacl) x) AS grants
  FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
 WHERE pg_has_role(d.defaclrole, 'USAGE') AND d.defaclobjtype IN ('r', 'S', 'f', 'T', 'n') ORDER BY 1, 2, 3
"""
_DEFAULT_KINDS = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS"}
_PUBLICS = ("f", "T")  # everybody may use new functions and types, unless that is taken away


@dataclass(frozen=True)
class Default:
    """What a role gives on objects of a kind that it makes; `schema` is empty for all of them."""

    role: str
    schema: str
    kind: str
    grants: tuple[Granted, ...]


@dataclass(frozen=True)
class HeldRights:
    """An object, who owns it, and what is granted on it; `grants` is None for the default of its kind."""

    label: str  # quoted by the server
    owner: str
    grants: Optional[tuple[Granted, ...]]


def read_held(conn: Connection) -> dict[Key, HeldRights]:
    """What the objects of a database are called, who owns them and what is granted; owners' tables before the rest."""
    with explained("Reading owners and privileges"):
        rows = fetch(conn, _READ)
    return {
        (row["kind"], row["schema"], row["name"], row["part"]): HeldRights(
            row["label"],
            row["owner"],
            None if row["grants"] is None else tuple((who, what, bool(on)) for who, what, on in row["grants"]),
        )
        for row in rows
    }


def read_defaults(conn: Connection) -> tuple[Default, ...]:
    """The default privileges of a database."""
    with explained("Reading the default privileges"):
        rows = fetch(conn, _DEFAULTS)
    return tuple(
        Default(row["role"], row["schema"], row["kind"], tuple((a, b, bool(c)) for a, b, c in row["grants"]))
        for row in rows
    )


def giving_defaults(defaults: Iterable[Default], schemas: Collection[str]) -> list[Composable]:
    """The statements that make default privileges, where their schema is there. Pure."""
    made: list[Composable] = []
    for one in defaults:
        if one.schema and one.schema not in schemas:
            continue
        inside = SQL("IN SCHEMA {} ").format(Identifier(one.schema)) if one.schema else SQL("")
        head = SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} {}").format(Identifier(one.role), inside)
        kind = _word(_DEFAULT_KINDS[one.kind])
        if not one.schema and one.kind in _PUBLICS and all(who for who, _, _ in one.grants):
            made.append(SQL("{}REVOKE ALL ON {} FROM PUBLIC").format(head, kind))
        for who, privilege, grantable in one.grants:
            if who != one.role:
                grantee = Identifier(who) if who else SQL("PUBLIC")
                option = SQL(" WITH GRANT OPTION" if grantable else "")
                made.append(SQL("{}GRANT {} ON {} TO {}{}").format(head, _word(privilege), kind, grantee, option))
    return made


def giving(
    there: Mapping[Key, HeldRights], wanted: Mapping[Key, HeldRights], *, owners: bool, rights: bool
) -> list[Composable]:
    """The statements that give objects the owners and privileges that they have in another database. Pure."""
    both = [(key, held, wanted[key]) for key, held in there.items() if key in wanted and key[0] != "COLUMN"]
    made: list[Composable] = []
    for (kind, *_), held, other in both if owners else ():
        if other.owner != held.owner:
            made.append(SQL("ALTER {} {} OWNER TO {}").format(_word(kind), _word(held.label), Identifier(other.owner)))
    for (kind, *_), held, other in both if rights else ():
        if other.grants is not None:
            made += _anew(kind, held.label, other.grants, other.owner if owners else held.owner)
    labels = {key[:3]: held.label for key, held in there.items() if key[0] == "TABLE"}
    for (kind, schema, name, part), other in wanted.items() if rights else ():
        label = labels.get(("TABLE", schema, name))
        if kind == "COLUMN" and label:
            made += _granted("TABLE", label, other.grants or (), f" ({part})")
    return made


def _word(text: str) -> Composable:
    """A keyword, or a name that the server has quoted."""
    return SQL(text)  # type: ignore[arg-type,unused-ignore]


def _anew(kind: str, label: str, grants: Iterable[Granted], owner: str) -> list[Composable]:
    """What makes the privileges on an object those that are wanted, and no others."""
    place = SQL("{} {}").format(_word(kind), _word(label))
    none = [SQL("REVOKE ALL ON {} FROM {}").format(place, who) for who in (SQL("PUBLIC"), Identifier(owner))]
    return [*none, *_granted(kind, label, grants, owner=owner)]


def _granted(
    kind: str, label: str, grants: Iterable[Granted], columns: str = "", owner: str = ""
) -> Iterator[Composable]:
    for who, privilege, grantable in grants:
        yield SQL("GRANT {}{} ON {} {} TO {}{}").format(
            _word(privilege),
            _word(columns),
            _word(kind),
            _word(label),
            Identifier(who) if who else SQL("PUBLIC"),
            SQL(" WITH GRANT OPTION" if grantable and who != owner else ""),
        )
