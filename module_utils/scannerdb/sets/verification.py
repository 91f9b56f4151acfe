"""Proves a backup set: its files are as recorded, every byte of the dump decompresses, every row is in it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import BackupInvalid, InvalidInput, ToolMissing
from ..process import Finished, run_tool, tool_error
from ..runs import utc_now
from ..tools import Tools, choose_tools, installed_tools
from .checksums import check_files
from .dump_data import data_files, read_files
from .known_hashes import recorded_hash
from .manifest import Manifest, read_manifest
from .names import format_time
from .proofs import signature_of
from .row_counts import CopyCounter, differences
from .verification_log import PROOFS, Verification, append_record

LEVELS = PROOFS[:2]  # what this area can prove; `restore` needs a server to restore into


def reading_tools(manifest: Manifest, pg_bin_dir: str = "") -> Tools:
    """Client tools that can read the set's archive: of its own major version, else the oldest newer."""
    available = installed_tools(pg_bin_dir, "pg_restore")
    tools = choose_tools(available, manifest.dump_major)
    if tools is None:
        newest = available[0].version if available else "none"
        raise ToolMissing(
            f"Backup {manifest.name} was made by pg_dump {manifest.pg_dump_version}; "
            f"the newest pg_restore here is {newest}.",
            f"Install postgresql-client-{manifest.dump_major}, or set scannerdb_pg_bin_dir.",
        )
    return tools


def verify_set(
    path: Path,
    level: str,
    tools: Tools | None = None,
    *,
    state_dir: str = "",
    jobs: int = 2,
    nice: int = 0,
    on_bytes: Callable[[int], object] | None = None,
    record: bool = True,
) -> Verification:
    """Verify a set and append the outcome to its `verification.jsonl` (unless `record` is false).

    `checksum` compares every file, and the manifest with the hash in `state_dir` where that has one. `read` also lets
    pg_restore print every row and counts them. What is wrong stands in the outcome's `problems`; errors are raised
    only where nothing could be looked at: no manifest (`BackupInvalid`), no fitting tools (`ToolMissing`).
    `on_bytes` hears how much of the dump's text has been read.
    """
    if level not in LEVELS:
        raise InvalidInput(f"Level {level!r} is none of {', '.join(LEVELS)}.")
    started = time.monotonic()
    manifest, digest = read_manifest(path)
    if level == "read" and manifest.encryption:
        raise InvalidInput(
            f"Backup {manifest.name} is encrypted; without a private key only its files can be compared.",
            "Set scannerdb_backup_identity to the key's file, or ask for level checksum.",
        )
    problems = _manifest_problems(path, manifest, digest, state_dir) + check_files(path, manifest, jobs)
    used = ""
    if level == "read" and not problems:  # reading what is known to be damaged proves nothing
        tools = tools or reading_tools(manifest)
        used = tools.version
        problems = read_dump(path, manifest, tools, nice, on_bytes, jobs)
    outcome = Verification(
        level=level,
        ok=not problems,
        at=format_time(utc_now()),
        manifest_sha256=digest,
        seconds=round(time.monotonic() - started, 3),
        problems=tuple(problems),
        tools=used,
    )
    if record:
        append_record(path, outcome, signature_of(outcome, state_dir))
    return outcome


def _manifest_problems(path: Path, manifest: Manifest, digest: str, state_dir: str) -> list[str]:
    # The folder's name first: the one inside may have been edited, too.
    known = recorded_hash(state_dir, path.name) or recorded_hash(state_dir, manifest.name)
    inner = recorded_hash(state_dir, manifest.name, "plain_manifest_sha256")
    if known and digest not in (known, inner):
        return ["manifest.json was changed after the backup: its SHA-256 is not the one in the state directory."]
    return []


def read_dump(
    path: Path,
    manifest: Manifest,
    tools: Tools,
    nice: int = 0,
    on_bytes: Callable[[int], object] | None = None,
    jobs: int = 2,
) -> list[str]:
    """Decompress the whole dump and count its rows; what is wrong, as sentences."""
    dump = path / manifest.dump_path
    # Structure needs no more than the table of contents, which these two read.
    listing = _pg_restore(tools, ["--list"], dump, nice)
    schema = _pg_restore(tools, ["--schema-only", "--create", "--file=/dev/null"], dump, nice)
    _refuse(listing, tools, manifest)
    failed = [tool_error("pg_restore", told).message for told in (listing, schema) if told.returncode]
    if failed:
        return failed
    files = data_files(manifest, listing.stdout)
    if files is not None:
        return read_files(dump, files, jobs, on_bytes, nice)
    return _read_by_pg_restore(dump, manifest, tools, nice, on_bytes)


def _pg_restore(tools: Tools, words: list[str], dump: Path, nice: int) -> Finished:
    return run_tool([tools.path("pg_restore"), *words, str(dump)], None, check=False, nice=nice)


def _refuse(told: Finished, tools: Tools, manifest: Manifest) -> None:
    """Raise `ToolMissing` where it is pg_restore that is lacking, not the dump."""
    if re.search(r"does not support compression|unsupported version", told.stderr):
        raise ToolMissing(
            f"{tools.path('pg_restore')} cannot read backup {manifest.name} ({manifest.compression}).",
            "Set scannerdb_pg_bin_dir to the client tools that made it.",
        )


def _read_by_pg_restore(
    dump: Path, manifest: Manifest, tools: Tools, nice: int, on_bytes: Callable[[int], object] | None
) -> list[str]:
    """Let pg_restore print every row, and count."""
    counter = CopyCounter()
    done = 0

    def consume(piece: bytes) -> None:
        nonlocal done
        counter.feed(piece)
        done += len(piece)
        if on_bytes:
            on_bytes(done)

    data = run_tool(
        [tools.path("pg_restore"), "--section=data", "--file=-", str(dump)],
        None,
        check=False,
        nice=nice,
        on_output=consume,
    )
    _refuse(data, tools, manifest)
    if data.returncode != 0:
        return [tool_error("pg_restore", data).message]
    return differences(counter, manifest.tables)


def require(outcome: Verification, name: str) -> None:
    """Raise `BackupInvalid` with the first problems where a verification failed."""
    if not outcome.ok:
        told = " ".join(outcome.problems[:3])
        more = f" ({len(outcome.problems)} problems in all.)" if len(outcome.problems) > 3 else ""
        raise BackupInvalid(f"Backup {name} failed its verification ({outcome.level}): {told}{more}")
