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
  - scannerdb.doctor
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
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.doctor.options import DoctorOptions
from ansible.module_utils.scannerdb.jobs.doctor import doctor, places_from
from ansible.module_utils.scannerdb.option import argument_spec, taken


def main() -> None:
    """Read the options, test, answer."""
    module = AnsibleModule(argument_spec=argument_spec(ConnectionOptions, DoctorOptions), supports_check_mode=True)
    request = taken(DoctorOptions, module.params)
    run_module(
        module,
        lambda: doctor(
            options_from(module.params),
            places_from(request),
            overlay=request.contract_overlay,
            stale_s=request.stale_s,
            heal_cutover=request.heal,
            check_mode=module.check_mode,
        ),
    )


if __name__ == "__main__":
    main()
