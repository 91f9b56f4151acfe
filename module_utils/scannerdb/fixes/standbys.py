"""Waiting for standbys that are too far behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..connection import Connection
from ..standbylag import UNSEEN, standby_lag, standbys_hidden

LOOK_EVERY_S = 1.0


@dataclass
class StandbyPause:
    """A pause while a standby is more than `max_lag_bytes` behind; where the role may not look, that is said once."""

    conn: Connection
    max_lag_bytes: int
    most_s: float
    say: Callable[[str], object] = lambda text: None
    looked_at: float = 0.0

    def __call__(self) -> None:
        """Pause where it is needed, not longer than `most_s`."""
        now = time.monotonic()
        if not self.max_lag_bytes or now - self.looked_at < LOOK_EVERY_S:
            return
        if not self.looked_at and standbys_hidden(self.conn):
            self.say(f"warning: {UNSEEN}")
        self.looked_at = now
        while time.monotonic() < now + self.most_s and standby_lag(self.conn) > self.max_lag_bytes:
            time.sleep(0.2)
