"""Client programs of PostgreSQL: where they are, and which set of them fits a server."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ToolMissing
from .process import version_of

LIKELY_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")


@dataclass(frozen=True)
class Tools:
    """A folder with client programs of one version."""

    folder: str
    version: str

    @property
    def major(self) -> int:
        """Major version, e.g. 17."""
        return int(re.split(r"[^0-9]", self.version, maxsplit=1)[0])

    def path(self, name: str) -> str:
        """The path of one program."""
        return str(Path(self.folder, name))


def installed_tools(pg_bin_dir: str = "", program: str = "pg_dump") -> list[Tools]:
    """Every set of client programs there is, newest first; only `pg_bin_dir` where that is given."""
    if pg_bin_dir:
        folders = [pg_bin_dir]
    else:
        folders = [str(p) for pattern in LIKELY_FOLDERS for p in Path("/").glob(pattern[1:])]
        found = shutil.which(program)
        if found:
            folders.append(str(Path(found).parent))
    versions = {folder: version_of(str(Path(folder, program))) for folder in dict.fromkeys(folders)}
    tools = [Tools(folder, version) for folder, version in versions.items() if version]
    return sorted(tools, key=lambda t: t.major, reverse=True)


def find_programs(pg_bin_dir: str, name: str, server_major: int) -> list[tuple[str, str]]:
    """Path and version of each program of that name; those of the server's own version first. May be none.

    Only `pg_bin_dir` counts where that is given. For programs that are not PostgreSQL's own, such as pg_repack.
    """
    if pg_bin_dir:
        paths = [str(Path(pg_bin_dir, name))]
    else:
        likely = [p for pattern in LIKELY_FOLDERS for p in Path("/").glob(f"{pattern[1:]}/{name}")]
        own = [str(p) for p in likely if re.search(rf"\D{server_major}\D", str(p.parent))]
        paths = [*own, *filter(None, [shutil.which(name)]), *map(str, likely)]
    versions = {path: version_of(path, rf"{re.escape(name)}\s+(\d+[\w.]*)") for path in dict.fromkeys(paths)}
    return [(path, version) for path, version in versions.items() if version]


def choose_tools(available: Sequence[Tools], server_major: int, archive_major: int = 0) -> Tools | None:
    """The best set for a server (and an archive made by `archive_major`): its own major version, else the oldest newer.

    pg_dump refuses a server newer than itself; pg_restore cannot read an archive of a newer pg_dump, and a newer
    pg_restore emits settings that an older server may refuse. Pure.
    """
    wanted = max(server_major, archive_major)
    usable = [tools for tools in available if tools.major >= wanted]
    return min(usable, key=lambda t: t.major, default=None)


def find_tools(pg_bin_dir: str, server_major: int, program: str = "pg_dump", archive_major: int = 0) -> Tools:
    """`choose_tools` over what is installed; raises `ToolMissing` with the hint."""
    available = installed_tools(pg_bin_dir, program)
    place = f"in {pg_bin_dir}" if pg_bin_dir else "on this machine"
    package = f"Install postgresql-client-{max(server_major, archive_major)}, or set scannerdb_pg_bin_dir."
    if not available:
        raise ToolMissing(f"There is no {program} {place}.", package)
    tools = choose_tools(available, server_major, archive_major)
    if tools:
        return tools
    newest = available[0].version
    if archive_major > server_major:
        reason = f"the archive was made by pg_dump {archive_major}"
    else:
        reason = f"the server is PostgreSQL {server_major}"
    raise ToolMissing(f"The newest {program} {place} is {newest}, but {reason}.", package)
