"""Moving in: what the old scripts left on a host is recognised; their cron lines are removed on request.

The `.env` is never touched, because the scanner itself reads it, and old backups are not either: retention takes them
over where `scannerdb_backup_adopt` names them.
"""

from __future__ import annotations

import json
import os
import pwd
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import FileProblem, InvalidInput
from ..files import file_errors, write_atomic
from ..legacy.crontab import MARK, old_lines, switched_off, without
from ..legacy.env import FILES, has_password, read_env, variables
from ..legacy.options import CRONTABS, MODES, LegacyOptions
from ..legacy.times import offered
from ..trusted import as_user, read_plain


@file_errors("Looking for old scripts", "on this machine")
def legacy(
    *, mode: str = LegacyOptions.mode, folder: str = "", crontabs: Sequence[str] = CRONTABS, check_mode: bool = False
) -> dict[str, Any]:
    """Recognise what the old scripts left; returns the module's result: `lines`, `env`, `backups`, `changed`, `diff`.

    `take` makes the old lines of the crontabs comments, `remove` removes them. `folder` is where the old scripts lie,
    where no line tells. Raises `InvalidInput`, `FileProblem`.
    """
    if mode not in MODES:
        raise InvalidInput(f"scannerdb_adopt_legacy is {mode!r}.", f"Choose one of {', '.join(MODES)}.")
    lines, places = [], {folder} if folder else set()
    diffs: list[dict[str, str]] = []
    for path in _files(crontabs):
        with file_errors("Reading", path):
            before, facts = read_plain(path)
        old = old_lines(before)
        lines += [{"file": str(path), "line": line.text, "sure": line.sure} for line in old]
        places |= {line.folder for line in old if line.folder}
        after = {"report": before, "take": switched_off(before), "remove": without(before)}[mode]
        if after != before:
            if not check_mode:
                _replace(path, after, facts, diffs)
            diffs.append(_difference(path, before, after))
    found = [_place(Path(place)) for place in sorted(places)]
    times = offered(str(line["line"]) for line in lines)
    return {
        "changed": bool(diffs),
        "lines": lines,
        "places": found,
        "times": times,
        "diff": diffs,
        "msg": _sentence(lines, found, mode) + _times_sentence(times),
    }


def _files(crontabs: Sequence[str]) -> Iterator[Path]:
    """Every crontab: files, and those in folders. What is no crontab (an editor's copy, a link) is passed over.

    A point in the name makes it none, unless a user has that name, as in the spool.
    """
    for name in dict.fromkeys(crontabs):
        path = Path(name)
        if path.is_file():
            yield path
        elif path.is_dir():
            with file_errors("Reading", path):
                yield from sorted(p for p in path.iterdir() if p.is_file() and not p.is_symlink() and _may_be(p.name))


def _may_be(name: str) -> bool:
    return "." not in name or is_user(name)


def is_user(name: str) -> bool:
    """Whether the system knows a user of that name, from wherever it takes its users."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _difference(path: Path, before: str, after: str) -> dict[str, str]:
    return {"before_header": str(path), "after_header": str(path), "before": before, "after": after}


def _replace(path: Path, content: str, facts: os.stat_result, earlier: list[dict[str, str]]) -> None:
    """Write a crontab in one step; it keeps its owner and mode, which cron insists on. A failure tells of others."""
    before = read_plain(path)[0]
    try:
        with file_errors("Writing", path):
            write_atomic(path, content.encode("utf-8", "surrogateescape"), stat.S_IMODE(facts.st_mode))
            os.chown(path, facts.st_uid, facts.st_gid, follow_symlinks=False)
    except FileProblem as error:
        written = read_plain(path)[0] == content
        done = [*earlier, *([_difference(path, before, content)] if written else [])]
        if done:
            names = ", ".join(one["after_header"] for one in done)
            said = f"{error} Before that these crontabs were changed (the diff has what they were): {names}."
            error.done = {"changed": True, "diff": done, "msg": said}
        raise


def _env(folder: Path, env: Path) -> dict[str, str]:
    """What a `.env` says, read with the rights of whoever owns the folder."""
    with file_errors("Reading", env):
        return read_env(as_user(folder.stat().st_uid, lambda: read_plain(env)[0]))


def _place(folder: Path) -> dict[str, Any]:
    """What lies in a folder of old scripts: what its `.env` says, without the password, and its backups."""
    facts: dict[str, Any] = {"folder": str(folder), "env": "", "variables": {}, "password": False}
    for env in (folder / name for name in FILES):
        if not facts["env"] and env.is_file():  # the project's own before the bot's
            values = _env(folder, env)
            facts.update(env=str(env), variables=variables(values), password=has_password(values))
    backups = sorted(p.name for p in (folder / "backups").glob("*.backup") if p.is_file() and not p.is_symlink())
    return {**facts, "backups_dir": str(folder / "backups") if backups else "", "backups": backups}


def _times_sentence(times: Mapping[str, Any]) -> str:
    """How the new jobs keep the old run times."""
    if not times:
        return ""
    said = shlex.quote(json.dumps(times))
    return f" To keep the times at which they ran: -e scannerdb_schedule_overrides={said}"


def _sentence(lines: list[dict[str, Any]], places: list[dict[str, Any]], mode: str) -> str:
    count = sum(len(place["backups"]) for place in places)
    done = {"report": "still run", "take": f"are comments now ({MARK.strip()})", "remove": "are removed"}[mode]
    old = sum(1 for line in lines if line["sure"])
    said = [f"{old} lines of crontabs that start the old scripts {done}."] if old else []
    if len(lines) > old:
        said.append(f"{len(lines) - old} that only log where the old scripts did are left as they are: look at them.")
    said += [f"{place['env']} says how they connect." for place in places if place["env"]]
    if count:
        said.append(f"There are {count} of their backups; scannerdb_backup_adopt lets retention take them over.")
    return " ".join(said) or "The old scripts have left nothing here."
