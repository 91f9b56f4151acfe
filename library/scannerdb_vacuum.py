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
  - scannerdb.connection
  - scannerdb.run
  - scannerdb.window
options:
  login_user:
    description: Role to log in as; empty for the system user's name. It has to own the tables, or on PostgreSQL 17
      and newer be a member of C(pg_maintain).
    type: str
    default: ""
  pg_bin_dir:
    description: Folder of pg_repack; where it is empty, it is searched for. The module needs no other program.
    type: path
    default: ""
  method:
    description:
      - V(auto) does what each table needs. In the monthly O(profile) that includes compaction.
      - V(compact) is V(auto) with compaction, whatever the profile.
      - V(vacuum), V(full) and V(reindex) do to the chosen tables what their name says, whether they need it or not.
      - V(full) is C(VACUUM FULL). It locks each table against everybody while it is copied, and needs
        O(allow_exclusive=true). V(vacuum_full) is another name for it.
      - V(reindex) rebuilds every index with C(REINDEX CONCURRENTLY).
      - V(repack) rewrites the chosen tables beside their users, with C(REPACK (CONCURRENTLY\)) of PostgreSQL 19 and
        newer, else with pg_repack, else as V(full) where O(allow_exclusive=true).
    type: str
    default: auto
    choices: [auto, vacuum, full, vacuum_full, reindex, repack, compact]
  profile:
    description: With O(method=auto), V(monthly) compacts too. V(daily) is as V(weekly).
    type: str
    default: weekly
    choices: [daily, weekly, monthly]
  tables:
    description:
      - Tables to look at, as V(endpoints) or V(public.endpoints). Empty for all.
      - A partitioned table stands for its partitions.
    type: list
    elements: str
    default: []
  allow_exclusive:
    description:
      - Whether C(VACUUM FULL) may be used, where a table cannot be rewritten beside its users and the lock is expected
        to end before the O(window) does. Without it, compaction then rebuilds bloated indexes and reports the rest.
      - A rewrite that is refused when its turn comes is replaced by that too.
    type: bool
    default: false
  free_gb:
    description:
      - How many gigabytes the server's disk has free, where that cannot be looked at (the server is another machine, or
        the role may not see where its files are). 0 for unknown; a table is then rewritten only when asked for by name.
    type: float
    default: 0
  lock_timeout_ms:
    description: How long one attempt of C(VACUUM FULL) may wait for its lock, and so others behind it. Milliseconds.
    type: int
    default: 50
  lock_deadline_s:
    description: For how many seconds to go on trying; then the table is skipped.
    type: int
    default: 300
  state_dir:
    description:
      - Folder for progress files, and for what rebuilds have reached, so that a wrong estimate does not repeat them.
    type: path
    default: ""
  run_id:
    description: Name of the run in logs and progress files; made up where it is empty.
    type: str
    default: ""
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
from ansible.module_utils.scannerdb.argspec import (
    budget_arguments,
    budget_from,
    connection_arguments,
    options_from,
    run_arguments,
    window_arguments,
    window_from,
)
from ansible.module_utils.scannerdb.jobs.vacuum import vacuum


def main() -> None:
    """Read the options, vacuum, answer."""
    methods = ["auto", "vacuum", "full", "vacuum_full", "reindex", "repack", "compact"]
    own = {
        "method": {"type": "str", "default": "auto", "choices": methods},
        "profile": {"type": "str", "default": "weekly", "choices": ["daily", "weekly", "monthly"]},
        "tables": {"type": "list", "elements": "str", "default": []},
        "allow_exclusive": {"type": "bool", "default": False},
        "free_gb": {"type": "float", "default": 0},
        "run_id": {"type": "str", "default": ""},
    }
    arguments = {
        **connection_arguments(),
        **run_arguments(),
        **budget_arguments(),
        **window_arguments(),
        **own,
    }
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    plain = [name for name in (*run_arguments(), *own) if name != "free_gb"]
    run_module(
        module,
        lambda: vacuum(
            options_from(module.params),
            budget=budget_from(module.params),
            window=window_from(module.params),
            free_bytes=int(module.params["free_gb"] * (1 << 30)),
            check_mode=module.check_mode,
            **{name: module.params[name] for name in plain},
        ),
    )


if __name__ == "__main__":
    main()
