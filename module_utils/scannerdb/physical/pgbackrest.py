"""pgBackRest behind the engine's five verbs: the one file that knows its command line and its JSON."""

from __future__ import annotations

import datetime
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import BackupInvalid, BackupUnseen, InvalidInput, ScannerDbError, ToolFailed, ToolMissing
from ..jsontext import read_json
from ..process import Finished, as_system_user, run_tool
from .archive import SEGMENT_BYTES, parse_lsn, parse_segment
from .engine import KINDS, ClusterIdentity, Expiry, MadeBackup, Recovery, Repository, Verification
from .window import ArchiveSegment, Fork, PhysicalBackup, Window, parse_history, windows

DAMAGED = (26, 29, 55, 95)  # a checksum, a format, a missing file, what cannot be decrypted
LONGEST_PROBLEM = 300
LISTED = (0, 1, 2, 3)  # codes of a repository: good, no stanza, no backup, no data of a stanza
PROGRAM = "pgbackrest"
STANZA = re.compile(r"[\w][\w.-]*", re.ASCII)
ARCHIVED = re.compile(r"([^/]+)/[0-9A-F]{16}/([0-9A-F]{24})-[0-9a-f]{40}(?:\.\w+)?")
HISTORY = re.compile(r"([^/]+)/([0-9A-F]{8})\.history(?:-[0-9a-f]{40})?")
CONTROL = re.compile(r"[\x00-\x1f]+")
WORDS = re.compile(r"^(?:P\d+\s+)?(?:WARN|ERROR):\s*(?:\[\d+\]:\s*)?", re.MULTILINE)
# What pgBackRest's exit status and the code of a repository mean, and what to do.
FOREIGN = 'The stanza belongs to another cluster: see docs/physical.md, "A foreign cluster".'
HINTS = {
    28: FOREIGN,
    38: "A server runs in that folder: stop it, or restore into another one.",
    40: "The folder is not empty: choose another one, or restore with delta.",
    44: FOREIGN,
    45: "A segment of that name with other contents is in the archive: another cluster writes to this stanza.",
    46: "This version of pgBackRest does not know that PostgreSQL: install a newer one.",
    49: "The host of the repository does not answer: is it up, and does it know our key?",
    50: "Another pgBackRest command is at work on this stanza: try again when it has ended.",
    51: FOREIGN,
    55: "Either there is no stanza (playbooks/deploy.yml makes it), or the configuration names another repository.",
    56: "Is the server up, and does pg1-socket-path, pg1-port or pg1-user in pgBackRest's configuration lead to it?",
    58: FOREIGN,
    75: "No backup ended before that moment: playbooks/backups.yml shows what can be restored.",
    82: "The server's archive_command does not reach the repository: see the server's log.",
    95: "The passphrase is not that of the repository: set the one with which it was made.",
}


@dataclass(frozen=True)
class PgBackRest:
    """A stanza of pgBackRest on this machine. `user` runs it where we are root: the owner of the cluster's files."""

    stanza: str
    config: str = ""
    user: str = ""
    program: str = PROGRAM
    segment_bytes: int = SEGMENT_BYTES
    processes: int = 0

    def __post_init__(self) -> None:
        if not STANZA.fullmatch(self.stanza):
            raise InvalidInput(f"{self.stanza[:40]!r} is no name of a stanza.", "It takes letters, digits, _, . and -.")

    def make(self, kind: str, repository: int = 1, on_tick: Callable[[], object] | None = None) -> MadeBackup:
        """Make a backup; what counts is that it is in the list afterwards, not the exit status."""
        if kind not in KINDS:
            raise InvalidInput(f"{kind!r} is no kind of a physical backup.", f"Kinds are {', '.join(KINDS)}.")
        before = {backup.label for backup in self._backups(repository)}
        began = time.monotonic()
        words = (f"--repo={repository}", f"--type={kind}", "--no-expire-auto", *self._in_parallel())
        finished = self._run("backup", *words, check=False, on_tick=on_tick)
        failed = command_error("backup", finished) if finished.returncode else None
        try:
            fresh = [backup for backup in self._backups(repository) if backup.label not in before]
        except ScannerDbError as error:
            raise failed or BackupUnseen(
                f"pgbackrest backup ended without an error, and what it made could not be listed: {error.message}",
                error.hint,
            ) from error
        if not fresh:
            raise failed or ToolFailed(
                "pgbackrest backup ended without an error, but there is no new backup.", "Look at pgBackRest's own log."
            )
        warnings = (*_lines(finished.stderr), *([failed.message] if failed else []))
        return MadeBackup(fresh[-1], time.monotonic() - began, warnings)

    def list(self) -> Sequence[Repository]:
        """Backups by `info`, segments by a listing of the archive's files."""
        found = []
        for repository in parse_info(self._info(), self.segment_bytes):
            try:
                found.append(self._with_archive(repository))
            except ToolFailed as error:  # the others can be looked at
                found.append(replace(repository, problem=_first_line(error.message)))
        return found

    def verify(self) -> Verification:
        """`verify` of pgBackRest: checksums of what is there. It exits 0 where it found damage, and for no stanza."""
        problems = [repository for repository in parse_info(self._info(), self.segment_bytes) if repository.problem]
        if problems:
            return Verification(False, tuple(f"repository {p.key}: {p.problem}" for p in problems))
        found = [self._verified(repository.key) for repository in parse_info(self._info(), self.segment_bytes)]
        return Verification(all(one.ok for one in found), tuple(note for one in found for note in one.notes))

    def _verified(self, repository: int) -> Verification:
        finished = self._run("verify", f"--repo={repository}", "--output=text", check=False)
        said = [line.strip() for line in finished.stdout.splitlines() if line.strip()]
        sound = finished.returncode == 0 and (not said or "status: ok" in said)
        return Verification(sound, (*said, *_lines(finished.stderr)))

    def window(self) -> Sequence[Window]:
        """The windows of every repository, of the cluster that is backed up now."""
        return [found for repository in self.list() for found in windows_of(repository, self.segment_bytes)]

    def expire(self, repository: int = 1) -> Expiry:
        """Remove what retention says of a repository."""
        before = [backup.label for backup in self._backups(repository)]
        finished = self._run("expire", f"--repo={repository}", check=False)
        why = str(command_error("expire", finished)) if finished.returncode else ""
        try:
            left = {backup.label for backup in self._backups(repository)}
        except ScannerDbError as error:
            return Expiry((), f"{why} What pgbackrest expire removed could not be listed: {error}".strip())
        return Expiry(tuple(label for label in before if label not in left), why)

    def restore(
        self,
        folder: Path,
        recovery: Recovery,
        *,
        label: str = "",
        delta: bool = False,
        repository: int = 0,
        tablespaces: Mapping[str, str] | None = None,
        archive_mode: str = "off",
        on_tick: Callable[[], object] | None = None,
    ) -> None:
        """`restore` into a folder beside the live one."""
        arguments = [f"--pg1-path={folder}", f"--archive-mode={archive_mode}", *recovery_arguments(recovery)]
        arguments += [f"--set={label}"] if label else []
        arguments += [f"--repo={repository}"] if repository else []
        # Without PG_VERSION pgBackRest switches delta off by itself, and then refuses what is in the folder.
        arguments += ["--delta"] if delta else []
        for name, path in (tablespaces or {}).items():
            arguments.append(f"--tablespace-map-all={path}" if name == "*" else f"--tablespace-map={name}={path}")
        self._run("restore", *arguments, *self._in_parallel(), on_tick=on_tick)

    def fetch(self, segment: str, path: Path) -> bool:
        """`archive-get`; exit status 1 says that there is no such segment."""
        finished = self._run("archive-get", segment, str(path), check=False)
        if finished.returncode not in (0, 1):
            raise command_error("archive-get", finished)
        return finished.returncode == 0 and path.exists()

    def _backups(self, repository: int) -> Sequence[PhysicalBackup]:
        """Those of one repository, oldest first; raises `ToolFailed` where it cannot be looked at."""
        seen = [one for one in parse_info(self._info(), self.segment_bytes) if one.key == repository]
        if not seen or seen[0].code not in LISTED:
            problem = seen[0].problem if seen else "it is not configured"
            raise ToolFailed(f"Repository {repository} cannot be looked at: {problem}.", "Is the way to it open?")
        return sorted(seen[0].backups, key=lambda backup: backup.stopped)

    def _info(self) -> Any:
        return _json(self._run("info", "--output=json").stdout, "info")

    def _with_archive(self, repository: Repository) -> Repository:
        """The repository with what lies in its archive."""
        if not repository.clusters:
            return repository
        where = f"archive/{self.stanza}"
        finished = self._run("repo-ls", f"--repo={repository.key}", "--recurse", "--output=json", where)
        listing = _json(finished.stdout, "repo-ls")
        segments = parse_listing(listing, self.segment_bytes)
        histories: dict[str, dict[int, tuple[Fork, ...]]] = {}
        for path in sorted(listing):
            match = HISTORY.fullmatch(path)
            if match:
                text = self._run("repo-get", f"--repo={repository.key}", f"{where}/{path}").stdout
                histories.setdefault(match.group(1), {})[int(match.group(2), 16)] = parse_history(text)
        return replace(repository, segments=segments, histories=histories)

    def _in_parallel(self) -> Sequence[str]:
        return [f"--process-max={self.processes}"] if self.processes else []

    def _run(self, command: str, *arguments: str, check: bool = True, on_tick: Any = None) -> Finished:
        """Run one command of pgBackRest. Its messages come on the standard error alone."""
        program = shutil.which(self.program)
        if not program:
            raise ToolMissing(f"There is no {self.program} on this machine.", "Install the package pgbackrest.")
        words = [program, command, f"--stanza={self.stanza}", "--log-level-console=off", "--log-level-stderr=warn"]
        words += ["--log-timestamp=n", *([f"--config={self.config}"] if self.config else []), *arguments]
        finished = run_tool(as_system_user(self.user, words), None, check=False, on_tick=on_tick)
        if check and finished.returncode:
            raise command_error(command, finished)
        return finished


def windows_of(repository: Repository, segment_bytes: int = SEGMENT_BYTES) -> Sequence[Window]:
    """The windows of the cluster that a repository backs up now. Pure."""
    archive_id = repository.archive_id
    return windows(
        [backup for backup in repository.backups if backup.archive_id == archive_id],
        repository.segments.get(archive_id, ()),
        repository.histories.get(archive_id, {}),
        segment_bytes,
    )


def recovery_arguments(recovery: Recovery) -> Sequence[str]:
    """The options of `restore` that say where recovery ends. Pure."""
    arguments = [f"--type={recovery.kind}"]
    if recovery.target:
        arguments.append(f"--target={recovery.target}")
    if recovery.kind != "default":  # without a target there is nothing to do at it
        arguments.append(f"--target-action={recovery.action}")
    if recovery.timeline:
        arguments.append(f"--target-timeline={recovery.timeline}")
    if not recovery.inclusive:
        arguments.append("--target-exclusive")
    return arguments


def parse_info(answer: Any, segment_bytes: int = SEGMENT_BYTES) -> Sequence[Repository]:
    """The repositories out of `info --output=json` of one stanza, without their archives. Pure."""
    try:
        return [_repository(stanza, repo, segment_bytes) for stanza in answer for repo in stanza["repo"]]
    except (AttributeError, KeyError, TypeError, ValueError, ScannerDbError) as error:
        raise ToolFailed(
            f"pgbackrest info answered with something that cannot be read ({type(error).__name__}: {error}).",
            "Versions from 2.45 on are known to work.",
        ) from error


def parse_listing(
    listing: Mapping[str, Any], segment_bytes: int = SEGMENT_BYTES
) -> dict[str, tuple[ArchiveSegment, ...]]:
    """The whole segments out of `repo-ls --recurse --output=json` of an archive, by its id. Pure.

    What is partial, a label of a backup or a file of pgBackRest's own is none.
    """
    found: dict[str, list[ArchiveSegment]] = {}
    for path, facts in listing.items():
        match = ARCHIVED.fullmatch(path)
        if match and facts.get("type") == "file":
            timeline, number = parse_segment(match.group(2), segment_bytes)
            archived = _moment(facts["time"])
            segment = ArchiveSegment(timeline, number, archived, match.group(2), int(facts["size"]))
            found.setdefault(match.group(1), []).append(segment)
    return {archive: tuple(sorted(many, key=lambda s: (s.timeline, s.number))) for archive, many in found.items()}


def _repository(stanza: Mapping[str, Any], repo: Mapping[str, Any], segment_bytes: int) -> Repository:
    key = int(repo["key"])
    clusters = [
        ClusterIdentity(f"{db['version']}-{db['id']}", int(db["system-id"]), str(db["version"]))
        for db in stanza["db"]
        if db["repo-key"] == key
    ]
    versions = {int(db["id"]): f"{db['version']}-{db['id']}" for db in stanza["db"] if db["repo-key"] == key}
    backups = [
        _backup(backup, versions, segment_bytes) for backup in stanza["backup"] if backup["database"]["repo-key"] == key
    ]
    status = repo["status"]
    code = int(status["code"])
    return Repository(
        key,
        tuple(clusters),
        tuple(backups),
        encrypted=repo.get("cipher", "none") != "none",
        problem=_first_line(str(status["message"])) if code else "",
        code=code,
    )


def _backup(backup: Mapping[str, Any], versions: Mapping[int, str], segment_bytes: int) -> PhysicalBackup:
    timeline, first = parse_segment(backup["archive"]["start"], segment_bytes)
    _, last = parse_segment(backup["archive"]["stop"], segment_bytes)
    info, repository = backup["info"], backup["info"]["repository"]
    return PhysicalBackup(
        label=str(backup["label"]),
        kind=str(backup["type"]),
        started=_moment(backup["timestamp"]["start"]),
        stopped=_moment(backup["timestamp"]["stop"]),
        start_lsn=parse_lsn(backup["lsn"]["start"]),
        stop_lsn=parse_lsn(backup["lsn"]["stop"]),
        start_segment=first,
        stop_segment=last,
        timeline=timeline,
        size_bytes=int(info["size"]),
        # A later version that bundles blocks does not say what a whole set takes.
        repository_bytes=int(repository.get("size") or repository["delta"]),
        page_errors=bool(backup.get("error")),
        prior=str(backup.get("prior") or ""),
        archive_id=versions.get(int(backup["database"]["id"]), ""),
        repository=int(backup["database"]["repo-key"]),
        references=tuple(str(label) for label in backup.get("reference") or ()),
        delta_bytes=int(repository["delta"]),
    )


def _first_line(message: str) -> str:
    """What a status says first; further lines may hold bytes of a file that was opened with a wrong key."""
    line = next(iter(message.splitlines()), "")
    return "".join(letter for letter in line if letter.isprintable())[:LONGEST_PROBLEM].rstrip(" :.")


def _moment(seconds: Any) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), tz=datetime.timezone.utc)


def _json(text: str, command: str) -> Any:
    """The answer. pgBackRest 2.45 writes messages of errors with their line ends into it, which is no JSON."""
    try:
        return read_json(CONTROL.sub(" ", text))
    except ValueError as error:
        raise ToolFailed(f"pgbackrest {command} answered with no JSON: {error}.") from error


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in (WORDS.sub("", raw.strip()) for raw in text.splitlines()) if line)


def command_error(command: str, finished: Finished) -> ScannerDbError:
    """The error for a command of pgBackRest that failed: its own words, and what to do.

    Of a restore, `BackupInvalid` where the files of the backup are to blame, and not what is around it.
    """
    said = " ".join(_lines(finished.stderr)) or f"it ended with code {finished.returncode} and said nothing"
    if finished.returncode < 0:
        said = f"it was ended by signal {-finished.returncode}. {said}"
    damaged = command == "restore" and finished.returncode in DAMAGED
    kind = BackupInvalid if damaged else ToolFailed
    return kind(f"pgbackrest {command} failed: {said.rstrip('.')}.", HINTS.get(finished.returncode, ""))
