"""A name that nothing knows is told, with the nearest known one: of a variable, and of a finding to ignore."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from scannerdb.checks.ignore import parse_ignores, unknown_ids
from scannerdb.checks.registry import KINDS

ROOT = Path(__file__).resolve().parents[2]
FILTER = ROOT / "roles/scannerdb_common/filter_plugins/scannerdb_names.py"


@pytest.fixture(scope="module")
def names() -> Any:
    spec = importlib.util.spec_from_file_location(FILTER.stem, FILTER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_misspelt_variable_is_told(names: Any) -> None:
    assert names.unknown([(["scannerdb_retention_day", "other_variable", "scannerdb_xyz"], True)]) == [
        "Nothing knows scannerdb_retention_day; scannerdb_retention_days is the nearest that there is.",
        "Nothing knows scannerdb_xyz.",
    ]


def test_each_host_says_for_its_own_names_whether_it_is_strict(names: Any) -> None:
    owned = [(["scannerdb_xyz", "scannerdb_mine"], False), (["scannerdb_mine", "scannerdb_hosts"], True)]
    assert names.unknown(owned) == ["Nothing knows scannerdb_mine."]
    assert names.unknown(owned, strict=False) == ["Nothing knows scannerdb_xyz."]


def test_the_inventory_of_jobs_has_no_secret_but_the_login(names: Any) -> None:
    """And nothing of what only the role that configures pgBackRest reads: keys of a bucket stand there."""
    written = names.only_known([*sorted(names.known()), "scannerdb_nothing_knows_this"])
    variables = yaml.safe_load((ROOT / "roles/scannerdb_schedule/vars/main.yml").read_text())
    written = [one for one in written if not re.match(variables["__scannerdb_schedule_left_out"], one)]
    secret, of_engine = set(), set()
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            secret |= {name for name, spec in entry["options"].items() if spec.get("no_log")}
            of_engine |= set(entry["options"] if path.parts[-3] == "scannerdb_pgbackrest" else ())
    assert secret & set(written) == {"scannerdb_login_password"}
    assert len(of_engine) > 5 and of_engine & set(written) == set()
    assert {"scannerdb_pgbackrest_stanza", "scannerdb_restore_keep_hours", "scannerdb_strict"} <= set(written)
    assert "scannerdb_nothing_knows_this" not in written


def test_what_the_bundle_knows_is_not(names: Any) -> None:
    """Every default, what tasks register and playbooks keep, and what the inventories and scenarios set."""
    set_here = names.known() | {"scannerdb_fix_result", "scannerdb_backup_artifacts", "scannerdb_hosts"}
    for path in [*(ROOT / "inventories").rglob("*.yml"), *(ROOT / "molecule").rglob("*.yml")]:
        set_here |= set(re.findall(r"^ +(scannerdb_\w+): ", path.read_text(), re.MULTILINE))
    modules = {path.stem for path in (ROOT / "library").glob("*.py")}
    assert names.unknown([(set_here - modules, True)]) == []


def test_what_tasks_leave_is_known_to_the_next_playbook_of_the_same_run(names: Any) -> None:
    """Two playbooks that one imports run after each other: what the first has registered is no misspelling."""
    left = set()
    for path in [*(ROOT / "roles").glob("*/tasks/*.yml"), *(ROOT / "playbooks").rglob("*.yml")]:
        text = path.read_text()
        left |= set(re.findall(r"register: (scannerdb_\w+)", text))
        for facts in re.findall(r"set_fact:\n((?: +\w+:.*\n)+)", text):
            left |= set(re.findall(r"^ +(scannerdb_\w+):", facts, re.MULTILINE))
    assert {"scannerdb_check_judged", "scannerdb_found"} <= left
    assert names.unknown([(left, True)]) == []


def test_every_playbook_looks_at_the_names_first() -> None:
    for path in (ROOT / "playbooks").glob("*.yml"):
        assert yaml.safe_load(path.read_text())[0]["ansible.builtin.import_playbook"] == "internal/targets.yml", path
    first = yaml.safe_load((ROOT / "playbooks/internal/targets.yml").read_text())[0]
    assert "names" in [task.get("ansible.builtin.import_role", {}).get("tasks_from") for task in first["tasks"]]


def test_an_id_to_ignore_that_no_finding_has_is_told() -> None:
    entries = [{"id": one, "reason": "known"} for one in ("index.unusd", "data.*", "index.unused")]
    assert unknown_ids(parse_ignores(entries), KINDS) == [
        "scannerdb_check_ignore: no finding has the id 'index.unusd'; index.unused is the nearest that there is."
    ]
