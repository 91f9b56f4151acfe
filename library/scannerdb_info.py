#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell sizes, settings and sessions of the Ollama Scanner database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_info
short_description: Tell sizes, settings and sessions of the Ollama Scanner database
version_added: "0.3.0"
description:
  - Tells the server's version, the size of the database and of every table, the settings that matter to maintenance,
    extensions, connections, and the databases that restores have kept.
  - Reads only. Works on a standby, and with a role that may do no more than connect.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.info
attributes:
  check_mode:
    description: Does the same.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
seealso:
  - module: scannerdb_check
  - module: scannerdb_vacuum
"""

EXAMPLES = r"""
- name: Look at the database
  scannerdb_info:
    login_unix_socket: /var/run/postgresql
  register: scanner

- name: Show the five largest tables
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.total_pretty }} (table {{ item.table_pretty }}, indexes {{ item.index_pretty }})"
  loop: "{{ scanner.tables[:5] }}"
"""

RETURN = r"""
server:
  description: The server.
  returned: success
  type: dict
  contains:
    version:
      description: Version, as people say it.
      type: str
      sample: "17.5"
    version_num:
      description: Version as a number.
      type: int
      sample: 170005
    standby:
      description: Whether it is a standby.
      type: bool
    role:
      description: The role that looked.
      type: str
    superuser:
      description: Whether that is a superuser.
      type: bool
    started:
      description: When it was started, UTC.
      type: str
    uptime:
      description: How long ago that was.
      type: str
database:
  description: The database.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    owner:
      description: Its owner.
      type: str
    encoding:
      description: Its encoding.
      type: str
    collate:
      description: Its collation.
      type: str
    size_bytes:
      description: Its size in bytes.
      type: int
    size_pretty:
      description: The same for people.
      type: str
      sample: 91 MB
    xid_age:
      description: Age of its oldest transaction id.
      type: int
    connection_limit:
      description: Connections it allows; -1 for no limit.
      type: int
    connections:
      description: Sessions in it, without this one.
      type: int
    server_connections:
      description: Client sessions on the server, with this one.
      type: int
tables:
  description: Tables and materialized views, the largest first.
  returned: success
  type: list
  elements: dict
  contains:
    schema:
      description: Its schema.
      type: str
    name:
      description: Its name.
      type: str
    total_bytes:
      description: Bytes of table, TOAST and indexes; null where somebody has locked it exclusively.
      type: int
    table_bytes:
      description: Bytes of the rows.
      type: int
    index_bytes:
      description: Bytes of the indexes.
      type: int
    total_pretty:
      description: Total for people.
      type: str
    table_pretty:
      description: Rows for people.
      type: str
    index_pretty:
      description: Indexes for people.
      type: str
    estimated_rows:
      description: Rows as the planner sees them.
      type: int
    live:
      description: Live rows as counted since the statistics began.
      type: int
    dead:
      description: Dead rows.
      type: int
    vacuumed:
      description: Last vacuum, by hand or by autovacuum, UTC; null for never.
      type: str
    analyzed:
      description: Last analyze, by hand or by autovacuum, UTC; null for never.
      type: str
settings:
  description: Settings that matter to maintenance, by name; those that the role or the version lacks are absent.
  returned: success
  type: dict
extensions:
  description: Extensions of the database, name to version.
  returned: success
  type: dict
undoable:
  description:
    - The fix runs that can be undone, as C(runs), the newest first, each with run_id, at, entries, left (entries that
      were not undone) and fixes; and C(why), what kept the journal from being read.
  returned: success
  type: dict
kept_databases:
  description: Databases that restores of this one have replaced and kept.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    size_bytes:
      description: Its size in bytes; 0 where the role may not ask.
      type: int
    kept_at:
      description: When it was replaced, UTC.
      type: str
    run_id:
      description: The restore that replaced it.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.jobs.info import info
from ansible.module_utils.scannerdb.option import argument_spec


def main() -> None:
    """Read the options, look, answer."""
    module = AnsibleModule(argument_spec=argument_spec(ConnectionOptions), supports_check_mode=True)
    run_module(module, lambda: info(options_from(module.params)))


if __name__ == "__main__":
    main()
