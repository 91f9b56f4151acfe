"""This host's signing key, the keys that are known here, and signatures made and verified with `ssh-keygen`."""

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

from ..errors import InvalidInput
from ..files import ensure_folder, file_errors, write_atomic
from ..process import Finished, memory_file, run_tool, tool_error

KEY = "signing_key"
SSH_KEYGEN = "ssh-keygen"
OWN, TRUSTED = "own", "trusted"
_PUBLIC = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}(?: [^\r\n]*)?")


@dataclass(frozen=True)
class Trust:
    """Whose sets may be restored, and whose word on a set counts: this host's and that of the `signers` (public keys).

    `spelled` is the SHA-256 of a manifest, or of a file that is no set.
    """

    state_dir: str = ""
    signers: tuple[str, ...] = ()
    spelled: str = ""

    def keys(self) -> list[tuple[str, str]]:
        """The public keys that are known here, each with the kind of its owner."""
        own = public_key(self.state_dir)
        return [*([(OWN, own)] if own else []), *((TRUSTED, key.strip()) for key in self.signers)]

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


NOBODY = Trust()  # no set is known by it, and nobody's proof counts


def public_key(state_dir: str) -> str:
    """This host's public key, one line; empty where there is none yet."""
    path = Path(state_dir, f"{KEY}.pub")
    if not state_dir or not path.is_file():
        return ""
    with file_errors("Reading", path):
        return path.read_text(encoding="utf-8", errors="replace").strip()


def signed(data: bytes, state_dir: str, namespace: str) -> bytes:
    """A signature with this host's key, which is made where it is missing; raises one of our errors."""
    words = ["-Y", "sign", "-q", "-n", namespace, "-f", str(_own_key(state_dir))]
    finished = _ssh_keygen(words, feed=[data])
    if finished.returncode != 0 or not finished.stdout:
        raise tool_error(SSH_KEYGEN, finished)
    return finished.stdout.encode("ascii")


def signer_of(data: bytes, signature: bytes, keys: Sequence[tuple[str, str]], namespace: str) -> str:
    """Which kind of key made a signature; empty for none of them."""
    lines = "".join(f'{kind} namespaces="{namespace}" {key}\n' for kind, key in keys)
    with memory_file(lines.encode("utf-8")) as (allowed, some), memory_file(signature) as (sealed, more):
        for kind in dict.fromkeys(kind for kind, _ in keys):
            words = ["-Y", "verify", "-q", "-n", namespace, "-f", allowed, "-I", kind, "-s", sealed]
            if _ssh_keygen(words, feed=[data], descriptors=(*some, *more)).returncode == 0:
                return kind
    return ""


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
