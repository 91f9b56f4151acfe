#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Vacuum what needs it in the Ollama Scanner database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_vacuum
short_description: Vacuum what needs it in the Ollama Scanner database
version_added: "0.3.0"
description:
  - Measures every table (dead rows, bloat, age of its transaction ids, age of its statistics), decides what pays, and
    does only that. The limits fall as a table grows; small tables are left alone unless they are grossly bad.
  - Works on the tables with the oldest transaction ids first. A table that somebody has locked is left out, and the
    result says who has it.
  - Stops no reader and no writer, except with O(method=full) or a compaction with O(allow_exclusive=true).
  - Index builds that an interrupted C(REINDEX CONCURRENTLY) left behind are dropped in every run.
  - One job at a time works on a database; a second one says who is first.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.vacuum
attributes:
  check_mode:
    description: Measures and decides as always, tells what would be done, and does nothing.
    support: full
  diff_mode:
    description: Shows for each table the reasons, and the SQL with the lock it takes.
    support: full
seealso:
  - module: scannerdb_check
  - module: scannerdb_info
"""

EXAMPLES = r"""
- name: Do what the tables need
  scannerdb_vacuum:
    login_unix_socket: /var/run/postgresql
    log_path: "/var/log/scannerdb/{{ inventory_hostname }}/db_maintenance_fix.log"
  become: true
  become_user: postgres

- name: Vacuum one table by hand
  scannerdb_vacuum:
    login_unix_socket: /var/run/postgresql
    method: vacuum
    tables: [endpoints]

- name: Give disk space back once a month, at a time when nobody minds the lock
  scannerdb_vacuum:
    login_host: db.example.com
    login_user: scannerdb_maint
    login_password: "{{ scannerdb_login_password }}"
    profile: monthly
    allow_exclusive: true
"""

RETURN = r"""
examined:
  description: Number of tables that were measured.
  returned: success
  type: int
  sample: 8
tables:
  description: The tables to which something was done (in check mode, would be done).
  returned: success
  type: list
  elements: dict
  contains:
    table:
      description: Schema and name, joined by a dot.
      type: str
      sample: public.models
    schema:
      description: Its schema.
      type: str
    name:
      description: Its name.
      type: str
    action:
      description: What was done, joined by commas, out of vacuum, analyze, full, repack, pg_repack, reindex,
        drop_index, drop_repack.
      type: str
      sample: vacuum, reindex models_name_idx
    reason:
      description: Why.
      type: str
      sample: 2000 of 2480 rows are dead (81%; the limit at this size is 24%)
    statements:
      description: The SQL.
      type: list
      elements: str
    lock:
      description: The strongest lock that it takes.
      type: str
    bytes_before:
      description: Bytes of the table with its indexes.
      type: int
    bytes_after:
      description: The same afterwards; null in check mode.
      type: int
    dead_before:
      description: Dead rows.
      type: int
    dead_after:
      description: The same afterwards; null in check mode.
      type: int
    duration_s:
      description: Seconds it took; null in check mode.
      type: float
    max_lock_ms:
      description: The longest exclusive lock, in milliseconds; 0 where none was taken. That of pg_repack is seen from
        outside, 20 milliseconds fine.
      type: float
    max_wait_ms:
      description: How long an attempt that got no lock waited at most with others behind it, in milliseconds.
      type: float
    note:
      description: What did not come out as expected, such as dead rows that an old snapshot still needs.
      type: str
left_undone:
  description: What was left undone, and why.
  returned: success
  type: list
  elements: dict
  contains:
    table:
      description: Schema and name, joined by a dot.
      type: str
    action:
      description: What was to be done; empty where nothing could be planned.
      type: str
    reason:
      description: Why not; for a lock, who holds it; for a rewrite, what was done instead.
      type: str
run_id:
  description: Name of the run.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.jobs.vacuum import vacuum
from ansible.module_utils.scannerdb.option import argument_spec, taken
from ansible.module_utils.scannerdb.vacuum.options import VacuumOptions


def main() -> None:
    """Read the options, vacuum, answer."""
    module = AnsibleModule(argument_spec=argument_spec(ConnectionOptions, VacuumOptions), supports_check_mode=True)
    request = taken(VacuumOptions, module.params)
    run_module(
        module,
        lambda: vacuum(options_from(module.params), request, check_mode=module.check_mode),
    )


if __name__ == "__main__":
    main()
