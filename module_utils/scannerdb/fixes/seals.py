"""Keyed hashes over the journal's batches: an entry that this host did not write has none, and is not undone."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path

from ..errors import FileProblem
from ..files import ensure_folder, write_atomic

KEY_FILE = "journal.key"
KEY_BYTES = 32


@dataclass(frozen=True)
class Keys:
    """The key of this host's journals."""

    key: bytes

    def __repr__(self) -> str:
        return "Keys(…)"


def seal_of(keys: Keys | None, run_id: str, fix_id: str, hashed: str) -> str:
    """The seal over a batch: empty where there is no key. Pure."""
    if keys is None:
        return ""
    return hmac.new(keys.key, f"{run_id}\n{fix_id}\n{hashed}".encode(), hashlib.sha256).hexdigest()


def is_sealed(keys: Keys | None, run_id: str, fix_id: str, hashed: str, seal: str) -> bool:
    """True where the seal was made with the key over just these entries. Pure."""
    return keys is not None and hmac.compare_digest(seal_of(keys, run_id, fix_id, hashed), seal)


def keys_of(state_dir: str, make: bool) -> Keys | None:
    """The key in the state folder, made where there is none and `make` says so; None without a state folder."""
    if not state_dir:
        return None
    path = Path(state_dir) / KEY_FILE
    try:
        if make and not path.exists():
            ensure_folder(state_dir)
            write_atomic(path, secrets.token_bytes(KEY_BYTES), mode=0o600)
        key = path.read_bytes() if path.exists() else b""
        if key and path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise FileProblem(
            f"The journal's key {path} cannot be read or made: {error.strerror}.",
            "Give the folder to the user that runs the jobs.",
        ) from error
    return Keys(key) if len(key) >= KEY_BYTES else None
