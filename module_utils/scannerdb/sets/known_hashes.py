"""The manifests' own hashes, kept away from the sets: who edits a manifest would have to edit the state as well."""

from __future__ import annotations

import json
from pathlib import Path

from ..files import ensure_folder, file_errors, remove_tree, sweep_partials, write_atomic
from ..jsontext import read_json

RECORDS = "records"
CLOSED = {RECORDS: "history"}  # the set's verifications stand in the state folder's own history


def _path(state_dir: str, name: str) -> Path:
    return Path(state_dir, "manifests", f"{name}.sha256")


def record_hash(state_dir: str, name: str, digest: str, plain: str = "") -> None:
    """Remember the SHA-256 of a set's manifest; nothing happens without a state directory.

    `plain` is the hash of the manifest inside of an encrypted set.
    """
    if state_dir:
        ensure_folder(state_dir)  # a parent that is made by the way would be open to everybody
        sweep_partials(ensure_folder(_path(state_dir, name).parent))
        values = {
            "manifest_sha256": digest,
            "set": name,
            **({"plain_manifest_sha256": plain} if plain else {}),
            **CLOSED,
        }
        write_atomic(_path(state_dir, name), json.dumps(values, sort_keys=True) + "\n")


def recorded_hash(state_dir: str, name: str, which: str = "manifest_sha256") -> str:
    """The remembered SHA-256 of a set's manifest; empty where there is none or it cannot be read.

    `which` may be `plain_manifest_sha256`: of an encrypted set's inner one.
    """
    if not state_dir or not _path(state_dir, name).is_file():
        return ""
    with file_errors("Reading", _path(state_dir, name)):
        text = _path(state_dir, name).read_text(encoding="utf-8", errors="replace")
    try:
        return str(read_json(text)[which])
    except (ValueError, KeyError, TypeError):
        return ""


def are_records_open(state_dir: str, name: str, digest: str) -> bool:
    """True for a set that this host made with a release that noted verifications nowhere but beside the set."""
    return recorded_hash(state_dir, name) == digest and not recorded_hash(state_dir, name, RECORDS)


def close_records(state_dir: str, name: str) -> None:
    """Note that the state folder has a set's verifications."""
    digest, plain = recorded_hash(state_dir, name), recorded_hash(state_dir, name, "plain_manifest_sha256")
    record_hash(state_dir, name, digest, plain)


def forget_hash(state_dir: str, name: str) -> None:
    """Forget a removed set's manifest."""
    if state_dir:
        remove_tree(_path(state_dir, name))
