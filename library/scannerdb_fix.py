#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fix what the checks find in the Ollama Scanner database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_fix
short_description: Fix what the checks find in the Ollama Scanner database, online and with a journal
version_added: "0.3.0"
description:
  - Plans from the same findings as M(scannerdb_check), then applies what the policies allow, structure first.
  - Structural changes run under the lock budget, indexes CONCURRENTLY, constraints NOT VALID first. Rows are changed in
    small committed batches in key order; rows that others hold come last.
  - Every changed, made or removed row keeps its images in C(scannerdb_maintenance.journal), written in the same
    transaction.
  - Refuses to change anything unless a fresh, verified backup exists.
  - V(undone) takes a run back, rows as far as nobody has changed them since, structures where that loses nothing.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.fix
attributes:
  check_mode:
    description: Plans against the real server and writes nothing.
    support: full
  diff_mode:
    description: Shows every statement with its rows and lock.
    support: full
"""

EXAMPLES = r"""
- name: What would be fixed
  scannerdb_fix:
    login_user: postgres
  check_mode: true
  diff: true

- name: Fix everything but the data
  scannerdb_fix:
    login_user: postgres
    skip: ["data.*"]
    backup_dir: /var/backups/scannerdb/db1

- name: Take a run back
  scannerdb_fix:
    login_user: postgres
    state: undone
    run_id: 20250418T031500Z-0a1b2c3d
"""

RETURN = r"""
run_id:
  description: Name of the run, by which it can be undone.
  returned: always
  type: str
  sample: 20250418T031500Z-0a1b2c3d
fixed:
  description: What was fixed, each with id, object, rows, lock and duration_s (in check mode expected_s, a guess).
  returned: always
  type: list
  elements: dict
left_undone:
  description:
    - What was left alone, each with id, object, severity and why.
    - (A result named C(skipped) would make Ansible call the whole task skipped.)
  returned: always
  type: list
  elements: dict
statements:
  description: The SQL, as statements over all rows (a run does the same in batches).
  returned: always
  type: list
  elements: str
max_lock_ms:
  description: The longest time a lock that could block a writer was held, in milliseconds.
  returned: always
  type: float
max_wait_ms:
  description: The longest time an attempt waited for a lock, in milliseconds.
  returned: always
  type: float
max_structure_ms:
  description: The longest that a writer waited for a change of structure, the wait for its lock included.
  returned: always
  type: float
max_rows_ms:
  description: The longest that a writer of a row waited for the batch that held it.
  returned: always
  type: float
locks:
  description: Both of them as a sentence, each beside its budget; empty in check mode.
  returned: always
  type: str
failures:
  description: What failed, as sentences; the module fails where there are any, after doing the rest.
  returned: always
  type: list
  elements: str
probe:
  description: What the write probe on C(servers) proved.
  returned: when structure was changed
  type: dict
journal:
  description: The journal's rows (the planner's count), bytes and oldest entry, and how many old entries were removed.
  returned: when O(state=applied)
  type: dict
  sample: {rows: 4100, bytes: 1900544, oldest: "2025-04-18 03:15:00+00", purged: 0}
conflicts:
  description: Rows and structures that were not taken back, each with the reason.
  returned: when O(state=undone)
  type: list
  elements: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, Options, budget_from, options_from, window_from
from ansible.module_utils.scannerdb.fixes.options import FixOptions
from ansible.module_utils.scannerdb.jobs.fix import fix, policy_from, safety_from, working_from
from ansible.module_utils.scannerdb.jobs.undo import undo
from ansible.module_utils.scannerdb.option import argument_spec, taken


def main() -> None:
    """Read the options, fix or undo, answer."""
    module = AnsibleModule(
        argument_spec=argument_spec(ConnectionOptions, FixOptions),
        required_if=[("state", "undone", ["run_id"])],
        supports_check_mode=True,
    )
    request = taken(FixOptions, module.params)
    job = _undone if request.state == "undone" else _applied
    run_module(module, lambda: job(options_from(module.params), request, module.check_mode))


def _applied(options: Options, request: FixOptions, check_mode: bool) -> dict[str, Any]:
    return fix(
        options,
        overlay=request.contract_overlay,
        policy=policy_from(request),
        safety=safety_from(request),
        working=working_from(request),
        budget=budget_from(request),
        window=window_from(request),
        lock_wait_s=request.lock_wait_s,
        log_path=request.log_path,
        state_dir=request.state_dir,
        check_mode=check_mode,
    )


def _undone(options: Options, request: FixOptions, check_mode: bool) -> dict[str, Any]:
    return undo(
        options,
        run_id=request.run_id,
        only=tuple(request.only),
        overlay=request.contract_overlay,
        unsealed=request.unsealed,
        budget=budget_from(request),
        lock_wait_s=request.lock_wait_s,
        log_path=request.log_path,
        state_dir=request.state_dir,
        check_mode=check_mode,
    )


if __name__ == "__main__":
    main()
