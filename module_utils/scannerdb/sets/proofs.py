"""Which verifications of a set count: what this host saw itself, and what the hosts whose keys are known here signed.

A record lies beside the set, so whoever can write to the backup folder can write it. Passes count where the state
folder's own history has the same, or where their signature is of a known key. Failures count whoever wrote them: who
can forge one can remove the set as well. A failure that this host saw is in its history, and stays though the line
beside the set is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ScannerDbError, ToolMissing
from .known_hashes import are_records_open, close_records
from .signing import NOBODY, Trust, signed, signer_of
from .verification_log import (
    UNREADABLE,
    Entry,
    Verification,
    VerificationStatus,
    append_history,
    append_record,
    read_entries,
    signed_text,
    standing,
)

NAMESPACE = "scannerdb-verification"
MOST_SIGNATURES = 10  # of one set, the newest: each costs a start of ssh-keygen
LONGEST_HISTORY = 64 << 20  # bytes: some hundred thousand verifications


@dataclass(frozen=True)
class Witness:
    """Who is believed, and what this host itself has seen of each set, by the SHA-256 of its manifest."""

    trust: Trust = NOBODY
    own: Mapping[str, Sequence[Verification]] = field(default_factory=dict)


def witness_of(trust: Trust) -> Witness:
    """The witness with the history in the state folder."""
    own: dict[str, list[Verification]] = {}
    if trust.state_dir:
        for entry in read_entries(Path(trust.state_dir), LONGEST_HISTORY):
            if entry.record is not UNREADABLE:  # nobody else writes there, and what it was of is not known
                own.setdefault(entry.record.manifest_sha256, []).append(entry.record)
    return Witness(trust, own)


def standing_of(path: Path, name: str, digest: str, witness: Witness) -> VerificationStatus:
    """What is known of the set in a folder: `name` and `digest` are its manifest's."""
    return standing(_counting(path, name, digest, witness), digest)


def _counting(path: Path, name: str, digest: str, witness: Witness) -> list[Verification]:
    """The records that count, in the order of their times; one without a time that counts stays behind the one before.

    That is what was not vouched for, or cannot be read; where the whole record was cut off, it stands last.
    """
    entries, own = read_entries(path), witness.own.get(digest, [])
    believed = _believed(entries, name, digest, witness)
    timed: list[tuple[str, Verification]] = []
    at = "~" if len(entries) == 1 else ""
    for entry in entries:
        if entry in believed:
            at = entry.record.at
        elif entry.record.ok:
            continue
        timed.append((at, entry.record))
    seen = {entry.record for entry in believed}
    timed += [(record.at, record) for record in own if record not in seen]
    return [record for _, record in sorted(timed, key=lambda pair: pair[0])]


def _believed(entries: Sequence[Entry], name: str, digest: str, witness: Witness) -> list[Entry]:
    """The entries that this host has seen itself, or that a known key has signed."""
    readable = [entry for entry in entries if entry.record is not UNREADABLE]
    if are_records_open(witness.trust.state_dir, name, digest):
        return readable
    own = witness.own.get(digest, [])
    mine = [entry for entry in readable if entry.record in own]
    others = [entry for entry in readable if entry.signature and entry.record not in own]
    return [*mine, *_signed(others[-MOST_SIGNATURES:], witness.trust)]


def _signed(entries: Sequence[Entry], trust: Trust) -> list[Entry]:
    keys = trust.keys() if entries else []
    try:
        return [e for e in entries if keys and signer_of(e.signed, e.signature, keys, NAMESPACE)]
    except ToolMissing:
        return []


def signature_of(record: Verification, state_dir: str) -> str:
    """This host's signature of a record; empty where it can make none, and then only its own history knows."""
    try:
        return signed(signed_text(record), state_dir, NAMESPACE).decode("ascii") if state_dir else ""
    except ScannerDbError:
        return ""


def remember(folder: Path, name: str, record: Verification, state_dir: str) -> None:
    """Add a verification to a set's record and to the host's own history: a failure there first."""
    signature = signature_of(record, state_dir)
    if record.ok:
        append_record(folder, record, signature)
        append_history(state_dir, name, record)
        return
    try:
        append_history(state_dir, name, record)
    finally:
        append_record(folder, record, signature)


def adopt_records(folder: Path, name: str, digest: str, state_dir: str) -> bool:
    """Take what an earlier release noted beside a set of this host into its history, once; whether it did.

    From then on only what the history has, or a known key has signed, counts for that set.
    """
    if not are_records_open(state_dir, name, digest):
        return False
    own = witness_of(Trust(state_dir)).own.get(digest, [])
    for entry in read_entries(folder):
        if entry.record is not UNREADABLE and entry.record.manifest_sha256 == digest and entry.record not in own:
            append_history(state_dir, name, entry.record)
    close_records(state_dir, name)
    return True
