"""What a module's documentation says of its options is what the module takes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ansible.module_utils
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "library").glob("scannerdb_*.py"))
FIELDS = ("type", "default", "choices", "elements", "required")


class Asked(Exception):
    """Raised in place of a running module, with what it asked AnsibleModule for."""


def stand_in(_: object, **asked: Any) -> None:
    raise Asked(asked)


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """ansible-doc's view of all modules, fragments and all."""
    command = [sys.executable, "-m", "ansible", "doc", "--json", "-t", "module", "-M", "library", *MODULES]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"}
    environment["ANSIBLE_HOME"] = str(tmp_path_factory.mktemp("home"))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "WARNING" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def asked_by(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments with which a module makes its AnsibleModule."""
    monkeypatch.setattr(ansible.module_utils, "__path__", [*ansible.module_utils.__path__, str(ROOT / "module_utils")])
    spec = importlib.util.spec_from_file_location(name, ROOT / "library" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.AnsibleModule, "__init__", stand_in)
    with pytest.raises(Asked) as caught:
        module.main()
    asked: dict[str, Any] = caught.value.args[0]
    return asked


def relevant(options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Options with their fields, those left out filled in as Ansible understands them."""
    return {
        name: {field: option.get(field) for field in FIELDS} | {"required": option.get("required", False)}
        for name, option in options.items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_documented_options_are_the_modules_own(
    name: str, documented: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said, asked = documented[name]["doc"], asked_by(name, monkeypatch)
    assert relevant(said["options"]) == relevant(asked["argument_spec"])
    assert asked["supports_check_mode"] is True
    assert said["attributes"]["check_mode"]["support"] == "full"
    secret = {option for option, spec in asked["argument_spec"].items() if spec.get("no_log")}
    assert secret == {option for option in asked["argument_spec"] if "password" in option or option == "identity_key"}


@pytest.mark.parametrize("name", MODULES)
def test_documentation_reads_well(name: str, documented: dict[str, Any]) -> None:
    said = documented[name]
    assert said["doc"]["module"] == name
    for option, spec in said["doc"]["options"].items():
        text = " ".join(spec["description"])
        assert text.endswith((".", ")")), (option, text)
    requirements = said["doc"].get("requirements", [])
    assert len([r for r in requirements if r.startswith("psycopg")]) == ("login_db" in said["doc"]["options"])
    examples = yaml.safe_load(said["examples"])
    assert {option for task in examples for option in task.get(name) or {}} <= set(said["doc"]["options"])
    assert said["return"]
