"""What a database to be made must be, out of what a backup or the live one says."""

from __future__ import annotations

from ..sets.manifest import DatabaseFacts
from .target import Target


def target_of(facts: DatabaseFacts, origin: str) -> Target:
    """A target out of a description of a database."""
    return Target(
        owner=facts.owner,
        encoding=facts.encoding,
        lc_collate=facts.lc_collate,
        lc_ctype=facts.lc_ctype,
        locale_provider=facts.locale_provider,
        locale=facts.locale,
        icu_rules=facts.icu_rules,
        tablespace=facts.tablespace,
        comment=facts.comment,
        connection_limit=facts.connection_limit,
        is_template=facts.is_template,
        grants=None if facts.acl is None else tuple((g.grantee, g.privilege, g.grantable) for g in facts.grants),
        settings=tuple((s.role, s.name, s.value) for s in facts.settings),
        size_bytes=facts.size_bytes,
        origin=origin,
    )
