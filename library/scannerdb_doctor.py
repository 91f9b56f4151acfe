#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find out what is wrong with the Ollama Scanner database and its maintenance."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_doctor
short_description: Find out what is wrong with the Ollama Scanner database and its maintenance
version_added: "0.3.0"
description:
  - Tests every known cause of trouble, one at a time, from the server and the login to disks, programs and cron, and
    gives a hint for each that is wrong. What cannot be tested is said.
  - Heals one thing only, a database that a crash left closed or half renamed in the middle of a cutover.
extends_documentation_fragment:
  - scannerdb.connection
  - scannerdb.overlay
  - scannerdb.trust
options:
  backup_dir:
    description: Folder of the backup sets.
    type: path
    required: true
  state_dir:
    description: Folder of run records.
    type: path
    required: true
  log_dir:
    description: Folder of the logs.
    type: path
    required: true
  report_dir:
    description: Folder of the reports.
    type: path
    required: true
  config_dir:
    description: Folder of what C(schedule.yml) installed.
    type: path
    required: true
  backup_storage:
    description: Whether the backup folder outlives the machine or container it is in; V(auto) to look.
    type: str
    choices: [auto, persistent, ephemeral]
    default: auto
  stale_s:
    description: A job lock that is held for more seconds is called stale; 0 for never.
    type: int
    default: 21600
  heal:
    description: Whether the databases that an interrupted restore left are put right.
    type: bool
    default: true
attributes:
  check_mode:
    description: Does the same, and heals nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Find out what is wrong
  scannerdb_doctor:
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    state_dir: "/var/lib/scannerdb/{{ inventory_hostname }}"
    log_dir: "/var/log/scannerdb/{{ inventory_hostname }}"
    report_dir: "/var/lib/scannerdb/{{ inventory_hostname }}/reports"
    config_dir: "/etc/scannerdb/{{ inventory_hostname }}"
  register: doctor
"""

RETURN = r"""
diagnoses:
  description: Each cause that was tested, with its state (fine, wrong, unknown), a message and a hint.
  returned: success
  type: list
  elements: dict
problems:
  description: How many are wrong.
  returned: success
  type: int
healed:
  description: What was put right.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import (
    connection_arguments,
    options_from,
    overlay_arguments,
    trust_arguments,
)
from ansible.module_utils.scannerdb.jobs.doctor import Places, doctor


def main() -> None:
    """Read the options, test, answer."""
    folders = ("backup_dir", "state_dir", "log_dir", "report_dir", "config_dir")
    arguments = {
        **connection_arguments(),
        **overlay_arguments(),
        **{name: {"type": "path", "required": True} for name in folders},
        "backup_storage": {"type": "str", "default": "auto", "choices": ["auto", "persistent", "ephemeral"]},
        "stale_s": {"type": "int", "default": 21600},
        "heal": {"type": "bool", "default": True},
        **trust_arguments(),
    }
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    given = module.params
    run_module(
        module,
        lambda: doctor(
            options_from(given),
            Places(
                **{name: given[name] for name in folders},
                signers=tuple(given["trusted_signers"]),
                storage=given["backup_storage"],
            ),
            overlay=given["contract_overlay"],
            stale_s=given["stale_s"],
            heal_cutover=given["heal"],
            check_mode=module.check_mode,
        ),
    )


if __name__ == "__main__":
    main()
