# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have the modules of a playbook packed by the time that its first tasks are done."""

from __future__ import annotations

DOCUMENTATION = r"""
name: scannerdb_packing
type: aggregate
short_description: Pack the modules of the scanner database beside the first tasks
version_added: "0.2.0"
description:
  - Ansible packs a module with all that it imports when its task begins, a quarter of a second for the larger ones.
  - Another process does that from the playbook's start, beside what comes before them. It is given to the tasks by
    Ansible's own cache of the run, where they find it as if another host's task had packed it.
  - Only for tasks without a condition, so that no processor is kept busy for nothing.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

from ansible import constants as C
from ansible.executor.module_common import modify_module
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import module_loader
from ansible.template import Templar

PREFIX = "scannerdb_"
LONGEST_S = 60  # a task that needs the module waits for it


def modules(playbook: Any) -> Iterator[str]:
    """The bundle's modules whose tasks have no condition, in the order of the tasks."""
    for play in playbook.get_plays():
        for block in play.compile():
            for task in block.get_tasks():
                if task.action.startswith(PREFIX) and not task.when:
                    yield task.action


def pack(playbook: Any) -> None:
    """Runs in a process of its own, without a word: whatever is wrong here, the task itself will meet, and say."""
    ansible = os.getppid()
    for known in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(known, signal.SIG_DFL)
    signal.alarm(LONGEST_S)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    templar = Templar(loader=DataLoader())
    for name in dict.fromkeys(modules(playbook)):
        if os.getppid() != ansible:
            return
        modify_module(
            module_name=name,
            module_path=module_loader.find_plugin(name),
            module_args={},
            templar=templar,
            task_vars={"ansible_python_interpreter": sys.executable},  # nothing of it is in what is kept
            module_compression=C.DEFAULT_MODULE_COMPRESSION,
        )


class CallbackModule(CallbackBase):
    """Packs while the playbook begins. What goes wrong here never disturbs a run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "scannerdb_packing"

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """The playbook is loaded; nothing runs beside Ansible yet, so that a fork is safe."""
        with contextlib.suppress(OSError):
            get_context("fork").Process(target=pack, args=(playbook,), daemon=True).start()
