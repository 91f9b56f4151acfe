#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take the bundle's files off a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_uninstall_files
short_description: Take the bundle's files off a host
version_added: "0.3.0"
description:
  - Removes what is recognisably the bundle's own in the folders of one database, and the folders that are empty then.
    Files go by their names, logs also by how they begin, backup sets by their manifests. Whatever else lies there
    stays, and is said; so a folder may be anybody's, such as F(/var/log).
  - Refuses while a scheduled job is at work.
options:
  config_dir:
    description: The folder of the schedule.
    type: path
    required: true
  state_dir:
    description: The folder of run records, progress and hashes.
    type: path
    required: true
  report_dir:
    description: The folder of the reports.
    type: path
    required: true
  log_dir:
    description: The folder of the logs.
    type: path
    required: true
  backup_dir:
    description: The folder of the backups.
    type: path
    required: true
  bundle_dir:
    description: Where the bundle is installed; empty where it is not. It goes with the last database of the machine.
    type: path
    default: ""
  metrics_path:
    description: The file of the metrics; empty for none.
    type: path
    default: ""
  database:
    description: The database whose backup sets go as well, with the logs among them; empty to leave all backups.
    type: str
    default: ""
  job_logs:
    description: Names of the scheduled jobs' logs, which lie among the backups.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Says what would be removed.
    support: full
  diff_mode:
    description: There is nothing to show beyond the result.
    support: none
"""

EXAMPLES = r"""
- name: Take the bundle's files off a host
  scannerdb_uninstall_files:
    config_dir: /etc/scannerdb/scanner
    state_dir: /var/lib/scannerdb/scanner
    report_dir: /var/lib/scannerdb/scanner/reports
    log_dir: /var/log/scannerdb/scanner
    backup_dir: /var/backups/scannerdb/scanner
    bundle_dir: /opt/scannerdb
  become: true
"""

RETURN = r"""
removed:
  description: What was removed, or would be.
  returned: success
  type: list
  elements: str
left:
  description: What stays in the folders, since nothing shows that the bundle made it.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.jobs.uninstall_files import Folders, uninstall_files

FOLDERS = ("config_dir", "state_dir", "report_dir", "log_dir", "backup_dir")


def main() -> None:
    """Read the options, remove, answer."""
    module = AnsibleModule(
        argument_spec={
            **{name: {"type": "path", "required": True} for name in FOLDERS},
            "bundle_dir": {"type": "path", "default": ""},
            "metrics_path": {"type": "path", "default": ""},
            "database": {"type": "str", "default": ""},
            "job_logs": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    folders = Folders(*(given[name] for name in (*FOLDERS, "bundle_dir")))
    rest = {name: given[name] for name in ("metrics_path", "database", "job_logs")}
    run_module(module, lambda: uninstall_files(folders, **rest, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
