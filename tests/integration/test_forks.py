"""What the bundle's callbacks spare Ansible before it forks, and beside it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.integration.playbooks import ROOT, Run, run
from tests.integration.support import processes

FROZEN = """
import gc
class FilterModule:
    def filters(self):
        return {"frozen": lambda value: f"{gc.get_freeze_count()} {gc.get_threshold()[0]}"}
"""
FREEZING = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: "frozen {{ 0 | frozen }}"
"""
# The conditional one comes first: it would be packed first.
PACKING = """
- hosts: localhost
  gather_facts: false
  vars:
    packed: "{{ query('ansible.builtin.pipe', 'ls $ANSIBLE_HOME/tmp/*/ansiballz_cache || true') | map('split') | flatten
                | reject('match', '.*[.]lock') }}"
  tasks:
    - ansible.builtin.debug:
      until: packed | length > 0
      retries: 100
      delay: 0.1
    - ansible.builtin.debug:
        msg: "beforehand {{ packed | join(' ') }}"
    - scannerdb_info:
        login_db: none
      when: (packed | length) < 0
    - scannerdb_folders:
        paths: ["{{ playbook_dir }}/made"]
"""
FAILING = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.fail:
    - scannerdb_backup: {}
    - scannerdb_check: {}
    - scannerdb_fix: {}
"""
MAKING = """
- hosts: localhost
  gather_facts: false
  tasks:
    - scannerdb_folders:
        paths: ["{{ playbook_dir }}/made"]
"""
# Comes after the bundle's own callbacks, which are loaded by name.
KILLER = """
from multiprocessing import active_children
from ansible.plugins.callback import CallbackBase
class CallbackModule(CallbackBase):
    def v2_playbook_on_start(self, playbook):
        for process in active_children():
            process.kill()
            print("killed one")
"""


def play(folder: Path, playbook: str, **environment: str) -> Run:
    (folder / "play.yml").write_text(playbook)
    return run([sys.executable, "-m", "ansible", "playbook", str(folder / "play.yml")], folder, ROOT, environment)


def test_what_ansible_loaded_is_frozen_in_its_workers(tmp_path: Path) -> None:
    (tmp_path / "filter_plugins").mkdir()
    (tmp_path / "filter_plugins" / "frozen.py").write_text(FROZEN)
    done = play(tmp_path, FREEZING).ok()
    told = re.search(r"frozen (\d+) (\d+)", done.output)
    assert told is not None and int(told[1]) > 10_000 and int(told[2]) > 10_000


def test_modules_that_are_sure_to_run_are_packed_beside_the_first_tasks(tmp_path: Path) -> None:
    done = play(tmp_path, PACKING, ANSIBLE_DEBUG="1").ok()
    assert "beforehand ansible.legacy.scannerdb_folders-" in done.output
    assert re.search(r"using cached module: \S*scannerdb_folders", done.output), done.output
    assert "scannerdb_info-" not in done.output and (tmp_path / "made").is_dir()


def test_nothing_is_left_of_a_run_that_ends_while_modules_are_packed(tmp_path: Path) -> None:
    play(tmp_path, FAILING).failed("Failed as requested")
    assert not processes(str(tmp_path))
    assert list((tmp_path / "ansible" / "tmp").iterdir()) == []


def test_a_run_whose_packing_is_killed_packs_for_itself(tmp_path: Path) -> None:
    (tmp_path / "killer").mkdir()
    (tmp_path / "killer" / "zz_killer.py").write_text(KILLER)
    plugins = f"{ROOT / 'callback_plugins'}:{tmp_path / 'killer'}"
    done = play(tmp_path, MAKING, ANSIBLE_CALLBACK_PLUGINS=plugins).ok()
    assert "killed one" in done.output and (tmp_path / "made").is_dir()
