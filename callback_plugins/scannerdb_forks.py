# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep Python's garbage collector from going through all of Ansible again in every worker."""

from __future__ import annotations

DOCUMENTATION = r"""
name: scannerdb_forks
type: aggregate
short_description: Make the start of each task of the scanner database cheaper
version_added: "0.2.0"
description:
  - Ansible forks a worker for each task and host, and packs the module there. Python's garbage collector then goes
    through everything that Ansible had loaded before, time and again, and never finds anything.
  - With all of it frozen before the first play, as U(https://docs.python.org/3/library/gc.html#gc.freeze) advises for
    programs that fork, and rarer looks at what comes later, a playbook with one module takes a tenth less.
"""

import gc
from typing import Any

from ansible.plugins.callback import CallbackBase

# So many new ones before a look at them, some ten megabytes; packing a module makes several times that.
OBJECTS = 100_000


class CallbackModule(CallbackBase):
    """Freezes what there is once; what comes later is collected, but more seldom."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "scannerdb_forks"

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """The playbook is loaded, and nothing has been forked yet."""
        gc.freeze()
        gc.set_threshold(OBJECTS)
