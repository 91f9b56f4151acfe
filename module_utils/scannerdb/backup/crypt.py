"""Sets that only the holder of a private key can read: every file is encrypted with age, to public keys alone.

The manifest stays readable, so that a set is listed, checked and let go like any other; it then describes the encrypted
files. The one of the plain set is among these, as `manifest.json.age`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..connection import Options
from ..errors import BackupInvalid, FileProblem, InvalidInput, ToolMissing
from ..files import PRIVATE_FOLDER, ensure_folder, file_errors, free_bytes, remove_tree
from ..process import Finished, run_tool, tool_error
from .inventory import check_files, hash_files
from .manifest import ENCRYPTED_VERSION, MANIFEST, Encryption, Manifest, read_manifest, write_manifest
from .sets import BackupSet, load_set
from .workspace import hidden

AGE = "age"
SUFFIX = ".age"


def _age(words: Sequence[str]) -> Finished:
    try:
        return run_tool([AGE, *words], Options(), check=False)
    except ToolMissing as error:
        raise ToolMissing(error.message, "Install age, or empty scannerdb_backup_age_recipients.") from None


def _to(recipients: Sequence[str]) -> list[str]:
    return [f"--recipient={recipient}" for recipient in recipients]


def check_recipients(recipients: Sequence[str]) -> None:
    """Raise where age is not there or does not take the keys, before a backup is made for nothing."""
    if not recipients:
        return
    secret = [r for r in recipients if r.upper().startswith("AGE-SECRET-KEY-")]
    if secret:
        raise InvalidInput("A recipient is a private key.", "Give its public key (age-keygen -y); keep the other away.")
    finished = _age(["--encrypt", *_to(recipients), "--output=/dev/null", "/dev/null"])
    if finished.returncode != 0:
        raise InvalidInput(f"age does not take the recipients: {tool_error(AGE, finished).message}")


def encrypt_set(folder: Path, manifest: Manifest, recipients: Sequence[str]) -> tuple[str, str]:
    """Encrypt every file of a finished set, and write its new manifest; the plain files are gone then.

    Returns the SHA-256 of the new manifest, and of the plain one.
    """
    plain = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    version = _age(["--version"]).stdout.strip()
    for relative in [*(record.path for record in manifest.files), MANIFEST]:
        path = folder / relative
        finished = _age(["--encrypt", *_to(recipients), f"--output={path}{SUFFIX}", str(path)])
        if finished.returncode != 0:
            raise tool_error(AGE, finished)
        remove_tree(path)
    locked = dataclasses.replace(
        manifest,
        files=hash_files(folder, manifest.jobs),
        encryption=Encryption(f"age {version}", tuple(recipients), plain),
        format_version=ENCRYPTED_VERSION,
    )
    return write_manifest(folder, locked), plain


@contextlib.contextmanager
def unlocked(item: BackupSet, identity: str, backup_dir: Path) -> Iterator[BackupSet]:
    """The plain set behind an encrypted one, in a hidden private folder that is gone after the block.

    A killed run leaves it to the next sweep. Raises `InvalidInput` where the key does not fit, `BackupInvalid` where
    the set is not what it says.
    """
    folder = hidden(ensure_folder(backup_dir), item.name)
    needed, free = item.manifest.size_bytes, free_bytes(backup_dir)
    if free < needed:
        raise FileProblem(
            f"{backup_dir} has {free >> 20} MiB free; the decrypted set needs about {needed >> 20} MiB.",
            "Free some space.",
        )
    with file_errors("Making the folder", folder):
        folder.mkdir(mode=PRIVATE_FOLDER)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for record in item.manifest.files:
            _decrypt(item.path / record.path, folder / record.path[: -len(SUFFIX)], identity)
        _, digest = read_manifest(folder)
        if not item.manifest.encryption or digest != item.manifest.encryption.plain_manifest_sha256:
            raise BackupInvalid(f"The manifest inside of {item.name} is not the one that was encrypted.")
        plain = load_set(folder)
        problems = check_files(folder, plain.manifest)
        if problems:
            raise BackupInvalid(f"What is inside of {item.name} is not what was encrypted: {' '.join(problems[:3])}")
        yield plain
    finally:
        os.close(handle)
        remove_tree(folder)


def _decrypt(source: Path, target: Path, identity: str) -> None:
    ensure_folder(target.parent)
    finished = _age(["--decrypt", f"--identity={identity}", f"--output={target}", str(source)])
    if finished.returncode == 0:
        return
    error = tool_error(AGE, finished)
    if source.read_bytes()[:3] == b"age" and any(
        word in finished.stderr
        for word in ("no identity matched", "identity file", "reading", "identities", "passphrase")
    ):
        raise InvalidInput(f"The key in {identity} does not open the backup: {error.message}", "Name another key file.")
    raise BackupInvalid(f"{source.name} cannot be decrypted: {error.message}")
