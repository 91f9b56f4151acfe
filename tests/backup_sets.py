"""Backup sets made for tests, without a server."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

from scannerdb.sets import names
from scannerdb.sets.catalogue import BackupSet
from scannerdb.sets.checksums import hash_files
from scannerdb.sets.manifest import (
    DatabaseFacts,
    DatabaseGrant,
    Extension,
    Manifest,
    Setting,
    TableCount,
    write_manifest,
)
from scannerdb.sets.names import format_time, set_name
from scannerdb.sets.verification_log import (
    VerificationStatus,
)

UTC = datetime.timezone.utc


NOON = datetime.datetime(2025, 4, 18, 12, tzinfo=UTC)


def facts(name: str = "ollama_scanner") -> DatabaseFacts:
    return DatabaseFacts(
        name=name,
        owner="ollama",
        acl=("=Tc/ollama", "ollama=CTc/ollama"),
        acl_text="{=Tc/ollama,ollama=CTc/ollama}",
        grants=(DatabaseGrant("", "CONNECT", False),),
        settings=(Setting("work_mem", "8MB"), Setting("search_path", '"$user", public', "ollama")),
        encoding="UTF8",
        lc_collate="C",
        lc_ctype="C",
        locale_provider="libc",
        locale="",
        icu_rules="",
        collation_version="",
        comment="the scanner's",
        connection_limit=-1,
        tablespace="pg_default",
        extensions=(Extension("plpgsql", "1.0", "pg_catalog"),),
        size_bytes=10_000_000,
    )


def manifest(name: str = "ollama_scanner_20250418_120000.backup", **changed: Any) -> Manifest:
    plain = Manifest(
        name=name,
        purpose="regular",
        run_id="20250418T120000Z-0a1b2c3d",
        created="2025-04-18T12:00:00Z",
        finished="2025-04-18T12:00:05Z",
        duration_s=5.25,
        database=facts(),
        server_version="17.4",
        server_version_num=170004,
        server_is_standby=False,
        pg_dump_version="17.4",
        pg_restore_version="17.4",
        snapshot_id="00000003-0000001B-1",
        snapshot_lsn="0/15F3B08",
        dump_format="directory",
        dump_path="dump",
        compression="zstd:1",
        jobs=2,
        globals_missing="",
        contract="",
        tables=(TableCount("public", "endpoints", 3),),
        files=(),
    )
    return dataclasses.replace(plain, **changed)


def make_set(folder: Path, when: datetime.datetime = NOON, dbname: str = "ollama_scanner", **changed: Any) -> Path:
    """A set with one small data file, as a run would leave it."""
    path = folder / names.set_name(dbname, when)
    (path / "dump").mkdir(parents=True)
    (path / "dump" / "toc.dat").write_bytes(b"contents")
    created = names.format_time(when)
    values = {"database": facts(dbname), "files": hash_files(path), "created": created, **changed}
    write_manifest(path, manifest(path.name, **values))
    return path


ROOT = Path(__file__).resolve().parents[1]


SCHEMA = json.loads((ROOT / "docs" / "manifest.schema.json").read_text(encoding="utf-8"))


OLD_SETS = ROOT / "tests" / "fixtures" / "old_set"


OLD_SET = OLD_SETS / "ollama_scanner_20250418_120000.backup"


def add_file(path: Path) -> None:
    (path / "dump" / "9999.dat.gz").write_bytes(b"")


def add_hidden_file(path: Path) -> None:
    (path / ".hidden").write_bytes(b"")


def add_link(path: Path) -> None:
    (path / "dump" / "link").symlink_to("toc.dat")


def replace_by_link(path: Path) -> None:
    (path / "globals.sql").rename(path.parent / "globals.sql")
    (path / "globals.sql").symlink_to(path.parent / "globals.sql")


def replace_by_folder(path: Path) -> None:
    (path / "globals.sql").unlink()
    (path / "globals.sql").mkdir()


NOW = datetime.datetime(2025, 6, 1, 12, tzinfo=datetime.timezone.utc)


HOUR = datetime.timedelta(hours=1)


def old(age_h: int, verified: str = "read", purpose: str = "regular", problems: tuple[str, ...] = ()) -> BackupSet:
    created = NOW - age_h * HOUR
    name = set_name("ollama_scanner", created)
    return BackupSet(
        Path("/b", name),
        manifest(name, created=format_time(created), purpose=purpose),
        "d",
        VerificationStatus(verified, "", problems),
    )
