#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say how the Ollama Scanner database and its maintenance are doing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_status
short_description: Say how the Ollama Scanner database and its maintenance are doing
version_added: "0.3.0"
description:
  - Gathers schedules, runs, backups, findings of the last check, databases kept by restores, and logs, and judges them.
    A job that did not run when it was due is red, although nothing failed.
  - Works when the database is down, and says so. Changes nothing; metrics are written where they are asked for.
extends_documentation_fragment:
  - scannerdb.status
attributes:
  check_mode:
    description: Does the same, and writes no metrics.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Look at one database
  scannerdb_status:
    host: "{{ inventory_hostname }}"
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    state_dir: "/var/lib/scannerdb/{{ inventory_hostname }}"
    log_dir: "/var/log/scannerdb/{{ inventory_hostname }}"
    config_dir: "/etc/scannerdb/{{ inventory_hostname }}"
  register: status
"""

RETURN = r"""
state:
  description: One of ok, warning, critical.
  returned: success
  type: str
problems:
  description: What is wrong, the most severe first, each with severity and message.
  returned: success
  type: list
  elements: dict
row:
  description: The cells of a table over all databases.
  returned: success
  type: dict
database:
  description: Whether it can be reached, and why not; version, standby, size_bytes, kept_databases.
  returned: success
  type: dict
schedule:
  description: >-
    The kind (cron, timer, none) and the jobs, each with its state (ok, running, waiting, due, late, failed, missing,
    off), when it is due next, and its last run.
  returned: success
  type: dict
backups:
  description: >-
    Their number, the newest one with age and size, one whose date is in the future (ahead), damaged ones, and what was
    proven restorable when, and the last drill with its outcome; the number of the old script's files beside them
    (old_files), and the newest of these.
  returned: success
  type: dict
physical:
  description: What O(physical) brought.
  returned: success
  type: dict
findings:
  description: Findings of the last check by severity, how they changed since the one before, and the last ten.
  returned: success
  type: dict
runs:
  description: >-
    The newest run of each job on this database, the newest first, whoever started it: its job, run_id, the step that it
    said last, how much of it was done, and when (at, age_s).
  returned: success
  type: list
  elements: dict
logs:
  description: The log files, each with path, size_bytes and changed.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.jobs.status import status
from ansible.module_utils.scannerdb.option import argument_spec, taken
from ansible.module_utils.scannerdb.status.options import StatusOptions


def main() -> None:
    """Read the options, look, answer."""
    module = AnsibleModule(argument_spec=argument_spec(ConnectionOptions, StatusOptions), supports_check_mode=True)
    run_module(
        module,
        lambda: status(options_from(module.params), taken(StatusOptions, module.params), check_mode=module.check_mode),
    )


if __name__ == "__main__":
    main()
