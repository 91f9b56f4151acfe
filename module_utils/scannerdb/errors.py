"""Every error the bundle raises, as one tree.

An error is a sentence: what failed, on which object, and what to do. `message` holds the first two, `hint` the
third; `done` is what was changed before. A module turns any of them into `fail_json` and nothing else.
"""

from __future__ import annotations

from typing import Any

LONGEST_NAME = 64


def quoted(name: str) -> str:
    """A name or text from outside, for a sentence: in quotes, of bounded length, without control characters. Pure."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in name[:LONGEST_NAME])
    return repr(shown) + ("…" if len(name) > LONGEST_NAME else "")


def printable(value: Any) -> Any:
    """A value in which every text is UTF-8: other bytes, of a database without an encoding, are escaped. Pure."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {printable(key): printable(inner) for key, inner in value.items()}
    return [printable(inner) for inner in value] if isinstance(value, (list, tuple)) else value


class ScannerDbError(Exception):
    """Base of all errors; `str()` gives the whole sentence."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message: str = printable(message)
        self.hint: str = printable(hint)
        super().__init__(f"{self.message} {self.hint}".strip())
        self.done: dict[str, Any] = {}  # what a job had changed before it failed, as its result

    @property
    def result(self) -> dict[str, Any]:
        """What a module answers: the sentence, and what was changed before."""
        return {"msg": str(self), **printable(self.done)}


class DependencyMissing(ScannerDbError):
    """A Python library is not installed where the module runs."""


class ConnectionFailed(ScannerDbError):
    """The server could not be reached, or the connection was cut."""


class PrimaryMoved(ConnectionFailed):
    """The server is not the primary any more that the run began with: another one has taken its place."""


class PrimaryUnseen(ConnectionFailed):
    """Whether the server is the primary still could not be looked at, so nothing is written there."""


class AuthenticationFailed(ScannerDbError):
    """The server refused the login."""


class DatabaseMissing(ScannerDbError):
    """The server has no database of that name."""


class PrivilegeMissing(ScannerDbError):
    """The role may not do what was asked."""


class RowsHidden(PrivilegeMissing):
    """Row security hides rows from everybody who may act: what is not seen is neither judged nor changed."""


class ServerUnsupported(ScannerDbError):
    """The server is too old, or in a state (standby) in which the job cannot run."""


class QueryFailed(ScannerDbError):
    """The server refused a statement for a reason not listed here."""


class LockTimeout(ScannerDbError):
    """A lock could not be had within its deadline; nothing was changed by that statement."""


class JobLocked(ScannerDbError):
    """Another run is at work on the same database."""


class ToolMissing(ScannerDbError):
    """pg_dump, pg_restore or another client tool is not installed, or none is new enough."""


class ToolFailed(ScannerDbError):
    """A client tool ended with an error."""


class BackupUnseen(ToolFailed):
    """A backup was made, as its engine says, and could not be listed afterwards."""


class FileProblem(ScannerDbError):
    """A file or folder cannot be written or read: permissions, a full disk, a wrong path."""


class InvalidInput(ScannerDbError):
    """An option, a variable or an overlay makes no sense."""


class BackupInvalid(ScannerDbError):
    """A backup set or file is damaged, incomplete or not what it says."""


class FixRefused(ScannerDbError):
    """A fix run stopped before anything was changed: no fresh backup, or a fix that would touch too much."""


class FixLeft(ScannerDbError):
    """A fix that cannot be done as things are: it is left, with this reason, and counts as no failure."""


class UnsafeCode(ScannerDbError):
    """Code of a lesser role would run with more rights than that role has."""


class RestoreRefused(ScannerDbError):
    """A restore stopped before anything the users see was changed."""


class TargetNotReached(RestoreRefused):
    """Recovery of a copy ended without its target: the backup or its WAL does not hold what the archive says."""


class PhysicalRefused(ScannerDbError):
    """A physical backup stopped before it began: no stanza, a foreign cluster, no archiving."""


class MigrationRefused(ScannerDbError):
    """A migration of an older layout stopped before anything the users see was changed."""


class ValidationFailed(ScannerDbError):
    """What was built does not pass its own proof (write probe, row counts, contract)."""
