"""Sets that only the holder of a private key can read: every file is encrypted with age, to public keys alone.

The manifest stays readable, so that a set is listed, checked and let go like any other; it then describes the encrypted
files. The one of the plain set is among these, as `manifest.json.age`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BackupInvalid, InvalidInput, ToolMissing
from ..files import ensure_folder, ensure_free, remove_tree
from ..process import Finished, memory_file, run_tool, tool_error
from .catalogue import BackupSet, load_set
from .checksums import check_files, hash_files
from .manifest import ENCRYPTED_VERSION, MANIFEST, Encryption, Manifest, read_manifest, write_manifest
from .staging import borrowed

AGE = "age"
SUFFIX = ".age"


def _age(words: Sequence[str], descriptors: tuple[int, ...] = (), nice: int = 0) -> Finished:
    try:
        return run_tool([AGE, *words], None, check=False, descriptors=descriptors, nice=nice)
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


def encrypt_set(folder: Path, manifest: Manifest, recipients: Sequence[str], nice: int = 0) -> tuple[str, str]:
    """Encrypt every file of a finished set, and write its new manifest; the plain files are gone then.

    Returns the SHA-256 of the new manifest, and of the plain one.
    """
    plain = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    version = _age(["--version"]).stdout.strip()
    for relative in [*(record.path for record in manifest.files), MANIFEST]:
        path = folder / relative
        finished = _age(["--encrypt", *_to(recipients), f"--output={path}{SUFFIX}", str(path)], nice=nice)
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


@dataclass(frozen=True)
class Key:
    """A private key: the file it is in, or its own text, which is given at run time and never lies on the disk."""

    file: str = ""
    text: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.file or self.text)

    @property
    def told(self) -> str:
        """Which key is meant, for a sentence."""
        return "The key that was given" if self.text else f"The key in {self.file}"

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """A file for age to read the key from, and the descriptors that it must inherit."""
        if not self.text:
            yield self.file, ()
            return
        with memory_file(self.text.strip().encode("utf-8") + b"\n") as made:
            yield made


def require_key(item: BackupSet, key: Key) -> None:
    """Raise `InvalidInput` where an encrypted set would have to be read and there is no key."""
    if item.manifest.encryption and not (key.text or Path(key.file).is_file()):
        raise InvalidInput(
            f"Backup {item.name} is encrypted, and has to be read"
            + (f"; there is no file {key.file}." if key.file else "."),
            "Set scannerdb_backup_identity to the file of a private key, or scannerdb_backup_identity_key to its text.",
        )


@contextlib.contextmanager
def unlocked(item: BackupSet, key: Key, backup_dir: Path, database: str) -> Iterator[BackupSet]:
    """The plain set behind an encrypted one, in a hidden private folder that is gone after the block.

    `database` is whose next run removes it where this one is killed. Raises `InvalidInput` where the key does not fit,
    `BackupInvalid` where the set is not what it says.
    """
    require_key(item, key)
    ensure_free(ensure_folder(backup_dir), item.manifest.size_bytes, "the decrypted set")
    with borrowed(backup_dir, database) as folder:
        with key.opened() as (identity, descriptors):
            for record in item.manifest.files:
                words = [f"--identity={identity}", f"--output={folder / record.path[: -len(SUFFIX)]}"]
                _decrypt(item.path / record.path, words, descriptors, key)
        _, digest = read_manifest(folder)
        if not item.manifest.encryption or digest != item.manifest.encryption.plain_manifest_sha256:
            raise BackupInvalid(f"The manifest inside of {item.name} is not the one that was encrypted.")
        plain = load_set(folder)
        problems = check_files(folder, plain.manifest)
        if problems:
            raise BackupInvalid(f"What is inside of {item.name} is not what was encrypted: {' '.join(problems[:3])}")
        yield plain


def _decrypt(source: Path, words: Sequence[str], descriptors: tuple[int, ...], key: Key) -> None:
    ensure_folder(Path(words[-1].partition("=")[2]).parent)
    finished = _age(["--decrypt", *words, str(source)], descriptors)
    if finished.returncode == 0:
        return
    error = tool_error(AGE, finished)
    with source.open("rb") as stream:
        head = stream.read(3)
    if head == b"age" and any(
        word in finished.stderr
        for word in ("no identity matched", "identity file", "reading", "identities", "passphrase")
    ):
        raise InvalidInput(f"{key.told} does not open the backup: {error.message}", "Give another key.")
    raise BackupInvalid(f"{source.name} cannot be decrypted: {error.message}")
