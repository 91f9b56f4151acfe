"""JSON that anybody may have written."""

from __future__ import annotations

from pathlib import Path

import pytest
from scannerdb.backup.manifest import from_json
from scannerdb.backup.record import UNREADABLE, read_records
from scannerdb.checks.history import read_history
from scannerdb.errors import BackupInvalid
from scannerdb.jsontext import DEEPEST, read_json
from scannerdb.restore.names import parse_mark
from scannerdb.runs import last_runs
from scannerdb.vacuum.memory import Memory, parse

BAD = {
    "deep": "[" * 100_000 + "]" * 100_000,
    "deep enough": '{"a":' * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1),
    "large": '{"rate": 1' + "0" * 5000 + "}",
    "infinite": '{"rate": 1e999}',
    "no number": '{"rate": NaN}',
    "no json": "{",
    "empty": "",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_whatever_is_beyond_the_bounds_is_damaged(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        read_json(text)
    with pytest.raises(BackupInvalid):
        from_json(text)
    assert parse(text) == Memory()
    assert parse_mark("{" + text) is None
    for name in ("verification.jsonl", "check_history.jsonl"):
        (tmp_path / name).write_text(text + "\n", encoding="utf-8")
    (tmp_path / "progress").mkdir()
    (tmp_path / "progress" / "20250418T031500Z-0a1b2c3d.json").write_text(text, encoding="utf-8")
    assert set(read_records(tmp_path)) <= {UNREADABLE}
    assert read_history(str(tmp_path), "x") == []
    assert last_runs(str(tmp_path), "x") == []


def test_what_we_write_is_read() -> None:
    assert read_json('{"a": [1, 2.5, {"b": null}], "c": 9223372036854775807}') == {
        "a": [1, 2.5, {"b": None}],
        "c": 9223372036854775807,
    }
