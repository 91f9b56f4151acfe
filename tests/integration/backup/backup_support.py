"""Short words for the tests of backups: runs, client programs that are scripts, and damage to a file."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from scannerdb.backup import dump
from scannerdb.connection import Options
from scannerdb.process import run_tool
from scannerdb.tools import Tools

from tests.integration.support import processes, run_backup
from tests.servers import Database

HOSTILE = ['we"ird; drop', "a=b", "../up/%41", "Ünïcødé 'x'", "x" * 63]


ROWS = "CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 1000) i"


def options_of(database: Database, **changed: Any) -> Options:
    values = {
        "unix_socket": str(database.server.socket_dir),
        "port": database.server.port,
        "user": "postgres",
        "db": database.name,
        "pg_bin_dir": str(database.server.bin_dir),
    }
    return Options(**{**values, **changed})


def run(database: Database, tmp_path: Path, **more: Any) -> dict[str, Any]:
    return run_backup(options_of(database), backup_dir=str(tmp_path / "b"), state_dir=str(tmp_path / "s"), **more)


def visible(folder: Path) -> set[str]:
    """Everything in a backup folder but logs."""
    return {p.name for p in folder.iterdir() if not p.name.endswith(".log")}


def wrapper(database: Database, folder: Path, script: str) -> str:
    """A folder of client programs whose pg_dump is a script; `$REAL` is the real one."""
    folder.mkdir()
    for name in ("pg_restore", "pg_dumpall"):
        (folder / name).symlink_to(database.server.bin_dir / name)
    real = database.server.bin_dir / "pg_dump"
    (folder / "pg_dump").write_text(f"#!/bin/bash\nREAL={real}\n{script}\n", encoding="utf-8")
    (folder / "pg_dump").chmod(0o755)
    return str(folder)


def children(name: str, folder: Path) -> list[int]:
    """Processes of that program that write below a folder."""
    return [pid for pid, text in processes(str(folder)).items() if name in text.split(" ")[0]]


def sessions(database: Database) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^(scannerdb|pg_dump)'"
    return int(database.value(query))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[random.Random(1).randrange(len(data))] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def compressions(*names: str) -> list[Any]:
    """Compressions to try; what only newer tools know, and no wheel but that of 17 was made with, on 17 alone."""
    marks = {name: () if name.startswith("gzip") else pytest.mark.pg(17, always=True) for name in names}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


def supports(tools: Tools, compression: str) -> bool:
    command = [tools.path("pg_dump"), "-Fc", f"--compress={compression}"]
    return "compress" not in run_tool(command, None, check=False, extra_environment=dump.NOWHERE).stderr
