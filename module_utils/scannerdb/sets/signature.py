"""Who made a set: its manifest is signed with a key of this host, and held against the keys that are known here.

The manifest has the SHA-256 of every file, the name and the time of its set, so a signature of the manifest binds them
all. `ssh-keygen` signs and verifies. A host without it makes sets that only its own record of hashes knows.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import RestoreRefused, ScannerDbError, ToolMissing
from ..files import file_errors, sha256, write_atomic
from .catalogue import BackupSet
from .known_hashes import recorded_hash
from .manifest import MANIFEST, SIGNATURE
from .signing import OWN, TRUSTED, Trust, signed, signer_of

NAMESPACE = "scannerdb-backup"
LONGEST = 16 << 10  # bytes of a signature; one of any key has less


@dataclass(frozen=True)
class SetOrigin:
    """Where a set comes from: `own`, `trusted`, `spelled`, or empty where nobody vouches for it, and why."""

    kind: str
    why: str = ""

    @property
    def known(self) -> bool:
        """True where it may be restored."""
        return bool(self.kind)

    @property
    def sentence(self) -> str:
        """What people should know of it; nothing where it was made here."""
        words = {
            OWN: "",
            TRUSTED: "It was not made here, but signed by a host whose key is trusted.",
            "spelled": "It was not made here; its hash was spelled out.",
        }
        return words.get(self.kind, f"It was not made here: {self.why}.")


def sign(folder: Path, state_dir: str) -> str:
    """Sign the manifest in a folder with this host's key, which is made where it is missing; why not, or nothing."""
    if not state_dir:
        return "there is no state directory for a key"
    try:
        write_atomic(folder / SIGNATURE, signed((folder / MANIFEST).read_bytes(), state_dir, NAMESPACE))
    except ScannerDbError as error:
        return error.message.rstrip(".")
    return ""


def origin_of(item: BackupSet, trust: Trust) -> SetOrigin:
    """Where a set comes from, by its manifest as it was read into `item`."""
    recorded = {recorded_hash(trust.state_dir, name) for name in (item.name, item.manifest.name)}
    if item.manifest_sha256 in recorded:
        return SetOrigin(OWN)
    if trust.spelled and item.manifest_sha256 == trust.spelled.lower():
        return SetOrigin("spelled")
    text = _signature(item.path)
    if not text:
        return SetOrigin("", "it has no signature, and this host has no record of it")
    with file_errors("Reading", item.path / MANIFEST):
        data = (item.path / MANIFEST).read_bytes()
    if hashlib.sha256(data).hexdigest() != item.manifest_sha256:
        return SetOrigin("", "its manifest became another while it was read")
    try:
        kind = signer_of(data, text, trust.keys(), NAMESPACE)
    except ToolMissing as error:
        return SetOrigin("", f"its signature cannot be verified ({error.message.rstrip('.')})")
    return SetOrigin(kind, "" if kind else "its signature is of none of the known keys, or not of this manifest")


def require_known(item: BackupSet, trust: Trust) -> SetOrigin:
    """Raise `RestoreRefused` for a set that nobody vouches for: what is in it would run with the restoring rights."""
    origin = origin_of(item, trust)
    if not origin.known:
        raise RestoreRefused(
            f"Backup {item.name} is not restored. {origin.sentence}",
            "Put the public key of the host that made it (signing_key.pub in its state folder) into "
            "scannerdb_trusted_signers; or, for one restore, set scannerdb_restore_trust to the SHA-256 of its "
            "manifest.json, as the host that made it tells.",
        )
    return origin


def require_spelled(path: Path, trust: Trust) -> None:
    """Raise `RestoreRefused` for a file that is no set, was not named by anybody, and whose hash is not spelled out."""
    if not path.is_file() or not trust.spelled or sha256(path) != trust.spelled.lower():
        raise RestoreRefused(
            f"{path} is no set of this bundle, so nothing tells who made it, and nobody has named it.",
            "Name it in scannerdb_restore_source if you want it, or set scannerdb_restore_trust to its SHA-256.",
        )


def _signature(folder: Path) -> bytes:
    """The bytes of a set's signature, read through no link; empty where there is none."""
    with contextlib.suppress(OSError):
        handle = os.open(folder / SIGNATURE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            return stream.read(LONGEST)
    return b""
