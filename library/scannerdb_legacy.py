#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Recognise what the old shell scripts left on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_legacy
short_description: Recognise what the old shell scripts left on a host
version_added: "0.3.0"
description:
  - Finds lines of crontabs that start the old scripts, their C(.env) and their backups. On request the lines are
    switched off or removed; nothing else is ever touched. A line that only logs where the old scripts did is said, and
    left as it is.
extends_documentation_fragment:
  - scannerdb.legacy
attributes:
  check_mode:
    description: Says what would be changed.
    support: full
  diff_mode:
    description: Shows the crontabs before and after.
    support: full
"""

EXAMPLES = r"""
- name: Switch the old scripts off
  scannerdb_legacy:
    mode: take
  become: true
"""

RETURN = r"""
lines:
  description: >-
    The lines that start old scripts, or log where they did, each with file and line. C(sure) is false
    where it only logs there.
  returned: success
  type: list
  elements: dict
places:
  description: >-
    The folders of old scripts, each with the path of its env, the variables that it amounts to (never the password,
    only whether there is one), and the names of its backups.
  returned: success
  type: list
  elements: dict
times:
  description: When the old scripts ran, as C(scannerdb_schedule_overrides) that keep these times.
  returned: success
  type: dict
  sample: {daily: {hour: 3, minute: 0}, weekly: {hour: 4, minute: 30, weekday: sunday, day: ""}}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.jobs.legacy import legacy
from ansible.module_utils.scannerdb.legacy.options import LegacyOptions
from ansible.module_utils.scannerdb.option import argument_spec, values_of


def main() -> None:
    """Read the options, look, answer."""
    module = AnsibleModule(argument_spec=argument_spec(LegacyOptions), supports_check_mode=True)
    run_module(module, lambda: legacy(check_mode=module.check_mode, **values_of(LegacyOptions, module.params)))


if __name__ == "__main__":
    main()
