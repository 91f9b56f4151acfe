"""The manifest of a backup set: what was saved, with which tools, and what a restore needs when nothing else is left.

`manifest.json` is written once and never changed; what is learnt about a set later stands in `verification.jsonl`
beside it. The format is described for people in docs/backup.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Optional, TypeVar

from ..errors import BackupInvalid
from ..files import encoded, file_errors, write_atomic
from ..jsontext import read_json

FORMAT = "scannerdb-backup"
PLAIN_VERSION, ENCRYPTED_VERSION = 1, 2
# The newest that is read. It rises only for what older readers would misread: keys they do not know they pass over.
FORMAT_VERSION = ENCRYPTED_VERSION
BUNDLE_VERSION = "0.3.0"
MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
VERIFICATIONS = "verification.jsonl"
DUMP = "dump"
DUMP_FILE = "dump.pgdump"
DUMP_FORMATS = ("directory", "custom")
GLOBALS = "globals.sql"
REGULAR = "regular"
PURPOSES = (REGULAR, "pre_restore")

_T = TypeVar("_T")


@dataclass(frozen=True)
class FileRecord:
    """One file of a set; `path` is relative to the set's folder, with `/`."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class TableCount:
    """Rows of one table in the dump's snapshot. `fingerprint` is of its content; empty where it was not asked for."""

    schema: str
    name: str
    rows: int
    fingerprint: str = ""


@dataclass(frozen=True)
class Setting:
    """One `ALTER DATABASE … SET`, or with a role one `ALTER ROLE … IN DATABASE … SET`.

    `value` is as the catalog keeps it: of list settings such as search_path it is already a quoted list, and must not
    be quoted again as one literal.
    """

    name: str
    value: str
    role: str = ""


@dataclass(frozen=True)
class DatabaseGrant:
    """One privilege on the database; an empty grantee is PUBLIC."""

    grantee: str
    privilege: str
    grantable: bool


@dataclass(frozen=True)
class Extension:
    """An extension that the database has."""

    name: str
    version: str
    schema: str


@dataclass(frozen=True)
class ObjectPrint:
    """A table, view, function … of the database, and a short hash of what the catalog says of it."""

    kind: str
    name: str
    print: str


@dataclass(frozen=True)
class DatabaseFacts:
    """The database itself, as CREATE DATABASE, ALTER DATABASE and GRANT would have to make it again.

    `acl` and `acl_text` are None where the database has its default privileges (an empty list means: nobody has any).
    `locale_provider` is `libc`, `icu` or `builtin`; `locale` and `icu_rules` belong to the latter two.
    `connection_limit` is -1 for no limit.
    """

    name: str
    owner: str
    acl: Optional[tuple[str, ...]]
    acl_text: Optional[str]
    grants: tuple[DatabaseGrant, ...]
    settings: tuple[Setting, ...]
    encoding: str
    lc_collate: str
    lc_ctype: str
    locale_provider: str
    locale: str
    icu_rules: str
    collation_version: str
    comment: str
    connection_limit: int
    tablespace: str
    extensions: tuple[Extension, ...]
    size_bytes: int
    is_template: bool = False


@dataclass(frozen=True)
class Encryption:
    """How a set's files are encrypted: to which public keys, and which plain manifest is inside."""

    tool: str
    recipients: tuple[str, ...]
    plain_manifest_sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything `manifest.json` says, and docs/manifest.schema.json describes. Times are UTC, `2025-04-18T12:00:00Z`.

    `dump_format` is `directory` or `custom`; `dump_path` is where it lies in the set. `globals_missing` says why there
    is no globals.sql, and is empty where there is one. `contract` is the fingerprint of the structure at the time, or
    empty; `encryption` is None where the files are plain. `structure` has the print of every object (none in sets that
    older versions made).
    """

    name: str
    purpose: str
    run_id: str
    created: str
    finished: str
    duration_s: float
    database: DatabaseFacts
    server_version: str
    server_version_num: int
    server_is_standby: bool
    pg_dump_version: str
    pg_restore_version: str
    snapshot_id: str
    snapshot_lsn: str
    dump_format: str
    dump_path: str
    compression: str
    jobs: int
    globals_missing: str
    contract: str
    tables: tuple[TableCount, ...]
    files: tuple[FileRecord, ...]
    structure: tuple[ObjectPrint, ...] = ()
    bundle_version: str = BUNDLE_VERSION
    format_version: int = PLAIN_VERSION
    encryption: Optional[Encryption] = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all recorded files."""
        return sum(record.size for record in self.files)

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def dump_major(self) -> int:
        """The major version of the pg_dump that made the archive."""
        return int(re.split(r"[^0-9]", self.pg_dump_version, maxsplit=1)[0] or 0)


def to_json(manifest: Manifest) -> str:
    """The manifest as text: the same values give the same bytes. Pure."""
    document = {"format": FORMAT, **dataclasses.asdict(manifest)}
    if manifest.encryption is None:
        del document["encryption"]
    return json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str, where: str = MANIFEST) -> Manifest:
    """Read a manifest's text; keys that are not known are passed over. Pure; raises `BackupInvalid`."""
    try:
        document = read_json(text)
    except ValueError as error:
        raise BackupInvalid(f"{where} is not JSON: {error}.", "The set is damaged: use another.") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BackupInvalid(f"{where} is not the manifest of a backup set of this bundle.")
    version = document.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION or version < 1:
        raise BackupInvalid(
            f"{where} has the format version {version!r}.", "Read it with a newer version of the bundle."
        )
    try:
        manifest = _build(Manifest, {**document, "database": _database(document["database"]), **_lists(document)})
    except (KeyError, TypeError, ValueError) as error:
        raise BackupInvalid(f"{where} lacks or misstates {error}.", "The set is damaged: use another.") from None
    _check(manifest, where)
    return manifest


def _lists(document: dict[str, Any]) -> dict[str, Any]:
    return {
        "tables": _many(TableCount, document["tables"]),
        "files": _many(FileRecord, document["files"]),
        "structure": _many(ObjectPrint, document.get("structure", [])),
        "encryption": _encryption(document.get("encryption")),
    }


def _encryption(document: Optional[dict[str, Any]]) -> Optional[Encryption]:
    if document is None:
        return None
    return _build(Encryption, {**document, "recipients": tuple(str(item) for item in document["recipients"])})


def _database(document: dict[str, Any]) -> DatabaseFacts:
    lists = {
        "acl": None if document["acl"] is None else tuple(str(item) for item in document["acl"]),
        "grants": _many(DatabaseGrant, document["grants"]),
        "settings": _many(Setting, document["settings"]),
        "extensions": _many(Extension, document["extensions"]),
    }
    return _build(DatabaseFacts, {**document, **lists})


def _many(kind: type[_T], items: list[dict[str, Any]]) -> tuple[_T, ...]:
    return tuple(_build(kind, item) for item in items)


_SCALARS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


def _build(kind: type[_T], values: dict[str, Any]) -> _T:
    """An instance of a dataclass from its own keys; scalars must have their declared type."""
    chosen = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name not in values and field.default is not dataclasses.MISSING:
            continue
        value = values[field.name]
        wanted = _SCALARS.get(str(field.type))
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
            raise ValueError(field.name)
        chosen[field.name] = value
    return kind(**chosen)


def _check(manifest: Manifest, where: str) -> None:
    """What types cannot say: purposes that exist, and paths that stay inside the set."""
    if manifest.dump_format not in DUMP_FORMATS:
        raise BackupInvalid(f"{where} has the unknown dump format {manifest.dump_format!r}.")
    if manifest.purpose not in PURPOSES:
        raise BackupInvalid(f"{where} has the unknown purpose {manifest.purpose!r}.")
    for path in [manifest.dump_path, *(record.path for record in manifest.files)]:
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or not parts.parts:
            raise BackupInvalid(f"{where} names a file outside its set: {path!r}.", "Do not use this set.")


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write a set's manifest and return the SHA-256 of its bytes."""
    text = encoded(to_json(manifest))
    write_atomic(folder / MANIFEST, text)
    return hashlib.sha256(text).hexdigest()


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """A set's manifest and the SHA-256 of its bytes; raises `BackupInvalid`, or `FileProblem` where it is not there."""
    path = folder / MANIFEST
    with file_errors("Reading", path):
        data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise BackupInvalid(f"{path} is not text.", "The set is damaged: use another.") from None
    return from_json(text, str(path)), hashlib.sha256(data).hexdigest()
