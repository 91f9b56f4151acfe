#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take the bundle's schema out of the Ollama Scanner database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_uninstall
short_description: Take the bundle's schema out of the Ollama Scanner database
version_added: "0.3.0"
description:
  - Drops the schema C(scannerdb_maintenance) with the journal of fixes; after that no fix can be undone any more.
  - Refuses where the schema holds anything else. The view C(servers), its triggers and all data stay.
extends_documentation_fragment:
  - scannerdb.uninstall
attributes:
  check_mode:
    description: Says what would be dropped.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Take the bundle's schema out of the database
  scannerdb_uninstall:
    login_db: ollama_scanner
    login_user: postgres
"""

RETURN = r"""
rows:
  description: Rows of the journal that were, or would be, dropped with it.
  returned: success
  type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.jobs.options import UninstallOptions
from ansible.module_utils.scannerdb.jobs.uninstall import uninstall
from ansible.module_utils.scannerdb.option import argument_spec, values_of


def main() -> None:
    """Read the options, drop, answer."""
    module = AnsibleModule(argument_spec=argument_spec(ConnectionOptions, UninstallOptions), supports_check_mode=True)
    run_module(
        module,
        lambda: uninstall(
            options_from(module.params), check_mode=module.check_mode, **values_of(UninstallOptions, module.params)
        ),
    )


if __name__ == "__main__":
    main()
