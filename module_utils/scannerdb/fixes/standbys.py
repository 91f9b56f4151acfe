"""Waiting for standbys that are too far behind."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..connection import Connection
from ..standbylag import standby_lag

LOOK_EVERY_S = 1.0


@dataclass
class StandbyPause:
    """A pause while a standby is more than `max_lag_bytes` behind. (A role that may not look sees no standby.)"""

    conn: Connection
    max_lag_bytes: int
    most_s: float
    looked_at: float = 0.0

    def __call__(self) -> None:
        """Pause where it is needed, not longer than `most_s`."""
        now = time.monotonic()
        if not self.max_lag_bytes or now - self.looked_at < LOOK_EVERY_S:
            return
        self.looked_at = now
        while time.monotonic() < now + self.most_s and standby_lag(self.conn) > self.max_lag_bytes:
            time.sleep(0.2)
