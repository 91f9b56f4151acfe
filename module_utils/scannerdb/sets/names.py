"""Names of backup sets and logs: made, read back, and told apart from other people's files. Pure."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Optional
from urllib.parse import quote, unquote

from ..errors import InvalidInput

LATEST = "latest.backup"
SUFFIX = ".backup"
STAMP = "%Y%m%d_%H%M%S"
_SET = re.compile(r"^(?P<slug>.+)_(?P<stamp>\d{8}_\d{6})\.backup$")
_LOG = re.compile(r"^backup_(?P<stamp>\d{8}_\d{6})\.log$")
_SLUG = re.compile(r"^[A-Za-z0-9_%][A-Za-z0-9_.%-]*$")


def slug(dbname: str) -> str:
    """A database's name as part of a file name: letters, digits, `_`, `-` and `.` stay, other bytes become `%XX`.

    Different names have different slugs. A leading `.` or `-` is written as `%XX` too, so that no set is hidden or
    looks like an option. A name of 63 bytes gives at most 189.
    """
    # quote() lets "~" through as well: portable shells would expand it.
    text = quote(dbname, safe="").replace("~", "%7E")
    if text[:1] in (".", "-"):
        text = f"%{ord(text[0]):02X}{text[1:]}"
    return text


def unslug(text: str) -> str:
    """The database's name out of a slug."""
    return unquote(text, errors="strict")


def set_name(dbname: str, when: datetime.datetime) -> str:
    """The name of a set's folder, e.g. `ollama_scanner_20250418_120000.backup`."""
    return f"{slug(dbname)}_{when:{STAMP}}{SUFFIX}"


def parse_set_name(name: str) -> Optional[tuple[str, datetime.datetime]]:
    """The database and the UTC time that a set's name tells; None where it is no such name."""
    match = _SET.match(name)
    if not match or not _SLUG.match(match["slug"]):
        return None
    when = parse_stamp(match["stamp"])
    try:
        dbname = unslug(match["slug"])
    except UnicodeDecodeError:
        return None
    return (dbname, when) if when and slug(dbname) == match["slug"] else None


def log_name(when: datetime.datetime) -> str:
    """The name of a run's log, e.g. `backup_20250418_120000.log`."""
    return f"backup_{when:{STAMP}}.log"


def parse_log_name(name: str) -> Optional[datetime.datetime]:
    """The UTC time that a log's name tells; None where it is not one of a backup run."""
    match = _LOG.match(name)
    return parse_stamp(match["stamp"]) if match else None


def parse_stamp(text: str) -> Optional[datetime.datetime]:
    """`20250418_120000` as a time in UTC; None where it is none."""
    try:
        return datetime.datetime.strptime(text, STAMP).replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return None


def parse_time(text: str) -> datetime.datetime:
    """A manifest's `2025-04-18T12:00:00Z` as a time; raises ValueError."""
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)


def format_time(when: datetime.datetime) -> str:
    """A time in UTC as manifests write it."""
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def checked_folder(folder: str) -> Path:
    """The backup folder, unless it is no absolute path."""
    if not folder or not Path(folder).is_absolute():
        raise InvalidInput(f"backup_dir is {folder!r}.", "Give an absolute path in scannerdb_backup_dir.")
    return Path(folder)
