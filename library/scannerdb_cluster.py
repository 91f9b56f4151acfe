#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell which cluster a server is a member of."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_cluster
short_description: Tell which cluster a server is a member of
version_added: "0.3.0"
description:
  - Tells the system identifier of the server, which all members of a cluster of streaming servers share, and whether
    this one is the primary or a standby.
  - Reads only.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.cluster
attributes:
  check_mode:
    description: Does the same.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
seealso:
  - module: scannerdb_info
"""

EXAMPLES = r"""
- name: Ask which cluster this is
  scannerdb_cluster:
    login_unix_socket: /var/run/postgresql
  register: cluster
"""

RETURN = r"""
key:
  description: System identifier and database, the same for all members; empty where the role may not ask.
  returned: success
  type: str
  sample: 7471201234567890123/ollama_scanner
system:
  description: The system identifier.
  returned: success
  type: str
standby:
  description: Whether the server is a standby.
  returned: success
  type: bool
streaming:
  description: Whether it follows another server just now.
  returned: success
  type: bool
follows:
  description: Which server it follows, where the role may see that.
  returned: success
  type: str
followers:
  description: Addresses that other servers follow it from, where the role may see them.
  returned: success
  type: list
  elements: str
position:
  description: Where its log stands, in bytes; of a standby what is replayed.
  returned: success
  type: int
behind_bytes:
  description: How much of the log a standby has received and not replayed.
  returned: success
  type: int
paused:
  description: Whether Patroni, where its REST API is known, is paused, so that no other member takes over.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.jobs.cluster import cluster
from ansible.module_utils.scannerdb.option import argument_spec


def main() -> None:
    """Read the options, look, answer."""
    module = AnsibleModule(argument_spec=argument_spec(ConnectionOptions), supports_check_mode=True)
    run_module(module, lambda: cluster(options_from(module.params)))


if __name__ == "__main__":
    main()
