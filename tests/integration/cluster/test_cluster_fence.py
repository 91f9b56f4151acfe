"""The fence on real servers: a member that says nothing stops a commit, soon; one primary by two names does not."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb.connection import connect, execute, job_entry, survived
from scannerdb.errors import PrimaryUnseen

from tests.integration.cluster.pair import Pair, pair_of_servers

pytestmark = pytest.mark.pg(17)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with pair_of_servers() as made:
        made.old.sql("CREATE TABLE written (i integer)")
        yield made


def family(pid: int) -> list[int]:
    """A process, and those it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(one for child in children for one in family(int(child)))]


@contextlib.contextmanager
def frozen(pair: Pair) -> Iterator[None]:
    """The standby takes connections and says nothing, as a machine that hangs."""
    stopped = family(pair.new.server.pid)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def rows(pair: Pair) -> int:
    return int(pair.old.value("SELECT count(*) FROM written"))


def test_a_member_that_says_nothing_stops_the_commit_and_holds_no_lock(pair: Pair) -> None:
    took: list[float] = []

    @job_entry("The test")
    def write() -> dict[str, Any]:
        with contextlib.closing(connect(pair.options())) as conn, contextlib.ExitStack() as stack:
            with conn.transaction():
                execute(conn, "INSERT INTO public.written VALUES (1)")
            with conn.transaction():
                execute(conn, "INSERT INTO public.written VALUES (2)")
                stack.enter_context(frozen(pair))
                started = time.monotonic()
                stack.callback(lambda: took.append(time.monotonic() - started))
        return {}

    with pytest.raises(PrimaryUnseen, match="could not be seen whether it is the primary still: no answer came from"):
        write()
    assert rows(pair) == 1
    assert took[0] < 10, "thirty seconds, before there was a limit on the whole"


def test_who_can_begin_again_does_once_the_member_answers(pair: Pair) -> None:
    before, notes = rows(pair), list[str]()

    @job_entry("The test")
    def work() -> dict[str, Any]:
        def once() -> dict[str, Any]:
            with contextlib.closing(connect(pair.options())) as conn, conn.transaction():
                execute(conn, "INSERT INTO public.written VALUES (3)")
                if not notes:
                    back.enter_context(frozen(pair))
            return {"msg": "done"}

        def told(note: str) -> None:
            notes.append(note)
            back.close()

        return survived("The test", once, told)

    with contextlib.ExitStack() as back:
        assert work()["msg"] == "done"
    assert notes == ["The test begins again, because it could not be seen whether the primary is still that."]
    assert rows(pair) == before + 1


def test_one_primary_by_several_names_is_no_other(pair: Pair, tmp_path: Path) -> None:
    """By its socket's folder and by links to that; and several threads choose the same."""
    links = [tmp_path / name for name in ("s", "t")]
    for link in links:
        link.symlink_to(pair.old.server.socket_dir)
    options = pair.options(*(f"{link}:{pair.old.server.port}" for link in links))
    before, met = rows(pair), set[tuple[str, int]]()

    @job_entry("The test")
    def write() -> dict[str, Any]:
        def one(number: int) -> None:
            with contextlib.closing(connect(options)) as conn, conn.transaction():
                execute(conn, "INSERT INTO public.written VALUES (%s)", [number])
                met.add((conn.info.host, conn.info.port))

        threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {}

    write()
    assert rows(pair) == before + 6
    assert len(met) == 1
