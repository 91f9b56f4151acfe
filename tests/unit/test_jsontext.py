"""JSON that anybody may have written."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scannerdb.checks.history import read_history
from scannerdb.errors import BackupInvalid
from scannerdb.jsontext import DEEPEST, read_json, read_json_file
from scannerdb.restore.marks import parse_mark
from scannerdb.runs import last_runs
from scannerdb.sets.manifest import from_json
from scannerdb.sets.verification_log import UNREADABLE, read_records
from scannerdb.vacuum.memory import Memory, parse

ROOT = Path(__file__).resolve().parents[2]


def program(path: str) -> ModuleType:
    """A program of the bundle that is no part of a package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


sys.path.append(str(ROOT / "runner"))
runner, progress = program("runner/run_job.py"), program("callback_plugins/scannerdb_progress.py")
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


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_the_runner_and_the_line_of_progress_read_within_bounds(text: str, tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError):
        read_json_file(path)
    with pytest.raises(runner.Ended, match=f"{path} cannot be read") as told:
        runner.load(str(path))
    assert told.value.code == 78
    assert progress.newest(tmp_path, 0) is None


@pytest.mark.parametrize("text", ["[]", "{}", '{"bundle": 1}', '{"jobs": 7}', '{"jobs": [7]}', "null", '"text"'])
def test_a_schedule_that_is_none_is_a_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(runner.Ended, match=r"Run playbooks/schedule\.yml again"):
        runner.load(str(path))


def test_what_is_no_file_or_too_long_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_text(json.dumps("x" * 100), encoding="utf-8")
    for name in ("pipe", "long"):
        with pytest.raises(ValueError):
            read_json_file(tmp_path / name, longest=50)
    assert read_json_file(tmp_path / "long") == "x" * 100


def test_a_line_of_progress_has_no_control_characters() -> None:
    said = progress.line("h", {"job": "a\x1b[2Jb", "step": ["odd"], "done": "many", "total": {"no": "number"}})
    assert said.isprintable()
    assert "many" not in said
