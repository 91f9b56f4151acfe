"""Two clocks before anything is removed for its age: this machine's and the server's."""

from __future__ import annotations

import datetime

from .connection import Connection, explained, scalar

TOLERANCE = datetime.timedelta(hours=1)


def clocks_apart(conn: Connection) -> str:
    """Why nothing may be removed for its age, or nothing where both clocks tell nearly the same."""
    with explained("Asking the server for its time"):
        there = scalar(conn, "SELECT clock_timestamp()")
    return apart(datetime.datetime.now(tz=datetime.timezone.utc), there)


def apart(here: datetime.datetime, there: datetime.datetime) -> str:
    """A sentence where two clocks differ by more than an hour. Pure."""
    difference = here - there
    if abs(difference) <= TOLERANCE:
        return ""
    hours = abs(difference) / datetime.timedelta(hours=1)
    size = f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.1f} hours"
    side = "ahead of" if difference > datetime.timedelta(0) else "behind"
    return (
        f"The clock of this host is {size} {side} the server's ({here:%Y-%m-%d %H:%M} and {there:%Y-%m-%d %H:%M} UTC): "
        "nothing was removed for its age. Set the wrong one right (timedatectl)."
    )
