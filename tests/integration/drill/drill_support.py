"""Short words for the tests of restore drills."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from scannerdb.sets.checksums import hash_files
from scannerdb.sets.manifest import Manifest, TableCount, read_manifest, write_manifest
from scannerdb.sets.signature import sign

from tests.integration.backup.backup_support import options_of
from tests.integration.support import run_backup, run_verify
from tests.servers import Database


def make(database: Database, tmp_path: Path, **more: Any) -> Path:
    """A backup; its path."""
    result = run_backup(options_of(database), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"), **more)
    return Path(result["backup"]["path"])


def drill(database: Database, tmp_path: Path, **more: Any) -> dict[str, Any]:
    """A verification of the latest set."""
    options = more.pop("options", options_of(database))
    return run_verify(options, backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"), **more)


def databases(database: Database) -> set[str]:
    """All databases of the server."""
    return {name for (name,) in database.sql("SELECT datname::text FROM pg_database")}


def rewrite(path: Path, **changed: Any) -> Manifest:
    """Another manifest for a set, with the right hashes of its files: as if it had been made so."""
    manifest, _ = read_manifest(path)
    manifest = dataclasses.replace(manifest, **{"files": hash_files(path), **changed})
    write_manifest(path, manifest)
    shutil.rmtree(path.parents[1] / "s" / "manifests", ignore_errors=True)
    assert sign(path, str(path.parents[1] / "s")) == ""
    return manifest


def more_rows(m: Manifest) -> dict[str, Any]:
    return {"tables": tuple(TableCount(t.schema, t.name, t.rows + 1, t.fingerprint) for t in m.tables)}
