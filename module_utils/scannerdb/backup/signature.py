"""Who made a set: its manifest is signed with a key of this host, and held against the keys that are known here.

The manifest has the SHA-256 of every file, the name and the time of its set, so a signature of the manifest binds them
all. `ssh-keygen` signs and verifies. A host without it makes sets that only its own record of hashes knows.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..errors import InvalidInput, RestoreRefused, ScannerDbError, ToolMissing
from ..files import ensure_folder, file_errors, sha256, write_atomic
from ..process import Finished, memory_file, run_tool, tool_error
from .hashes import recorded_hash
from .manifest import MANIFEST, SIGNATURE
from .sets import BackupSet

KEY = "signing_key"
SSH_KEYGEN = "ssh-keygen"
NAMESPACE = "scannerdb-backup"
OWN, TRUSTED = "own", "trusted"
LONGEST = 16 << 10  # bytes of a signature; one of any key has less
_PUBLIC = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}(?: [^\r\n]*)?")


@dataclass(frozen=True)
class Trust:
    """Whose sets may be restored: what this host made, those of the `signers` (public keys), and what is `spelled` out.

    `spelled` is the SHA-256 of a manifest, or of a file that is no set.
    """

    state_dir: str = ""
    signers: tuple[str, ...] = ()
    spelled: str = ""

    def checked(self) -> Trust:
        """Itself, unless it makes no sense."""
        wrong = [key for key in self.signers if not _PUBLIC.fullmatch(key.strip())]
        if wrong:
            raise InvalidInput(
                f"scannerdb_trusted_signers has {wrong[0][:80]!r}, which is no public key.",
                "Give the one line of a host's signing_key.pub: ssh-ed25519 AAAA...",
            )
        if self.spelled and not re.fullmatch(r"[0-9a-fA-F]{64}", self.spelled):
            raise InvalidInput(
                f"scannerdb_restore_trust is {self.spelled[:80]!r}, which is no SHA-256.", "Give its 64 hex digits."
            )
        return self


@dataclass(frozen=True)
class Origin:
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


def public_key(state_dir: str) -> str:
    """This host's public key, one line; empty where there is none yet."""
    path = Path(state_dir, f"{KEY}.pub")
    if not state_dir or not path.is_file():
        return ""
    with file_errors("Reading", path):
        return path.read_text(encoding="utf-8", errors="replace").strip()


def sign(folder: Path, state_dir: str) -> str:
    """Sign the manifest in a folder with this host's key, which is made where it is missing; why not, or nothing."""
    if not state_dir:
        return "there is no state directory for a key"
    try:
        key = _own_key(state_dir)
        words = ["-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key)]
        finished = _ssh_keygen(words, feed=[(folder / MANIFEST).read_bytes()])
    except ScannerDbError as error:
        return error.message.rstrip(".")
    if finished.returncode != 0 or not finished.stdout:
        return tool_error(SSH_KEYGEN, finished).message.rstrip(".")
    write_atomic(folder / SIGNATURE, finished.stdout)
    return ""


def origin_of(item: BackupSet, trust: Trust) -> Origin:
    """Where a set comes from, by its manifest as it was read into `item`."""
    recorded = {recorded_hash(trust.state_dir, name) for name in (item.name, item.manifest.name)}
    if item.manifest_sha256 in recorded:
        return Origin(OWN)
    if trust.spelled and item.manifest_sha256 == trust.spelled.lower():
        return Origin("spelled")
    text = _signature(item.path)
    if not text:
        return Origin("", "it has no signature, and this host has no record of it")
    with file_errors("Reading", item.path / MANIFEST):
        data = (item.path / MANIFEST).read_bytes()
    own = public_key(trust.state_dir)
    keys = [*([(OWN, own)] if own else []), *((TRUSTED, key.strip()) for key in trust.signers)]
    try:
        kind = _signer(data, text, keys)
    except ToolMissing as error:
        return Origin("", f"its signature cannot be verified ({error.message.rstrip('.')})")
    return Origin(kind, "" if kind else "its signature is of none of the known keys, or not of this manifest")


def require_known(item: BackupSet, trust: Trust) -> Origin:
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


def _signer(data: bytes, signature: bytes, keys: Sequence[tuple[str, str]]) -> str:
    """Which kind of key made a signature; empty for none of them."""
    lines = "".join(f'{kind} namespaces="{NAMESPACE}" {key}\n' for kind, key in keys)
    with memory_file(lines.encode("utf-8")) as (allowed, some), memory_file(signature) as (signed, more):
        for kind in dict.fromkeys(kind for kind, _ in keys):
            words = ["-Y", "verify", "-q", "-n", NAMESPACE, "-f", allowed, "-I", kind, "-s", signed]
            if _ssh_keygen(words, feed=[data], descriptors=(*some, *more)).returncode == 0:
                return kind
    return ""


def _signature(folder: Path) -> bytes:
    """The bytes of a set's signature, read through no link; empty where there is none."""
    with contextlib.suppress(OSError):
        handle = os.open(folder / SIGNATURE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            return stream.read(LONGEST)
    return b""


def _own_key(state_dir: str) -> Path:
    """The private key of this host. It gets its name last, whole, and never replaces another."""
    folder = ensure_folder(Path(state_dir))
    path = folder / KEY
    if path.is_file():
        return path
    with file_errors("Making a key in", folder), tempfile.TemporaryDirectory(prefix=f".{KEY}.", dir=folder) as made:
        new = Path(made, KEY)
        comment = f"scannerdb@{socket.gethostname()}"
        finished = _ssh_keygen(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(new)])
        if finished.returncode != 0:
            raise tool_error(SSH_KEYGEN, finished)
        with contextlib.suppress(FileExistsError):  # another run was first
            os.link(new, path)
            write_atomic(folder / f"{KEY}.pub", Path(f"{new}.pub").read_bytes(), mode=0o644)
    return path


def _ssh_keygen(
    words: Sequence[str], feed: Optional[Sequence[bytes]] = None, descriptors: tuple[int, ...] = ()
) -> Finished:
    return run_tool([SSH_KEYGEN, *words], None, check=False, feed=feed, descriptors=descriptors)
