"""The default that a column has once its type is changed: what the site's own one means, in the new type. Pure."""

from __future__ import annotations

import re

from ..connection import SQL, Composable
from ..contract.introspect import default_meaning
from ..contract.model import NOW
from ..contract.retypable import BOOLEAN, needs_zone

_TRUTHS = {"0": False, "1": True, "false": False, "true": True}
# now() in a time zone: right as it is where that is the one in which the column is read
_IN_ZONE = re.compile(r"^timezone\('([^']+)'::text, (now\(\)|CURRENT_TIMESTAMP)\)$")


def default_kept(expression: str | None, have: str, want: str, zone: str) -> Composable | None:
    """The default, as an expression of the type `want`, that says what `expression` said; None where there was none.

    Raises `ValueError` for one whose meaning is not known.
    """
    meaning = default_meaning({"default": expression, "identity": "", "generated": ""})
    if meaning is None or meaning.upper() == "NULL":
        return None
    if want == BOOLEAN and meaning in _TRUTHS:
        return SQL("true") if _TRUTHS[meaning] else SQL("false")
    if needs_zone(have) and (meaning == NOW or _says_now_in(str(expression), zone)):
        return SQL("now()")
    raise ValueError(expression)


def _says_now_in(expression: str, zone: str) -> bool:
    text = re.sub(r"^\((.*)\)::(text|character varying)$", r"\1", expression)
    found = _IN_ZONE.match(text)
    return bool(found) and _plain(str(found and found[1])) == _plain(zone)


def _plain(zone: str) -> str:
    """A zone's name, without what Etc/UTC has before the name that people write."""
    return re.sub("^etc/", "", zone.lower())
