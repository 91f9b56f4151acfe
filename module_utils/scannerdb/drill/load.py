"""A load into a disposable cluster, in which nothing out of the set runs with a superuser's rights.

The cluster's superuser makes the roles, the schemas and the extensions; a login that may do nothing but fill this
database loads all else, and is the owner of it. What belongs to whom is said afterwards, and runs no code.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..connection import SQL, Connection, Identifier, Options, connect, explained, fetch
from ..load.analyze import analyze
from ..load.contents import Contents, ContentsEntry, wanted_lines, without_roles
from ..load.failures import summed_up
from ..load.loading import Load, Loaded, load_archive
from ..load.pg_restore import LoadInterrupted
from ..load.target import Target
from .cluster import LOADER

_ROLELESS = ("--no-owner", "--no-privileges", "--no-tablespaces")
_STRONG = ("SCHEMA", "EXTENSION")
_LEFT_OUT = ("EVENT TRIGGER",)  # a superuser's, and they run at every statement about objects
INSUFFICIENT_PRIVILEGE = "42501"
_FOR_LOADER = """
SELECT pg_catalog.format('ALTER SCHEMA %%I OWNER TO %%I', n.nspname, %(loader)s::text) AS statement
  FROM pg_catalog.pg_namespace n
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL
SELECT pg_catalog.format('GRANT ALL ON TABLE %%s TO %%I', c.oid::pg_catalog.regclass, %(loader)s::text)
  FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_class c ON c.oid = ANY (e.extconfig) AND c.relkind = 'r'
"""


def loader_of(superuser: str) -> str:
    """The name of the login that loads, in a cluster of that superuser. Pure."""
    return f"{superuser}{LOADER}"


def make_loader(conn: Connection, options: Options, target: Target) -> Target:
    """Make that login; the target with it as the owner, for the time of the load."""
    name = loader_of(options.user)
    conn.execute(SQL("CREATE ROLE {} LOGIN BYPASSRLS IN ROLE pg_read_all_data").format(Identifier(name)))
    return replace(target, owner=name)


def reader(options: Options) -> Options:
    """How to look at what was loaded: reading may run functions too, when it is planned with an index's expressions."""
    return replace(options, user=loader_of(options.user))


def load_weakly(load: Load, tell: Callable[[], object]) -> Loaded:
    """Load an archive into an empty database that belongs to the loader, and give everything to whom it belongs.

    What failed is in the result, and then nothing is given. Raises `LoadInterrupted` where it needs a superuser.
    """
    contents, options, dbname = load.contents, load.archive.options, load.archive.dbname
    weak = reader(options)
    wanted = set(without_roles(contents, wanted_lines(contents, superuser=True)))
    entries = [entry for entry in contents.entries if entry.line in wanted and not _is(entry, _LEFT_OUT)]
    strong = [entry.line for entry in entries if _is(entry, _STRONG)]
    rest = [entry.line for entry in entries if not _is(entry, _STRONG)]
    loaded = Loaded()
    for who, lines, workers in ((options, strong, 1), (weak, rest, load.jobs)):
        archive = replace(load.archive, options=who, flags=_ROLELESS)
        part = load_archive(replace(load, archive=archive, jobs=workers), lines, on_tick=tell)
        loaded.failures += part.failures
        loaded.again += part.again
        if who is options:
            _hand_over(options, dbname)
    _superuser_needed(loaded, contents)
    with _session(weak, dbname) as side:
        loaded.warnings += analyze(side, load.paths)
    events = len(contents.of("EVENT TRIGGER"))
    if events:
        loaded.warnings.append(
            f"{events} event triggers were left out: they run with the rights of whoever changes things."
        )
    if not loaded.failures:
        _give(options, weak, contents, dbname)
    return loaded


def _is(entry: ContentsEntry, kinds: Sequence[str]) -> bool:
    """True for such an object, and for a comment on one."""
    named = tuple(f"{kind} " for kind in kinds)
    return entry.is_a(*kinds) or (entry.is_a("COMMENT") and entry.rest.startswith(named))


def _superuser_needed(loaded: Loaded, contents: Contents) -> None:
    """Tell what only a superuser may load, which proves nothing either way, from what is wrong with the archive."""
    refused = [failure for failure in loaded.failures if failure.state == INSUFFICIENT_PRIVILEGE]
    if refused:
        raise LoadInterrupted(
            "The backup has objects that only a superuser can make, and a disposable cluster has none for it. "
            f"{summed_up(refused, contents)}",
            "Drill it on the database's server (scannerdb_verify_place: server).",
        )


def _session(options: Options, dbname: str) -> contextlib.closing[Connection]:
    return contextlib.closing(connect(options, dbname=dbname, purpose="drill"))


def _hand_over(options: Options, dbname: str) -> None:
    """Let the loader fill the schemas and the extensions' own tables that the superuser has made."""
    with _session(options, dbname) as side, explained("Preparing the schemas"):
        for row in fetch(side, _FOR_LOADER, {"loader": loader_of(options.user)}):
            side.execute(row["statement"])


def _give(options: Options, weak: Options, contents: Contents, dbname: str) -> None:
    """Run the archive's statements about policies, as the loader, then those about owners and grants."""
    encoding, policy = re.compile(r"SET client_encoding"), re.compile(r"(?:CREATE|ALTER|COMMENT ON) (POLICY|EVENT) ")
    kinds = [(text, policy.match(text)) for text in contents.about_roles]
    policies = [text for text, kind in kinds if encoding.match(text) or (kind and kind[1] == "POLICY")]
    others = [text for text, kind in kinds if not kind]
    for who, statements in ((weak, policies), (options, others)):
        with _session(who, dbname) as side, side.transaction():
            side.execute("SET LOCAL search_path = ''")
            for statement in statements:
                with explained(f"Giving the restored objects to their roles ({' '.join(statement.split())[:200]})"):
                    side.execute(statement.encode("utf-8", "surrogateescape"))
