"""Whatever is given to a module, it answers in a sentence and in time: no traceback, no hang.

A seeded choice of modules and values runs with the suite; SCANNERDB_NONSENSE=2000 tries as many combinations. Modules
run in this process, on a real database; those that write on the host in check mode only.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import ansible.module_utils
import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from tests.servers import Database

ROOT = Path(__file__).resolve().parents[3]
MODULES = sorted(path.stem for path in (ROOT / "library").glob("scannerdb_*.py"))
ON_THE_HOST = ("scannerdb_folders", "scannerdb_legacy", "scannerdb_passfile", "scannerdb_uninstall_files")
TIMES = int(os.environ.get("SCANNERDB_NONSENSE", "60"))
LIMIT_S = 120
DEEP: Any = "deep"
for _ in range(200):
    DEEP = {"tables": [DEEP]}
TEXTS = ["", " ", "\0", "a\0b", "é" * 200, "x" * 5000, "'; DROP TABLE endpoints; --", "%s%(x)s", "{{ 7 * 7 }}", "-rf"]
TEXTS += ["../../etc/passwd", "\n\r\x1b[2J", "latest", "2025-13-45", "0", "true", "20250418T031500Z-0a1b2c3d"]
HOSTS = ["", "\0", "/nonexistent", "x" * 300, "127.0.0.1"]  # no names that a network is asked for
NONSENSE: dict[str, list[Any]] = {
    "str": [*TEXTS, 7, [], {"a": 1}],
    "int": [0, -1, 1, 10**12, 2**63, -(2**63), 10**30, "x", 1.5, True, "1e9", [], ""],
    "float": ["nan", "inf", "-inf", -1, 0, 1e308, "x", "", []],
    "bool": ["maybe", 2, "yes", "", []],
    "list": [[], "", "a,b", ["\0"], [[]], {"a": 1}, [None], ["x" * 5000], list(range(500)), "[["],
    "dict": [{}, "", "{", {"tables": {"x": 1}}, {"tables": []}, {"\0": 1}, [], 7, DEEP],
    "raw": ["", "{", {"days": 9}, [[]], 7, None, "Mo-Fr 25:00", "\0", DEEP],
    "bytes": ["8M", "-1", "1e", "x", "", 10**30],
}


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "library" / f"{name}.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def asked(module: ModuleType) -> dict[str, dict[str, Any]]:
    """A module's options, before it does anything."""
    found: dict[str, dict[str, Any]] = {}

    class Stop(Exception):
        pass

    def stand_in(_: object, argument_spec: dict[str, Any], **__: Any) -> None:
        found.update(argument_spec)
        raise Stop

    plain = AnsibleModule.__init__
    AnsibleModule.__init__ = stand_in
    try:
        with pytest.raises(Stop):
            module.main()
    finally:
        AnsibleModule.__init__ = plain
    return found


def a_value(chance: random.Random, name: str, spec: dict[str, Any], folder: Path) -> Any:
    """Something for an option: what it may be, or nonsense."""
    if "choices" in spec and chance.random() < 0.7:
        return chance.choice(list(spec["choices"]))
    if name == "login_host":
        return chance.choice(HOSTS)
    if spec["type"] == "path":
        below = [folder, folder / "file" / "x", folder / ("n" * 300)]
        return str(chance.choice(["", "relative/x", "/dev/null/x", "/proc/1/x", "\0", *below]))
    return chance.choice(NONSENSE[spec["type"]])


def sensible(name: str, spec: dict[str, Any], folder: Path) -> Any:
    """Something that a required option takes."""
    if spec["type"] == "path":
        return str(folder / name)
    return {"list": [], "str": "x", "dict": {}}.get(spec["type"], 1)


def arguments(chance: random.Random, database: Database, specs: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The arguments of one call: a working login most of the time, and nonsense in some of the rest."""
    given = {name: sensible(name, spec, folder) for name, spec in specs.items() if spec.get("required")}
    given.update({name: value for name, value in database.login.items() if name in specs})
    share = chance.choice([0.05, 0.15, 0.4])
    for name, spec in specs.items():
        if chance.random() < share * (0.3 if name in database.login else 1):
            given[name] = a_value(chance, name, spec, folder)
    return given


@pytest.fixture
def in_time() -> Iterator[None]:
    def over(_: int, __: FrameType | None) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, over)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.pg(17)
@pytest.mark.usefixtures("in_time")
def test_nonsense_is_answered(
    field_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ansible.module_utils, "__path__", [*ansible.module_utils.__path__, str(ROOT / "module_utils")])
    monkeypatch.chdir(tmp_path)  # where a relative path would lead
    (tmp_path / "file").write_text("no folder", encoding="ascii")
    chance = random.Random(TIMES)
    programs: dict[str, tuple[Callable[[], None], dict[str, Any]]] = {}
    for name in MODULES:
        module = program(name)
        programs[name] = (module.main, asked(module))
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    for number in range(TIMES):
        name = chance.choice(MODULES)
        main, specs = programs[name]
        given = arguments(chance, field_db, specs, tmp_path)
        given["_ansible_check_mode"] = name in ON_THE_HOST or chance.random() < 0.6
        told = f"{number}: {name} {json.dumps(given)[:700]}"
        signal.alarm(LIMIT_S)
        with patch_module_args(given):
            try:
                with pytest.raises(SystemExit):
                    main()
            except (Exception, pytest.fail.Exception):
                wrong.append(f"{told}\n{traceback.format_exc()[-1500:]}")
                capsys.readouterr()
                continue
            finally:
                signal.alarm(0)
        said = capsys.readouterr().out
        answer = json.loads(said)
        if "Traceback" in said or (answer.get("failed") and not answer.get("msg")):
            wrong.append(f"{told}\n{said[:1500]}")
        seen["refused" if answer.get("failed") else "done"] += 1
    print(f"{TIMES} combinations: {dict(seen)}")
    assert seen["done"] and seen["refused"], "it must get beyond the login, and be refused"
    assert not wrong, f"{len(wrong)} of {TIMES}:\n" + "\n\n".join(wrong[:10])
