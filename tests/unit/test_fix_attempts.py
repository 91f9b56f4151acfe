"""A fix that began again on a new primary: nothing of what the attempts before did gets lost. Needs no server."""

from __future__ import annotations

from typing import Any

from scannerdb.fixes.attempts import broken_off, finished

LOST = "The connection was lost."


def part(*fixed: str, failures: tuple[str, ...] = (), held: float = 1.0, msg: str = "done.") -> dict[str, Any]:
    figures = dict.fromkeys(("max_lock_ms", "max_wait_ms", "max_structure_ms", "max_rows_ms"), held)
    steps = [{"id": one, "object": "endpoints"} for one in fixed]
    diff = {"before": "", "after": "".join(fixed)}
    texts = {"statements": list(fixed), "failures": list(failures)}
    return {"changed": bool(fixed), "run_id": "r", "fixed": steps, "msg": msg, "diff": diff, **texts, **figures}


def test_an_attempt_that_ends_well_keeps_earlier_failures_and_figures() -> None:
    before = part("a", failures=("b on endpoints: locked.", "c on endpoints: locked.", LOST), held=9.0)
    done = finished([before], part("b", held=2.0), 50)
    assert [one["id"] for one in done["fixed"]] == ["a", "b"]
    assert done["failures"] == ["c on endpoints: locked."], "b was made in the end, and the primary was found again"
    assert (done["max_lock_ms"], done["max_rows_ms"], done["diff"]["after"]) == (9.0, 9.0, "a")
    assert "9 ms for rows" in done["locks"]
    assert done["msg"].endswith("2 fixes were applied in all. Before that, 1 fixes failed: c on endpoints: locked.")
    assert finished([], part("b"), 50) == part("b")


def test_an_attempt_that_fails_tells_what_was_done_before() -> None:
    done = broken_off([part("a", failures=(LOST,), held=9.0)], "Another run is at work.", " Back: r", 50)
    assert (done["changed"], done["run_id"], done["max_lock_ms"]) == (True, "r", 9.0)
    assert done["failures"] == [LOST, "Another run is at work."]
    assert done["msg"].startswith("Another run is at work. Before that, ")
    assert "1 fixes were applied in all" in done["msg"]
    assert done["msg"].endswith(" Back: r")
