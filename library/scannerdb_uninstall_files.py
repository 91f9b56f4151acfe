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
extends_documentation_fragment:
  - scannerdb.uninstall_files
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
from ansible.module_utils.scannerdb.jobs.options import UninstallFilesOptions
from ansible.module_utils.scannerdb.jobs.uninstall_files import folders_of, uninstall_files
from ansible.module_utils.scannerdb.option import argument_spec, taken


def main() -> None:
    """Read the options, remove, answer."""
    module = AnsibleModule(argument_spec=argument_spec(UninstallFilesOptions), supports_check_mode=True)
    request = taken(UninstallFilesOptions, module.params)
    run_module(
        module,
        lambda: uninstall_files(
            folders_of(request),
            database=request.database,
            job_logs=request.job_logs,
            metrics_path=request.metrics_path,
            check_mode=module.check_mode,
        ),
    )


if __name__ == "__main__":
    main()
