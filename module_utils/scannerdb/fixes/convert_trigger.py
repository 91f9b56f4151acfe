"""The trigger of a conversion: the function is the table owner's alone, and the catalog shows whether it still is ours.

A function of that name may be there before, made by anybody who may make something in the schema: replaced, it would
stay theirs. So it is made anew, and one of somebody else stops the conversion.
"""

from __future__ import annotations

from ..connection import SQL, Composable, Connection, fetch
from ..contract.conversion import TRIGGER, function_name, removal
from ..errors import FixLeft
from ..lockbudget import relation
from .retyped import Retyping, body, trigger

_OTHERS = """
SELECT p.proname::text || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS what,
       pg_get_userbyid(p.proowner)::text AS owner
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = %s AND p.proname = %s AND (p.pronargs > 0 OR pg_get_userbyid(p.proowner) <> %s)
 ORDER BY 1 LIMIT 1
"""
# Who switches a trigger off and on again, or replaces its function, writes its row in the catalog anew.
_STATE = """
SELECT pg_catalog.concat_ws(' ', t.oid, t.xmin, p.oid, p.xmin) AS state
  FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
 WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND t.tgname = %(trigger)s AND t.tgenabled = 'A'
   AND t.tgtype = 23 AND t.tgqual IS NULL AND t.tgnargs = 0 AND pg_catalog.cardinality(t.tgattr::int2[]) = 0
   AND p.pronamespace = n.oid AND p.proname = %(function)s AND p.proowner = c.relowner AND NOT p.prosecdef
   AND p.prosrc = %(body)s
"""


def made_trigger(one: Retyping) -> list[Composable]:
    """The statements that make the trigger and its function anew. Nobody else may attach the function to a table of
    their own: it could not be dropped then."""
    name = relation(one.schema, function_name(one.table))
    nobody = SQL("REVOKE ALL ON FUNCTION {}() FROM PUBLIC").format(name)
    return [*removal(one.schema, one.table, []), *trigger(one), nobody]


def refuse_others_function(conn: Connection, one: Retyping, owner: str) -> None:
    """Raise `FixLeft` where somebody else than the table's owner has a function of that name, or it has arguments."""
    found = fetch(conn, _OTHERS, [one.schema, function_name(one.table), owner])
    if found:
        raise FixLeft(
            f"{one.schema}.{found[0]['what']}, a function of {found[0]['owner']}, has the name of the function that "
            f"converts {one.table}.",
            "Drop it, or give it another name.",
        )


def state_of_trigger(conn: Connection, one: Retyping) -> str:
    """Words that stay the same while nobody touches the trigger and its function; empty where they are not ours."""
    words = {
        "schema": one.schema,
        "table": one.table,
        "trigger": TRIGGER,
        "function": function_name(one.table),
        "body": body(one),
    }
    found = fetch(conn, _STATE, words)
    return str(found[0]["state"]) if found else ""
