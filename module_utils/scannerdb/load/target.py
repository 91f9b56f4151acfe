"""The database to be made: what it must be besides its content, and the statements that make it so. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..connection import SQL, Composable, Identifier, Literal
from .role_mapping import RoleRules

# Settings that hold a list of names; their value in the catalog is already quoted, element by element.
LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
}
EVENT_TRIGGERS_SINCE = 17  # from which a setting turns them off
DEFAULT_TABLESPACE = "pg_default"
PRIVILEGES = {"CREATE", "CONNECT", "TEMPORARY", "TEMP"}


@dataclass(frozen=True)
class Target:
    """What a database is besides its content. Empty text means the server's default.

    `grants` is None for the default privileges, else (grantee or '' for PUBLIC, privilege, grantable); `settings` are
    (role or '', name, value as the catalog keeps it). `origin` says where all this was learnt.
    """

    owner: str = ""
    encoding: str = ""
    lc_collate: str = ""
    lc_ctype: str = ""
    locale_provider: str = ""
    locale: str = ""
    icu_rules: str = ""
    tablespace: str = ""
    comment: str = ""
    connection_limit: int = -1
    is_template: bool = False
    grants: tuple[tuple[str, str, bool], ...] | None = None
    settings: tuple[tuple[str, str, str], ...] = ()
    size_bytes: int = 0
    origin: str = "the server's defaults"

    @property
    def roles(self) -> set[str]:
        """Every role it names."""
        names = {self.owner, *(role for role, _, _ in self.settings)}
        names |= {grantee for grantee, _, _ in self.grants or ()}
        return names - {""}

    def under(self, rules: RoleRules) -> Target:
        """The same, with roles replaced or ignored. What a role has itself goes before what it takes over."""
        grants: dict[tuple[str, str], bool] = {}
        for role, privilege, grantable in self.grants or ():
            if role not in rules.ignored:
                key = (rules.of(role), privilege)
                grants[key] = grantable or grants.get(key, False)
        settings: dict[tuple[str, str], str] = {}
        for role, name, value in sorted(self.settings, key=lambda setting: setting[0] in rules.mapped):
            if role not in rules.ignored:
                settings.setdefault((rules.of(role), name), value)
        return replace(
            self,
            owner="" if self.owner in rules.ignored else rules.of(self.owner),
            grants=None if self.grants is None else tuple((*key, option) for key, option in grants.items()),
            settings=tuple((*key, value) for key, value in settings.items()),
        )


def as_asked(target: Target, asked: Target) -> Target:
    """The target with encoding and locale as a file's own CREATE DATABASE asks for; those of the target else."""
    if not (asked.encoding or asked.lc_collate):
        return target
    located = located_as(target, asked) if asked.lc_collate else target
    return replace(
        located,
        encoding=asked.encoding or target.encoding,
        origin=f"{target.origin}, encoding and locale from CREATE DATABASE in the file",
    )


def located_as(target: Target, other: Target) -> Target:
    """The target with another one's encoding and locale."""
    return replace(
        target,
        encoding=other.encoding,
        lc_collate=other.lc_collate,
        lc_ctype=other.lc_ctype,
        locale_provider=other.locale_provider,
        locale=other.locale,
        icu_rules=other.icu_rules,
    )


def create_statement(name: str, target: Target, server_major: int, closed: bool = False) -> Composable:
    """CREATE DATABASE for a side database.

    `closed` lets only superusers in, who are held to no limit: whoever owns a table could give it code, or a sequence's
    name to a view, between its load and the look at it. `property_statements` opens it.
    """
    parts: list[Composable] = [SQL("CREATE DATABASE {} WITH TEMPLATE template0").format(Identifier(name))]
    if target.owner:
        parts.append(SQL("OWNER {}").format(Identifier(target.owner)))
    words: list[tuple[str, str]] = [
        ("ENCODING", target.encoding),
        ("LC_COLLATE", target.lc_collate),
        ("LC_CTYPE", target.lc_ctype),
    ]
    if server_major >= 15:
        words.append(("LOCALE_PROVIDER", target.locale_provider))
    if target.locale_provider == "icu":
        words += [("ICU_LOCALE", target.locale), ("ICU_RULES", target.icu_rules)]
    elif target.locale_provider == "builtin":
        words.append(("BUILTIN_LOCALE", target.locale))
    parts += [SQL("{} {}").format(SQL(word), Literal(value)) for word, value in words if value]
    if target.tablespace not in ("", DEFAULT_TABLESPACE):  # naming it needs a right on it that using it does not
        parts.append(SQL("TABLESPACE {}").format(Identifier(target.tablespace)))
    if closed:
        parts.append(SQL("CONNECTION LIMIT 0"))
    return SQL(" ").join(parts)


def silence(name: str, server_major: int, superuser: bool, off: bool = True) -> list[Composable]:
    """Statements that keep event triggers from firing in a database that is being built, or let them again. Pure.

    Since version 17 they may fire at a login, and write: then every look at what was restored would change it.
    """
    if server_major < EVENT_TRIGGERS_SINCE or not superuser:  # nobody else restores any
        return []
    how = SQL("SET event_triggers = off") if off else SQL("RESET event_triggers")
    return [SQL("ALTER DATABASE {} {}").format(Identifier(name), how)]


def property_statements(name: str, target: Target) -> list[Composable]:
    """Settings, privileges, the connection limit, and whether it is a template."""
    base = Identifier(name)
    statements: list[Composable] = []
    for role, setting, value in target.settings:
        head = SQL("ALTER DATABASE {}").format(base)
        if role:
            head = SQL("ALTER ROLE {} IN DATABASE {}").format(Identifier(role), base)
        statements.append(SQL("{} SET {} TO {}").format(head, _setting_name(setting), _setting_value(setting, value)))
    if target.grants is not None:
        statements.append(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(base))
        if target.owner:
            statements.append(SQL("REVOKE ALL ON DATABASE {} FROM {}").format(base, Identifier(target.owner)))
        for grantee, privilege, grantable in target.grants:
            if privilege in PRIVILEGES:
                who = Identifier(grantee) if grantee else SQL("PUBLIC")
                option = SQL(" WITH GRANT OPTION") if grantable and grantee != target.owner else SQL("")
                statements.append(SQL("GRANT {} ON DATABASE {} TO {}{}").format(SQL(privilege), base, who, option))
    limit = Literal(target.connection_limit)
    statements.append(SQL("ALTER DATABASE {} WITH CONNECTION LIMIT {}").format(base, limit))
    if target.is_template:
        statements.append(SQL("ALTER DATABASE {} WITH IS_TEMPLATE true").format(base))
    return statements


def _setting_name(name: str) -> Composable:
    """`a.b` is an extension's setting: two identifiers."""
    return SQL(".").join(Identifier(part) for part in name.split("."))


def _setting_value(name: str, value: str) -> Composable:
    if name.lower() not in LISTS:
        return Literal(value)
    items = split_list(value)
    return SQL(", ").join(Literal(item) for item in items) if items else Literal("")


def split_list(value: str) -> list[str]:
    """The elements of a list setting, unquoted."""
    found = re.findall(r'\s*(?:"((?:[^"]|"")*)"|([^,]*?))\s*(?:,|$)', value)
    return [quoted.replace('""', '"') or bare for quoted, bare in found if quoted or bare]


def target_from_script(script: str) -> Target:
    """What an archive's own CREATE DATABASE says of encoding, locale and owner (settings and grants are not read)."""
    create = re.search(r"^CREATE DATABASE .*;$", script, re.MULTILINE)
    line = create.group() if create else ""
    collate = _word(line, "LC_COLLATE") or _word(line, "LOCALE")
    return Target(
        owner=_owner(script),
        encoding=_word(line, "ENCODING"),
        lc_collate=collate,
        lc_ctype=_word(line, "LC_CTYPE") or _word(line, "LOCALE"),
        locale_provider=_bare_word(line, "LOCALE_PROVIDER"),
        locale=_word(line, "ICU_LOCALE") or _word(line, "BUILTIN_LOCALE"),
        icu_rules=_word(line, "ICU_RULES"),
        origin="the archive" if line else "the server's defaults",
    )


def _word(line: str, name: str) -> str:
    match = re.search(rf" {name} = '((?:[^']|'')*)'", line)
    return match.group(1).replace("''", "'") if match else ""


def _bare_word(line: str, name: str) -> str:
    match = re.search(rf" {name} = (\w+)", line)
    return match.group(1) if match else ""


def _owner(script: str) -> str:
    match = re.search(r'^ALTER DATABASE .* OWNER TO (?:"((?:[^"]|"")+)"|(\w+));$', script, re.MULTILINE)
    return (match.group(1) or "").replace('""', '"') or match.group(2) if match else ""


def describe(target: Target) -> Sequence[str]:
    """What people should know of it, in words."""
    locale = target.locale or target.lc_collate or "the server's locale"
    return [
        f"owner {target.owner or 'the maintenance role'}, encoding {target.encoding or 'the default'}, "
        f"{target.locale_provider or 'default'} locale {locale}, learnt from {target.origin}",
        f"{len(target.settings)} settings, "
        + ("default privileges" if target.grants is None else f"{len(target.grants)} privileges"),
    ]
