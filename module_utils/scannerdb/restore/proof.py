"""What is restored from: found, read to its end before anything is written, and what it says it holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from ..connection import Options, ServerInfo
from ..errors import BackupInvalid, FileProblem
from ..load.contents import Contents, read_contents, read_data
from ..load.sql_file import scan
from ..process import cores
from ..runs import Run
from ..sets.archive import SQL_FILE
from ..sets.catalogue import load_set
from ..sets.dump_data import read_files
from ..sets.locate import LATEST, Source, find_backup, is_set, open_source
from ..sets.manifest import Manifest, TableCount
from ..sets.row_counts import CopyCounter, rows_by_table
from ..sets.verification import require, verify_set
from ..sets.verification_log import append_history
from ..tools import Tools, find_tools
from .request import RestoreRequest


@dataclass(frozen=True)
class Proven:
    """A source that was read to its end. `manifest` is that of a set of this bundle.

    `rows` are those of each table, as the manifest says or, of a bare archive and of an SQL file, as they were counted
    in it; there are none where it has INSERT statements.
    """

    source: Source
    manifest: Optional[Manifest]
    tools: Tools
    contents: Contents
    rows: tuple[TableCount, ...]


def loader(source: Source) -> str:
    """The program that loads a source."""
    return "psql" if source.kind == SQL_FILE else "pg_restore"


def prove(options: Options, request: RestoreRequest, server: ServerInfo, run: Run, *, record: bool) -> Proven:
    """Find the source and prove it; with `record` that is added to a set's record. Raises `BackupInvalid`."""
    path = request.kept.path if request.kept else find_backup(request.backup_dir, request.source, options.db)
    if request.source in ("latest", LATEST) and path.is_file():
        run.log(f"latest is {request.told or path}: the newest of the old script's files, by the time in its name")
    found = load_set(path) if is_set(path) else None
    manifest = found.manifest if found else None
    if found and found.manifest_sha256 != request.judged:
        raise BackupInvalid(f"{request.told} became another while it was read.", "Run again.")
    source = replace(open_source(path, manifest.dump_path if manifest else ""), told=request.told)
    source = replace(source, dump=request.dump or source.dump)
    program = loader(source)
    tools = find_tools(options.pg_bin_dir, server.major, program, source.header.dump_major)
    run.log(f"source {source.place} ({source.kind}), read with {program} {tools.version}")
    run.progress("verify")
    if source.kind == SQL_FILE:
        return _read_script(source, tools, run)
    if manifest:
        outcome = verify_set(
            source.path, request.verify_level, tools, state_dir=request.state_dir, jobs=request.jobs or 2, record=record
        )
        if record:
            try:
                append_history(request.state_dir, manifest.name, outcome)
            except FileProblem as error:  # a full disk must not stop a restore; the set's own record has it
                run.log(f"warning: {error}")
        require(outcome, source.name)
    contents = read_contents(tools, source.dump)
    rows = manifest.tables if manifest else _read_archive(tools, source, contents)
    return Proven(source, manifest, tools, contents, rows)


def _read_script(source: Source, tools: Tools, run: Run) -> Proven:
    """An SQL file says only as it is read of which versions it is."""
    script = scan(source.dump, lambda done: run.progress("verify", done, 0, unit="bytes"), source.name)
    run.log(f"{source.name}: {script.number} lines, {script.tables} tables, {script.rows} rows")
    source = replace(source, header=script.header())
    return Proven(source, None, tools, script.contents(), tuple(rows_by_table(script.blocks())))


def _read_archive(tools: Tools, source: Source, contents: Contents) -> tuple[TableCount, ...]:
    """Each table's data must be there: pg_restore itself does not mind where zstd or lz4 data break off.

    Since version 19 it minds neither where gzip's do, nor its checksum.
    """
    broken = read_files(source.dump, {}, cores()) if tools.major >= 19 and source.dump.is_dir() else []
    if broken:
        raise BackupInvalid(f"{source.place}: {broken[0]}", "Restore another backup.")
    counter = CopyCounter()
    read_data(tools, source.dump, counter.feed)
    wanted = len(contents.of("TABLE DATA"))
    if counter.unfinished or 0 < len(counter.blocks) < wanted:  # none at all: the dump has INSERT statements
        raise BackupInvalid(f"The data in {source.place} break off in the middle.", "Restore another backup.")
    return tuple(rows_by_table(counter.blocks))
