"""What the catalog says of the database itself: all that a restore needs to make it again when nothing else is left."""

from __future__ import annotations

from typing import Any

from ..connection import Connection, explained, fetch
from .manifest import DatabaseFacts, DatabaseGrant, Extension, Setting

# The whole row as JSON: which columns hold the locale differs between versions 14, 15, 16 and 17.
_DATABASE = """
SELECT to_jsonb(d) - 'datacl' AS catalog, pg_get_userbyid(d.datdba)::text AS owner, d.datacl::text AS acl_text,
       d.datacl::text[] AS acl, pg_encoding_to_char(d.encoding)::text AS encoding, t.spcname::text AS tablespace,
       coalesce(shobj_description(d.oid, 'pg_database'), '') AS comment, pg_database_size(d.oid) AS size_bytes
  FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace
 WHERE d.datname = current_database()
"""
_GRANTS = """
SELECT coalesce(r.rolname::text, '') AS grantee, g.privilege_type AS privilege, g.is_grantable AS grantable
  FROM pg_database d, aclexplode(d.datacl) g LEFT JOIN pg_roles r ON r.oid = g.grantee
 WHERE d.datname = current_database()
   AND (g.grantee = 0 OR r.oid IS NOT NULL)
 ORDER BY 1, 2
"""
_SETTINGS = """
SELECT coalesce(r.rolname::text, '') AS role, split_part(c.item, '=', 1) AS name,
       substr(c.item, strpos(c.item, '=') + 1) AS value
  FROM pg_db_role_setting s
  JOIN pg_database d ON d.oid = s.setdatabase
  LEFT JOIN pg_roles r ON r.oid = s.setrole
 CROSS JOIN LATERAL unnest(s.setconfig) WITH ORDINALITY AS c (item, place)
 WHERE d.datname = current_database() AND (s.setrole = 0 OR r.oid IS NOT NULL)
 ORDER BY 1, c.place
"""
_EXTENSIONS = """
SELECT e.extname::text AS name, e.extversion AS version, n.nspname::text AS schema
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 ORDER BY 1
"""
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


def read_facts(conn: Connection) -> DatabaseFacts:
    """Describe the database of a connection; reads the catalog only, which every role may."""
    with explained("Reading the database's own properties"):
        row = fetch(conn, _DATABASE)[0]
        grants = fetch(conn, _GRANTS)
        settings = fetch(conn, _SETTINGS)
        extensions = fetch(conn, _EXTENSIONS)
    catalog = row["catalog"]
    return DatabaseFacts(
        name=catalog["datname"],
        owner=row["owner"],
        acl=None if row["acl"] is None else tuple(row["acl"]),
        acl_text=row["acl_text"],
        grants=tuple(DatabaseGrant(**grant) for grant in grants),
        settings=tuple(Setting(**setting) for setting in settings),
        encoding=row["encoding"],
        connection_limit=int(catalog["datconnlimit"]),
        is_template=bool(catalog["datistemplate"]),
        comment=row["comment"],
        tablespace=row["tablespace"],
        extensions=tuple(Extension(**extension) for extension in extensions),
        size_bytes=int(row["size_bytes"]),
        **locale_facts(catalog),
    )


def locale_facts(catalog: dict[str, Any]) -> dict[str, str]:
    """The locale out of a row of pg_database, whatever version it comes from. Pure.

    Before 15 there is only libc; the provider's locale is `daticulocale` in 15 and 16, `datlocale` from 17 on.
    """
    return {
        "lc_collate": catalog["datcollate"],
        "lc_ctype": catalog["datctype"],
        "locale_provider": _PROVIDERS.get(catalog.get("datlocprovider") or "c", "libc"),
        "locale": catalog.get("datlocale") or catalog.get("daticulocale") or "",
        "icu_rules": catalog.get("daticurules") or "",
        "collation_version": catalog.get("datcollversion") or "",
    }
