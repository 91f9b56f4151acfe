"""One line of a user's password file, written with that user's own rights."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from ..files import file_errors, read_if_there, write_atomic
from ..trusted import as_user, user_id


@file_errors("Writing", "the password file")
def keep_password(path: str, place: str, password: str, owner: str = "", check_mode: bool = False) -> dict[str, Any]:
    """Keep `password` for `place` (host:port:database:user, escaped); other lines stay. Returns the module's result.

    The file lies in the user's home: written by root, a link there would lead root's hand to any file of the host.
    """
    uid = user_id(owner) if owner else os.geteuid()
    changed = as_user(uid, partial(_keep, Path(path), place, password, check_mode))
    return {"changed": changed, "path": path}


def _keep(path: Path, place: str, password: str, check_mode: bool) -> bool:
    """Whether the file had to be changed, which is done unless this is a check."""
    line = f"{place}:{password}"
    before = read_if_there(path)
    lines = [line if one.startswith(f"{place}:") else one for one in before.splitlines()]
    after = "\n".join(lines if line in lines else [*lines, line]) + "\n"
    mode = path.stat().st_mode & 0o777 if path.exists() else 0
    if (before, mode) == (after, 0o600):
        return False
    if not check_mode:
        write_atomic(path, after)
    return True
