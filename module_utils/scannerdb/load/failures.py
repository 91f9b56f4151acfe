"""What pg_restore says it could not make, taken apart: which entry, in what words, what kind of failure. Pure.

Words come in the server's language, so they are shown and decide nothing. What decides is the server's own state of
the error, from a second attempt, and what pg_restore says of itself, whose words we know: it runs with LC_MESSAGES=C.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional

from .contents import Contents, ContentsEntry
from .leave_out import item_of, quoted

_AT = re.compile(r"^pg_restore: from TOC entry (\d+);", re.MULTILINE)
_NUMBER = re.compile(r"^-- TOC entry (\d+) \(", re.MULTILINE)
_COPY = re.compile(r'^pg_restore: error: COPY failed for table "((?:.|\n)*?)": ')
_FAILED = re.compile(r"^pg_restore: error: ", re.MULTILINE)
_HEAD = re.compile(
    r"^pg_restore: error: (?:could not execute query: |error returned by PQputCopy\w+: |"
    r"COPY failed for table \"(?:.|\n)*?\": )?"
)
# States of an error that what was backed up has itself: its data (22, 23), what its own functions say (P0), names in
# its definitions that lead nowhere, and definitions that contradict each other.
FAULTS_OF_THE_SET = ("22", "23", "P0", "42P01", "42703", "42883", "42P17", "42804", "42P16", "21000")
ACCESSORIES = ("COMMENT", "ACL", "SECURITY LABEL")
INVALID_PARAMETER = "22023"  # a setting that this server does not take: a tablespace that it has not, say
MOST_WORDS = 700
_HINTS = {
    "42501": "The role that restores lacks a right: run as a superuser, or drill in the other place "
    "(scannerdb_verify_place).",
    "0A000": "This server lacks what the backup needs: use one like the original, with the same packages.",
    "58": "This server lacks what the backup needs: install the same extensions and libraries there.",
    "42704": "This server lacks what the backup names (a role, a tablespace, a type of an extension): make it there.",
    "53": "The server is out of a resource: look at its disk, memory and connections.",
    "57": "The server or somebody ended the work: run again.",
    "": "Look at the server's log, and run again.",
}


@dataclass(frozen=True)
class Failure:
    """One entry that could not be made. `entry` is None where pg_restore failed outside of one.

    `state` is the server's state of the error in the second attempt, empty where there was none; `unreadable` says that
    pg_restore itself cannot get the entry out of the archive; `guessed`, that it may have been another of that name;
    `constraint` is the CHECK that a table's rows do not pass.
    """

    entry: Optional[ContentsEntry]
    said: str
    state: str = ""
    unreadable: bool = False
    guessed: bool = False
    constraint: str = ""

    @property
    def refresh(self) -> bool:
        """True for the rows of a materialized view, which come last."""
        return self.entry is not None and self.entry.kind == "MATERIALIZED VIEW DATA"

    @property
    def accessory(self) -> bool:
        """True for what only speaks of another object: comments, privileges, labels."""
        return self.entry is not None and self.entry.kind in ACCESSORIES

    @property
    def faulty(self) -> bool:
        """True where what was backed up is known to be the reason; the surroundings may be where it is not."""
        return self.unreadable or (self.state.startswith(FAULTS_OF_THE_SET) and self.state != INVALID_PARAMETER)

    @property
    def hint(self) -> str:
        """What helps where the surroundings may be the reason."""
        return next((hint for start, hint in _HINTS.items() if self.state.startswith(start)), _HINTS[""])

    def name(self, contents: Contents) -> str:
        """What scannerdb_restore_leave_out calls it; empty where it has no name."""
        item = item_of(self.entry, contents.owners) if self.entry else ""
        return f"{item}.{quoted(self.constraint)}" if self.constraint else item

    def sentence(self, contents: Contents) -> str:
        """What could not be made, and why, as a sentence."""
        what = f"{self.entry.kind.lower()} {self.name(contents)}" if self.entry else "something outside of its contents"
        return f"The {what} cannot be made: {self.said[:MOST_WORDS].rstrip('.')}."


def failures_in(stderr: str, contents: Contents, harmless: re.Pattern[str], script: Callable[[], str]) -> list[Failure]:
    """The entries that failed, each with its first error, context and command; without the `harmless` errors. Pure.

    pg_restore's parallel workers do not say at which entry they are. Then the command is looked for in the archive's
    `script`, as pg_restore prints it with --verbose.
    """
    by_number = {entry.line.partition(";")[0]: entry for entry in contents.entries}
    found: dict[object, Failure] = {}
    now, text = "", ""
    for block in re.split(r"^(?=pg_restore: )", stderr, flags=re.MULTILINE):
        at = _AT.match(block)
        if at:
            now = at.group(1)
        elif _FAILED.match(block) and not harmless.search(block):
            entries = [by_number[now]] if now in by_number else _by_table(block, contents)
            if not entries:
                text = text or script()
                entries = [by_number[number] for number in _numbers(block, text) if number in by_number]
            said = " ".join(_HEAD.sub("", block, 1).split())
            for entry in entries:
                found.setdefault(entry, Failure(entry, said, guessed=len(entries) > 1))
            if not entries:
                found.setdefault(block, Failure(None, said))
    failures = list(found.values())
    # A name with a line like pg_restore's own in it cuts its error into pieces; one of them has the command.
    cut = any(failure.entry and "pg_restore: " in failure.entry.label for failure in failures)
    return [failure for failure in failures if failure.entry] if cut else failures


def _by_table(block: str, contents: Contents) -> list[ContentsEntry]:
    """The rows that a COPY was about, whose table comes without its schema."""
    match = _COPY.match(block)
    return [e for e in contents.of("TABLE DATA") if match and f"{e.rest} ".startswith(f"{match.group(1)} ")]


def _numbers(block: str, script: str) -> list[str]:
    """The numbers of the entries whose SQL begins a statement with the command that failed, which is cut off."""
    command = block.partition("\nCommand was: ")[2].strip()
    command = command[:-3] if command.endswith("...") else command
    found: dict[str, None] = {}
    start = script.find("\n" + command) if command else -1
    while start >= 0:
        numbers = _NUMBER.findall(script, 0, start + 1)
        if numbers:
            found[numbers[-1]] = None
        start = script.find("\n" + command, start + 1)
    return list(found)


def summed_up(failures: Sequence[Failure], contents: Contents, most: int = 5) -> str:
    """The first failures as sentences; without those of accessories to what is not there. Pure."""
    failures = [failure for failure in failures if not failure.accessory] or failures
    told = " ".join(failure.sentence(contents) for failure in failures[:most])
    more = f" ({len(failures)} failures in all.)" if len(failures) > most else ""
    return told + more


def remedy(failures: Sequence[Failure], contents: Contents) -> str:
    """What helps against failures of the set's own objects. Pure."""
    names = ", ".join(
        dict.fromkeys(name for failure in failures if not failure.accessory and (name := failure.name(contents)))
    )
    return (
        "Repair these objects in the database and make a new backup: a function in an index, a CHECK or a materialized "
        "view names its tables with their schemas, or has a search_path of its own (ALTER FUNCTION … SET search_path). "
        f"To restore all the rest, set scannerdb_restore_leave_out to [{names}]."
        if names
        else ""
    )
