"""A target judged against what there is, before anything is restored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..connection import Connection
from ..errors import RestoreRefused
from .engine import PhysicalEngine, Repository
from .facts import read_facts
from .judge import ServerFacts
from .locate import Track, landings
from .pgbackrest import windows_of
from .switch_out import switch_out, why_not_switched
from .target import LATEST, Landing, Target, check_future, choose
from .transactions import Line, WalReader
from .window import Window


def tracks_of(repositories: Sequence[Repository], segment_bytes: int) -> list[Track]:
    """Every window of the clusters that are backed up now, with what recovery along it reads. Pure."""
    found = []
    for repository in repositories:
        histories = repository.histories.get(repository.archive_id, {})
        for window in windows_of(repository, segment_bytes):
            line = Line(window.timeline, tuple(histories.get(window.timeline, ())), segment_bytes)
            archived = {
                segment.number: segment.archived
                for segment in repository.segments.get(repository.archive_id, ())
                if segment.timeline == line.reads(segment.number)
            }
            found.append(Track(window, line, archived))
    return found


def judged(
    conn: Connection,
    engine: PhysicalEngine,
    target: Target,
    reader: WalReader,
    timeline: int = 0,
    *,
    may_switch: bool = True,
    log: Callable[[str], object] = lambda line: None,
    on_change: Callable[[str], object] = lambda what: None,
) -> Landing:
    """Where the target lies; raises `RestoreRefused` where it cannot be reached, or is not one.

    What the live server has not archived yet is switched out first, where the target may lie in it; `on_change` is told
    of that.
    """
    server = read_facts(conn)
    check_future(target, server.now)
    latest = target.kind == LATEST
    sought = replace(target, moment=server.now) if latest else target
    found, windows = ([], []) if latest else _look(engine, sought, reader, server)
    why = ""
    if not any(one.window.timeline == server.timeline for one in found):
        why = why_not_switched(conn) if may_switch else "a run that only looks switches nothing"
        if not why:
            switch_out(conn, server.timeline, server.segment_bytes, log, on_change=on_change)
        if latest or not why:
            found, windows = _look(engine, sought, reader, server)
    timeline = timeline or (server.timeline if latest else 0)
    if why and not timeline and found:
        raise RestoreRefused(
            f"Timeline {found[-1].window.timeline} holds {target.text}; whether the server's own ({server.timeline}) "
            f"holds it, too, cannot be seen: what is not archived yet could not be switched out, for {why}.",
            "Set scannerdb_restore_timeline to the one that you mean.",
        )
    try:
        return choose(sought, found, windows, timeline)
    except RestoreRefused as error:
        said = f" What is not archived yet could not be switched out: {why}." if why else ""
        raise RestoreRefused(error.message + said, error.hint) from None


def _look(
    engine: PhysicalEngine, target: Target, reader: WalReader, server: ServerFacts
) -> tuple[list[Landing], list[Window]]:
    repositories = engine.list()
    usable = [one for one in repositories if not one.problem and one.clusters]
    own = [one for one in usable if one.clusters[-1].system_id == server.system_id]
    if not own:
        problems = "; ".join(f"repository {one.key}: {one.problem}" for one in repositories if one.problem)
        told = "is of another cluster than the server" if usable else f"has nothing that can be used: {problems}"
        raise RestoreRefused(f"The stanza {told}.", "playbooks/backups.yml shows what there is.")
    tracks = tracks_of(own, server.segment_bytes)
    return landings(target, tracks, reader), [track.window for track in tracks]
