"""Random points in time, each restored and held against what was committed: `python -m bench.points [--targets N]`.

The history has three timelines, a gap in the archive, quiet and busy times (tests/integration/physical/history.py). An
answer is right where the copy holds exactly the rows that were committed at the target, along every timeline that
reaches it or along the one that was named. A refusal before anything is restored is no wrong answer; one of what could
have been reached is counted apart. It takes about 5 s for each target.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scannerdb.connection import connect, fetch
from scannerdb.errors import ScannerDbError
from scannerdb.jobs.point_in_time import PointRequest, at_point, judged_point
from scannerdb.physical.recovery import Paused
from scannerdb.physical.request import Stanza
from scannerdb.physical.target import parse_target, stamp
from scannerdb.runs import Run

from tests.integration.physical.history import History, made_history
from tests.integration.physical.physical_support import STANZA
from tests.integration.support import options as options_of
from tests.servers import make_home

KINDS = ("time", "time", "time", "time", "time", "lsn", "xid", "before-xid", "name")
MICROSECOND = datetime.timedelta(microseconds=1)


@dataclass(frozen=True)
class Question:
    """A target, the timeline that is named with it (0: none), and the rows that each timeline gives."""

    text: str
    timeline: int
    answers: dict[int, frozenset[int]]


def question(history: History, chance: random.Random) -> Question:
    """Any point in the history, or outside of it."""
    kind = chance.choice(KINDS)
    timeline = chance.choice([0, 0, 1, 2, 3])
    if kind == "time":
        moment = a_moment(history, chance)
        reached = {n: frozenset(history.expected(n, moment)) for n in (1, 2, 3) if history.reaches(n, moment)}
        return Question(stamp(moment), timeline, reached)
    if kind == "name":
        name = chance.choice(sorted(history.points))
        owner, count = history.points[name]
        rows = frozenset(one.id for one in history.line(owner)[:count])
        return Question(f"name:{name}", 0, {owner: rows})
    owner = chance.choice([1, 2, 3])
    index = chance.randrange(len(history.line(owner)))
    one = history.line(owner)[index]
    before = index + (kind == "xid")
    text = {"lsn": f"lsn:{one.before}", "xid": f"xid:{one.xid}", "before-xid": f"before-xid:{one.xid}"}[kind]
    rows = frozenset(commit.id for commit in history.line(owner)[:before])
    return Question(text, owner, {owner: rows} if history.reaches(owner, one.at - MICROSECOND) else {})


def a_moment(history: History, chance: random.Random) -> datetime.datetime:
    """At, just beside, or somewhere between commits; sometimes far outside."""
    line = history.line(chance.choice([1, 2, 3]))
    one = chance.choice(line).at
    first, last = line[0].at, line[-1].at
    anywhere = first + (last - first) * chance.random()
    far = chance.choice([first - datetime.timedelta(hours=1), last + datetime.timedelta(hours=1)])
    return chance.choices([one, one - MICROSECOND, one + MICROSECOND, anywhere, far], [3, 3, 3, 8, 1])[0]


def ask(history: History, asked: Question, seen: Counter[str], folder: Path) -> str:
    """Restore it; what came of it, in a word that begins with `wrong` where that is so."""
    options = options_of(history.cluster.database)
    target = parse_target(asked.text)
    assert target is not None
    request = PointRequest(
        Stanza(True, STANZA, str(history.cluster.config)), target, asked.timeline, copy_dir=str(folder)
    )
    rows: set[int] = set()
    restored = False

    def work(paused: Paused) -> None:
        with contextlib.closing(connect(paused.options, allow_standby=True)) as conn:
            rows.update(row["id"] for row in fetch(conn, "SELECT id FROM public.moments"))

    try:
        with (
            contextlib.closing(connect(options)) as conn,
            judged_point(conn, options, request, Run("points", options.db)) as point,
        ):
            restored = True
            chosen = point.plan.landing.window.timeline
            at_point(point, options, Run("points", options.db), work)
    except ScannerDbError as error:
        kind = "refused by the copy" if restored else "refused before anything was restored"
        seen[kind] += 1
        return refusal(asked, error, restored)
    counted = {asked.timeline: asked.answers.get(asked.timeline)} if asked.timeline else asked.answers
    wanted = {answer for answer in counted.values() if answer is not None}
    if wanted == {frozenset(rows)}:
        return "right"
    if not wanted and frozenset(rows) == frozenset(history_rows(history, asked, chosen)):
        return "right"  # near a backup's end, which is known in whole seconds
    return f"wrong: {asked.text} along {asked.timeline or chosen}: {sorted(rows)}, not {[sorted(w) for w in wanted]}"


def history_rows(history: History, asked: Question, timeline: int) -> set[int]:
    """The rows of a time along a timeline, whether it was sure to be reached or not."""
    target = parse_target(asked.text)
    return history.expected(timeline, target.moment) if target and target.moment else {-1}


def refusal(asked: Question, error: ScannerDbError, restored: bool) -> str:
    """Whether a refusal was called for: nothing reaches the target, or several timelines differ."""
    counted = [asked.answers[asked.timeline]] if asked.timeline in asked.answers else []
    counted = counted if asked.timeline else list(asked.answers.values())
    if len(set(counted)) == 1 and "More than one timeline" not in str(error):
        return f"refused though it could be reached: {asked.text} along {asked.timeline or 'any'}: {error}"
    if len(set(counted)) == 1:
        return f"asked without need: {asked.text}: {error}"
    return "rightly refused" if not restored else "rightly refused, by the copy"


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for the copies, in memory where there is plenty."""
    folder = make_home("scannerdb-points-")
    os.chown(folder, os.geteuid(), os.getegid())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Ask, and count; ends with 1 where an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance, told, seen = random.Random(given.seed), Counter[str](), Counter[str]()  # noqa: S311 - no secret
    with made_history() as history, own_folder() as folder:
        began = time.monotonic()
        for number in range(given.targets):
            said = ask(history, question(history, chance), seen, folder)
            told[said.partition(":")[0]] += 1
            if ":" in said or number % 20 == 19:
                print(f"{number + 1}: {said}", flush=True)
        seconds = time.monotonic() - began
    for word, count in [*told.most_common(), *seen.most_common()]:
        print(f"{count:5} {word}")
    print(f"{given.targets} targets, {told['wrong']} wrong answers, {seconds / given.targets:.1f} s each")
    return 1 if told["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
