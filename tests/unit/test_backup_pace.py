"""The pace of a limited dump, and who may go through its relay."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.backup.bandwidth import FEWEST, Pace, is_own
from scannerdb.errors import InvalidInput
from scannerdb.jobs.backup_options import request_from

from tests.needs import needs


class Clock:
    """Time that passes only where somebody sleeps, or says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


@given(
    st.integers(FEWEST, 1 << 34),
    st.lists(st.tuples(st.integers(1, 1 << 20), st.floats(0, 5)), min_size=1, max_size=50),
)
def test_never_more_passes_than_the_limit(bytes_per_s: int, pieces: list[tuple[int, float]]) -> None:
    """Over any stretch of time; idle time is not saved up for later."""
    clock = Clock()
    pace = Pace(bytes_per_s, lambda: clock.now, clock.sleep)
    begun, passed = [], []
    for count, idle in pieces:
        clock.now += idle
        begun.append(clock.now)
        pace.keep(count)
        passed.append(clock.now)
    for first in range(len(pieces)):
        for last in range(first, len(pieces)):
            total = sum(count for count, _ in pieces[first : last + 1])
            assert total <= bytes_per_s * (passed[last] - begun[first]) * (1 + 1e-6) + 1
    assert pace.passed == sum(count for count, _ in pieces)


def test_the_time_is_not_longer_than_it_must_be() -> None:
    clock = Clock()
    pace = Pace(1000, lambda: clock.now, clock.sleep)
    for _ in range(20):
        pace.keep(pace.piece)
    assert clock.now - 1000 == pytest.approx(20 * pace.piece / 1000)


@needs("linux")
def test_only_the_own_sockets_count() -> None:
    table = Path("/proc/net/tcp")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            own, text = client.getsockname()[1], table.read_text(encoding="ascii")
            assert is_own(text, own, port, os.geteuid())
            assert not is_own(text, own, port, os.geteuid() + 1)
            assert not is_own(text, own, port + 1, os.geteuid())


@pytest.mark.parametrize("bandwidth", [1, FEWEST - 1, -5])
def test_a_limit_that_cannot_be_meant_is_refused(bandwidth: int) -> None:
    with pytest.raises(InvalidInput, match="bandwidth"):
        request_from({"backup_dir": "/b", "bandwidth": bandwidth})
    assert request_from({"backup_dir": "/b", "bandwidth": FEWEST}).wish.bandwidth == FEWEST
