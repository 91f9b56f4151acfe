"""What a program that failed is said to have died of: pure."""

from __future__ import annotations

from scannerdb.files import DISK_FULL
from scannerdb.process import Finished, tool_error

CONSEQUENCES = "\n".join(f'pg_restore: error: relation "t{number}" does not exist' for number in range(9))


def test_a_known_cause_is_named_before_what_followed_from_it() -> None:
    full = 'pg_restore: error: could not extend file "base/5/1": No space left on device'
    error = tool_error("/usr/bin/pg_restore", Finished("", f"{full}\n{CONSEQUENCES}\n", 1))
    assert "No space left on device" in error.message and 'relation "t8"' in error.message
    assert str(error).endswith(DISK_FULL)


def test_without_a_known_cause_the_last_errors_speak() -> None:
    message = tool_error("pg_restore", Finished("", CONSEQUENCES, 1)).message
    assert '"t6"' in message and '"t8"' in message and '"t5"' not in message
    assert "signal 9" in tool_error("pg_dump", Finished("", "", -9)).message
