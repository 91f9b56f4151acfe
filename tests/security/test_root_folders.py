"""Root, and what the jobs' system user plants in folders of theirs: links, hard links, swaps while root is at work."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scannerdb.errors import ScannerDbError
from scannerdb.files import ensure_folder
from scannerdb.jobs.folders import folders
from scannerdb.jobs.legacy import legacy
from scannerdb.jobs.passfile import keep_password
from scannerdb.jobs.uninstall_files import Folders, uninstall_files
from scannerdb.trusted import as_user

from tests.needs import needs

pytestmark = needs("root")
JOBS, OTHER = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")
ROUNDS = 400


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of root's that everybody can pass through, with a victim in it that is root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="scannerdb-root-"))
    folder.chmod(0o755)
    (folder / "victim").mkdir(mode=0o700)
    (folder / "victim" / "secret").write_text("root's")
    (folder / "victim" / "secret").chmod(0o600)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def state(place: Path) -> Path:
    """The jobs' user's own folder."""
    folder = place / "state"
    folders([str(folder)], owner=JOBS.pw_name)
    return folder


def untouched(place: Path) -> bool:
    facts = [(place / "victim").stat(), (place / "victim" / "secret").stat()]
    owned = all((one.st_uid, one.st_gid) == (0, 0) for one in facts)
    modes = [stat.S_IMODE(one.st_mode) for one in facts] == [0o700, 0o600]
    return owned and modes and (place / "victim" / "secret").read_text() == "root's"


def as_jobs(act: Callable[[], object]) -> None:
    as_user(JOBS.pw_uid, lambda: act() and None)


def meanwhile(act: Callable[[], None]) -> int:
    """Another process of the jobs' user that does something over and over; returns its id."""
    child = os.fork()
    if child == 0:
        os.setgid(JOBS.pw_gid)
        os.setuid(JOBS.pw_uid)
        while True:
            try:
                act()
            except OSError:
                time.sleep(0)
    return child


def end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_planted_link_gives_nothing_away(place: Path, state: Path) -> None:
    as_jobs(lambda: (state / "reports").symlink_to(place / "victim"))
    for owner in (JOBS.pw_name, OTHER.pw_name, ""):
        with pytest.raises(ScannerDbError):
            folders([str(state / "reports" / "deep")], owner=owner)
    with pytest.raises(ScannerDbError):
        folders([str(state / "reports")], owner=JOBS.pw_name)  # another's folder, which its user cannot close
    assert untouched(place)


def test_a_folder_below_another_users_is_refused(place: Path, state: Path) -> None:
    with pytest.raises(ScannerDbError, match="could put a link in its place"):
        folders([str(state / "logs")], owner=OTHER.pw_name)
    assert not (state / "logs").exists() and untouched(place)


def test_a_swap_while_root_is_at_work_gives_nothing_away(place: Path, state: Path) -> None:
    """The name is a folder, a link and nothing, in turn, while root makes it again and again."""

    def swap() -> None:
        reports, aside = state / "reports", state / "aside"
        aside.symlink_to(place / "victim")
        aside.rename(reports)
        reports.unlink()
        reports.mkdir()
        reports.rmdir()

    child = meanwhile(swap)
    try:
        for _ in range(ROUNDS):
            with contextlib.suppress(ScannerDbError):
                folders([str(state / "reports"), str(state / "reports" / "deep")], owner=JOBS.pw_name)
            assert untouched(place)
    finally:
        end(child)


def test_a_folder_that_is_handed_over_takes_no_file_of_others_along(place: Path, state: Path) -> None:
    own, linked = state / "runs" / "own", state / "hard"
    as_jobs(lambda: (own.parent.mkdir(), own.write_text("x"), (state / "link").symlink_to(place / "victim" / "secret")))
    os.link(place / "victim" / "secret", linked)
    os.chown(place / "victim" / "secret", 0, 0)
    folders([str(state)], owner=OTHER.pw_name, from_owner=JOBS.pw_name)
    assert {path.owner() for path in (state, own.parent, own)} == {OTHER.pw_name}
    assert untouched(place) and linked.owner() == "root"


def test_a_hand_over_while_names_are_swapped(place: Path) -> None:
    for _ in range(ROUNDS // 10):
        state = place / "again"
        folders([str(state)], owner=JOBS.pw_name)

        def swap(state: Path = state) -> None:
            name, aside = state / "name", state / "aside"
            name.write_text("x")
            aside.symlink_to(place / "victim" / "secret")
            aside.rename(name)
            name.unlink()
            name.mkdir()
            name.rmdir()

        child = meanwhile(swap)
        try:
            folders([str(state)], owner=OTHER.pw_name, from_owner=JOBS.pw_name)
        finally:
            end(child)
        assert untouched(place)
        shutil.rmtree(state)


def test_shared_folders_are_no_place_for_links(place: Path) -> None:
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    as_jobs(lambda: (shared / "state").symlink_to(place / "victim"))
    with pytest.raises(ScannerDbError, match="is a link"):
        folders([str(shared / "state")], owner=JOBS.pw_name)
    shared.chmod(0o777)
    with pytest.raises(ScannerDbError, match="others than root"):
        folders([str(shared / "logs")], owner=JOBS.pw_name)
    assert untouched(place)


def test_an_uninstall_follows_nothing(place: Path, state: Path) -> None:
    """What looks like the bundle's own behind a link of the jobs' user stays."""
    victim = place / "victim"
    named = victim / "20250418T031500Z-0a1b2c3d.json"
    named.write_text("{}")
    as_jobs(lambda: (state / "runs").symlink_to(victim))
    as_jobs((state / "progress").mkdir)
    where = Folders(
        str(place / "etc" / "one"), str(state), str(state / "reports"), str(place / "log"), str(place / "backups")
    )

    def swap() -> None:
        runs, aside = state / "progress", state / "aside"
        aside.symlink_to(victim)
        runs.rmdir()
        aside.rename(runs)
        runs.unlink()
        runs.mkdir()

    child = meanwhile(swap)
    try:
        for _ in range(ROUNDS // 4):
            with contextlib.suppress(ScannerDbError):
                uninstall_files(where)
            assert named.exists() and untouched(place)
            if not state.exists():
                break
    finally:
        end(child)


def test_a_password_file_is_written_by_its_user(place: Path, state: Path) -> None:
    passfile = state / ".pgpass"
    as_jobs(lambda: passfile.symlink_to(place / "victim" / "secret"))
    with contextlib.suppress(ScannerDbError):
        keep_password(str(passfile), "h:5432:*:u", "pw", JOBS.pw_name)
    assert untouched(place)


def test_what_old_scripts_left_is_read_as_their_user(place: Path, state: Path) -> None:
    """A crontab names the folder, and so its user chooses it: a link for a `.env` there would be read by root."""
    (place / "victim" / "secret").write_text("DB_HOST=only-root-knows\n")
    as_jobs(lambda: (state / ".env").symlink_to(place / "victim" / "secret"))
    with pytest.raises(ScannerDbError):
        legacy(folder=str(state), crontabs=[])
    as_jobs((state / ".env").unlink)
    as_jobs(lambda: os.mkfifo(state / ".env"))
    assert legacy(folder=str(state), crontabs=[])["places"][0]["env"] == ""


def test_folders_are_private_whatever_the_umask(place: Path) -> None:
    before = os.umask(0)
    try:
        ensure_folder(place / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert {stat.S_IMODE((place / name).stat().st_mode) for name in ("a", "a/b", "a/b/c")} == {0o700}
