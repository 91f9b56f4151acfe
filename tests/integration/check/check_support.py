"""Short words for the tests of checks beside other sessions."""

from __future__ import annotations

import threading
import time
from typing import Any

from scannerdb.checks.options import CheckOptions
from scannerdb.jobs.check import check

from tests.integration.support import options
from tests.servers import Database


def waiting(database: Database) -> list[int]:
    """The check's session, once it waits for a lock."""
    deadline = time.monotonic() + 60
    query = (
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'scannerdb check%' AND wait_event_type = 'Lock'"
        " AND datname = current_database()"
    )
    while time.monotonic() < deadline:
        pids = [row[0] for row in database.sql(query)]
        if pids:
            return pids
        time.sleep(0.02)
    raise AssertionError("the check never waited")


class Looking(threading.Thread):
    """A check in the background."""

    def __init__(self, database: Database, **more: Any) -> None:
        super().__init__()
        self.database, self.more = database, more
        self.result: dict[str, Any] = {}
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = check(options(self.database), CheckOptions(**self.more))
        except Exception as error:
            self.error = error
