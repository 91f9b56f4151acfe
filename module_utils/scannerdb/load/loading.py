"""Loading an archive as a whole: pg_restore, a second attempt at what failed, event triggers last."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ..connection import connect
from ..process import Finished, run_tool, tool_error
from .contents import NOTHING, Contents, ContentsEntry, list_file, verbose_script
from .failures import ACCESSORIES, Failure, failures_in
from .leave_out import Named, item_of
from .pg_restore import NEWER_SETTINGS, LoadInterrupted, command, interrupted, machine_failed
from .second_attempt import Archive, bring_rows, try_again
from .tablespaces import Placed, move

BEFORE, AFTER = ("--section=pre-data", "--section=data"), ("--section=post-data",)
_KEPT = ("TABLE ", "MATERIALIZED VIEW ", "COLUMN ")  # what of a table that is left out stays


@dataclass(frozen=True)
class Load:
    """What is to be loaded, and how. `paths` are the search_paths of the original, for a second attempt."""

    archive: Archive
    contents: Contents
    kind: str
    jobs: int
    nice: int = 0
    paths: tuple[str, ...] = ('"$user", public',)
    named: Named = field(default_factory=Named)
    places: Mapping[str, str] = field(default_factory=dict)  # tablespaces that take others' place


@dataclass
class Loaded:
    """What pg_restore said, what a second attempt made, what is missing for good, and what was left out."""

    said: str = ""
    again: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def load_archive(
    load: Load,
    lines: Sequence[str],
    before_events: Callable[[], object] = lambda: None,
    on_tick: Optional[Callable[[], object]] = None,
) -> Loaded:
    """Load these lines of an archive's contents; event triggers last, for they might forbid what comes before.

    `before_events` is called just then. What single entries failed with is in the result. Raises `LoadInterrupted`
    where the server or the machine ended it.
    """
    by_line = {entry.line: entry for entry in load.contents.entries}
    loaded = Loaded()
    wanted = []
    for line in lines:
        if load.named and _left_out(by_line[line], load.named):
            loaded.left_out.append(item_of(by_line[line], load.contents.owners))
        else:
            wanted.append(line)
    events = [line for line in wanted if _is_event(by_line[line])]
    others = [line for line in wanted if line not in events]
    for sections, tables in ((BEFORE[:1], True), (BEFORE[1:], False)) if load.places else ((BEFORE, False),):
        _pass(load, others, sections, loaded, on_tick)
        if tables:
            _put(load, lambda one: one.kind != "INDEX")
    bring_rows(load.archive, loaded.failures, load.paths)  # so that what builds upon them shows its own faults
    _pass(load, others, AFTER, loaded, on_tick)
    if load.places and not loaded.failures:
        _put(load, lambda one: one.kind == "INDEX")
    before_events()
    if events:
        _pass(load, events, AFTER, loaded, on_tick)
    return loaded


def _put(load: Load, wanted: Callable[[Placed], bool]) -> None:
    """Put what is wanted into its tablespace, or the one that takes its place."""
    archive = load.archive
    with contextlib.closing(connect(archive.options, dbname=archive.dbname, purpose="restore")) as conn:
        move(conn, [one for one in load.contents.placed if wanted(one)], load.places)


def _is_event(entry: ContentsEntry) -> bool:
    return entry.kind == "EVENT TRIGGER" or (entry.kind in ACCESSORIES and entry.rest.startswith("EVENT TRIGGER "))


def _left_out(entry: ContentsEntry, named: Named) -> bool:
    """Whether an entry is left out, or belongs to one that is."""
    if entry.kind in ACCESSORIES:
        about = ContentsEntry(entry.line, "", entry.schema, re.sub(r"^[A-Z ]+ ", "", entry.rest))
        return not entry.rest.startswith(_KEPT) and named.entry(about)
    return named.entry(entry)


def _pass(
    load: Load, lines: Sequence[str], sections: tuple[str, ...], loaded: Loaded, on_tick: Optional[Callable[[], object]]
) -> None:
    """One run of pg_restore over these lines, and the second attempt at what failed in it.

    Tables have no indexes and no triggers yet when their rows are tried again: those would stop them, or fire.
    """
    archive = load.archive
    with list_file(lines or [NOTHING]) as (listing, descriptors):
        words = command(archive.tools, archive.dump, load.kind, archive.dbname, listing, load.jobs)
        words[1:1] = [*sections, *archive.flags]
        finished = run_tool(
            words,
            archive.options,
            dbname=archive.dbname,
            check=False,
            nice=load.nice,
            on_tick=on_tick,
            descriptors=descriptors,
        )
    loaded.said += finished.stderr
    if finished.returncode == 0:
        return
    if interrupted(finished):
        raise _interrupted(finished)
    failed = failures_in(
        finished.stderr,
        load.contents,
        re.compile(NEWER_SETTINGS),
        lambda: verbose_script(archive.tools, archive.dump, load.contents, lines),
    )
    if not failed and "errors ignored on restore" not in finished.stderr:
        raise _interrupted(finished)  # it failed without saying at what
    strange = [_judged(load, failure) for failure in failed if failure.entry is None]
    failed = [failure for failure in failed if failure.entry is not None]
    left = try_again(archive, failed, load.paths, load.named)
    loaded.failures += [*strange, *left]
    missing = {failure.entry for failure in left}
    loaded.again += [f.name(load.contents) for f in failed if f.entry not in missing]


def _interrupted(finished: Finished) -> LoadInterrupted:
    error = tool_error("pg_restore", finished)
    return LoadInterrupted(error.message, error.hint)


def _judged(load: Load, failure: Failure) -> Failure:
    """A failure outside of any entry: whether the archive can be read at all needs no server."""
    words = [load.archive.tools.path("pg_restore"), "--file=/dev/null", str(load.archive.dump)]
    finished = run_tool(words, None, check=False)
    if finished.returncode == 0 or machine_failed(finished):
        return failure
    return Failure(failure.entry, tool_error("pg_restore", finished).message, unreadable=True)
