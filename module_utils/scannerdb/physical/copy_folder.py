"""The folder of a disposable copy of the cluster, for a restore to a point in time."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..disposable import HOMES, ServerHome, private_home
from ..errors import InvalidInput, quoted
from ..tools import Tools

MISREAD = re.compile(r"""['"\\%$`\n]""")
PREFIX = "scannerdb-copy-"
COPY_DIR = HOMES


@dataclass(frozen=True)
class Copy(ServerHome):
    """A copy that is being made."""

    @property
    def wal(self) -> Path:
        """The folder for segments that are read."""
        return self.home / "wal"

    @property
    def tablespaces(self) -> Path:
        """The folder of all its tablespaces."""
        return self.home / "tablespaces"


@contextlib.contextmanager
def copy_folder(parent: Path, programs: Tools, user: str) -> Iterator[Copy]:
    """A new private folder below `parent` for a copy; it is gone after the block, whatever happens in it."""
    if MISREAD.search(str(parent)):
        raise InvalidInput(
            f"{quoted(str(parent))} holds a quote, a backslash, %, $ or a line end. pgBackRest writes it "
            "into restore_command as it is, where these mean something else.",
            "Set scannerdb_restore_copy_dir (for drills scannerdb_verify_cluster_dir) to another folder.",
        )
    with private_home(parent, PREFIX, "scannerdb_restore_copy_dir") as home:
        copy = Copy(home, programs, user if os.geteuid() == 0 else "")
        copy.make_folders(copy.wal, copy.tablespaces)
        yield copy
