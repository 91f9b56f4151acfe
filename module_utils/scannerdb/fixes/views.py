"""Views that are made anew over a column of another type, with all that hung on them.

A view's definition is PostgreSQL's own text of it, read and run in one transaction, as the view's owner, in a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..connection import SQL, Composable, Connection, Identifier, Literal, fetch
from ..errors import FixLeft
from ..lockbudget import relation

PRIVILEGES = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"})
OPTIONS = frozenset({"security_barrier", "security_invoker", "check_option"})
_VIEWS = """
WITH RECURSIVE found (oid, depth) AS (
    SELECT w.ev_class, 1 FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid
      JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
     WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(table)s
       AND a.attname = ANY (%(columns)s)
    UNION
    SELECT w.ev_class, f.depth + 1 FROM found f
      JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = f.oid
      JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid AND d.classid = 'pg_rewrite'::regclass AND w.ev_class <> f.oid)
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, pg_get_userbyid(c.relowner)::text AS owner,
       c.relkind::text AS kind, pg_get_viewdef(c.oid) AS definition, c.reloptions,
       obj_description(c.oid, 'pg_class') AS comment, c.relacl IS NOT NULL AS has_acl,
       (SELECT count(*) FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.rulename <> '_RETURN') AS rules,
       (SELECT jsonb_agg(jsonb_build_array(NULL, coalesce(r.rolname, ''), x.privilege_type, x.is_grantable))
          FROM aclexplode(c.relacl) x LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee) AS acl,
       (SELECT jsonb_agg(jsonb_build_array(a.attname, coalesce(r.rolname, ''), x.privilege_type, x.is_grantable))
          FROM pg_catalog.pg_attribute a, aclexplode(a.attacl) x LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee
         WHERE a.attrelid = c.oid AND NOT a.attisdropped) AS column_acl,
       (SELECT jsonb_agg(jsonb_build_array(a.attname, col_description(c.oid, a.attnum)))
          FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
           AND col_description(c.oid, a.attnum) IS NOT NULL) AS comments,
       (SELECT jsonb_agg(jsonb_build_array(a.attname, pg_get_expr(d.adbin, d.adrelid)))
          FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
         WHERE d.adrelid = c.oid) AS defaults,
       (SELECT jsonb_agg(pg_get_triggerdef(t.oid) ORDER BY t.tgname)
          FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) AS triggers,
       array(SELECT DISTINCT coalesce(r.rolname, '')::text FROM pg_catalog.pg_default_acl d
               CROSS JOIN LATERAL aclexplode(d.defaclacl) x LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee
              WHERE d.defaclobjtype = 'r' AND d.defaclrole = c.relowner AND d.defaclnamespace IN (0, n.oid)) AS given,
       max(f.depth) AS depth
  FROM found f JOIN pg_catalog.pg_class c ON c.oid = f.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 GROUP BY c.oid, n.oid ORDER BY max(f.depth)
"""


@dataclass(frozen=True)
class Statement:
    """A statement, and the role as whom it runs."""

    owner: str
    text: Composable


def views_over(conn: Connection, table: int, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The views over these columns, and those over them, the nearest first."""
    found = fetch(conn, _VIEWS, {"table": table, "columns": list(columns)})
    for one in found:
        if one["kind"] != "v" or one["rules"]:
            raise FixLeft(
                f"{one['schema']}.{one['name']} reads the column, and is no plain view, so it cannot be made anew.",
                "Drop it, and make it again afterwards.",
            )
    return found


def held(views: Iterable[dict[str, Any]]) -> list[Statement]:
    """Statements that take the strong lock on each view alone, the outermost first, as queries do, and change nothing.
    (LOCK TABLE would reach through to every table of the view.)"""
    made = []
    for view in views:
        same = Identifier(view["owner"])
        lock = SQL("ALTER VIEW {} OWNER TO {}").format(relation(view["schema"], view["name"]), same)
        made.append(Statement(view["owner"], lock))
    return made[::-1]


def dropped(views: Iterable[dict[str, Any]]) -> list[Statement]:
    """The statements that drop them, the outermost first: in that order queries lock them, too."""
    made = [Statement(v["owner"], SQL("DROP VIEW {}").format(relation(v["schema"], v["name"]))) for v in views]
    return made[::-1]


def made_anew(views: Iterable[dict[str, Any]]) -> list[Statement]:
    """The statements that bring them back."""
    return [Statement(view["owner"], text) for view in views for text in _whole(view)]


def _whole(view: dict[str, Any]) -> Iterable[Composable]:
    name = relation(view["schema"], view["name"])
    options = [word.split("=", 1) for word in view["reloptions"] or ()]
    words = SQL(", ").join(SQL("{} = {}").format(Identifier(k), Literal(v)) for k, v in options if k in OPTIONS)
    yield SQL("CREATE VIEW {}{} AS {}").format(
        name, SQL(" WITH ({})").format(words) if options else SQL(""), _text(view["definition"])
    )
    for column, expression in view["defaults"] or ():
        yield SQL("ALTER VIEW {} ALTER COLUMN {} SET DEFAULT {}").format(name, Identifier(column), _text(expression))
    if view["comment"]:
        yield SQL("COMMENT ON VIEW {} IS {}").format(name, Literal(view["comment"]))
    for column, comment in view["comments"] or ():
        yield SQL("COMMENT ON COLUMN {}.{} IS {}").format(name, Identifier(column), Literal(comment))
    for definition in view["triggers"] or ():  # (those of a view are never disabled)
        yield _text(definition)
    yield from _rights(view, name)


def _rights(view: dict[str, Any], name: Composable) -> Iterable[Composable]:
    """The privileges that there were, and no others: default privileges may have given some to the new view."""
    strangers = sorted({*view["given"]} | ({view["owner"]} if view["has_acl"] else set()))
    for role in strangers:
        yield SQL("REVOKE ALL ON {} FROM {}").format(name, _role(role))
    if strangers and not view["has_acl"]:
        yield SQL("GRANT ALL ON {} TO {}").format(name, Identifier(view["owner"]))
    yield from granted(name, [*(view["acl"] or ()), *(view["column_acl"] or ())])


def granted(name: Composable, acl: Iterable[Sequence[Any]]) -> Iterable[Composable]:
    """GRANT for each (column or None, role, privilege, whether it may be passed on)."""
    for column, role, privilege, grantable in acl:
        if privilege in PRIVILEGES:
            yield SQL("GRANT {}{} ON {} TO {}{}").format(
                SQL(privilege),  # type: ignore[arg-type,unused-ignore]
                SQL(" ({})").format(Identifier(column)) if column else SQL(""),
                name,
                _role(role),
                SQL(" WITH GRANT OPTION" if grantable else ""),
            )


def _role(role: str) -> Composable:
    return Identifier(role) if role else SQL("PUBLIC")


def _text(text: str) -> Composable:
    """PostgreSQL's own words for something that it holds."""
    return SQL(text.rstrip().rstrip(";"))  # type: ignore[arg-type,unused-ignore]
