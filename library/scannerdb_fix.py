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
  - scannerdb.connection
  - scannerdb.overlay
  - scannerdb.run
  - scannerdb.budget
  - scannerdb.trust
  - scannerdb.window
options:
  state:
    description: V(applied) fixes; V(undone) takes back the run O(run_id).
    type: str
    default: applied
    choices: [applied, undone]
  run_id:
    description: The run to take back, for O(state=undone).
    type: str
    default: ""
  unsealed:
    description:
      - For O(state=undone), take back also entries of the journal that have no seal of this host (those of an earlier
        release, of another host, or of runs without O(state_dir)). Somebody else may have written them.
    type: bool
    default: false
  only:
    description: Ids or globs of the findings to fix; all where it is empty. For O(state=undone), of the fixes to undo.
    type: list
    elements: str
    default: []
  skip:
    description: Ids or globs of the findings to leave alone.
    type: list
    elements: str
    default: []
  dates:
    description:
      - What an empty date becomes. V(evidence) takes the best date the row and its link have, V(now) the clock's,
        V(report) leaves it.
    type: str
    default: evidence
    choices: [evidence, now, report]
  honeypots:
    description: What happens to honeypots that count as verified.
    type: str
    default: unverify
    choices: [unverify, report]
  inactive:
    description: What happens to inactive endpoints that count as verified.
    type: str
    default: unverify
    choices: [unverify, report]
  replace_foreign:
    description:
      - Replace what is somebody else's, which is INSTEAD OF triggers on C(servers), its definition, and the rules of a
        foreign key beside ON DELETE.
    type: bool
    default: false
  drop_indexes:
    description: Drop an index that is the same as another one.
    type: bool
    default: false
  counters:
    description: Set the counters in C(metadata) that are wrong to what they count, by a statement that counts.
    type: bool
    default: false
  max_share:
    description:
      - A fix of a thousand rows or more that would touch more than this share of a table (0 to 1) stops the run before
        any change. Filling empty dates does not count.
    type: float
    default: 0.5
  batch_rows:
    description: Rows of the largest batch. The first has a tenth of it; later ones are sized to take about 50 ms.
    type: int
    default: 5000
  journal:
    description: Keep the images of every changed row, so that the run can be undone. Off, the run is faster.
    type: bool
    default: true
  journal_days:
    description: Journal entries older than this many days are removed after a run; 0 keeps them all.
    type: int
    default: 90
  max_lag_mb:
    description: Pause while a standby is more than this many MB behind; 0 never does.
    type: int
    default: 64
  require_backup:
    description: Refuse to change anything without a fresh, verified backup.
    type: bool
    default: true
  backup_dir:
    description: Folder of the backup sets.
    type: path
    default: ""
  backup_max_age_h:
    description: How many hours old that backup may be.
    type: float
    default: 24
  backup_level:
    description: How that backup must have been verified at least.
    type: str
    default: read
    choices: [checksum, read, restore]
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
from ansible.module_utils.scannerdb.argspec import (
    budget_arguments,
    budget_from,
    connection_arguments,
    options_from,
    overlay_arguments,
    run_arguments,
    window_arguments,
    window_from,
)
from ansible.module_utils.scannerdb.jobs.fix import fix, fix_arguments, policy_from, safety_from, working_from
from ansible.module_utils.scannerdb.jobs.undo import undo


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **connection_arguments(),
            **overlay_arguments(),
            **run_arguments(),
            **budget_arguments(),
            **fix_arguments(),
            **window_arguments(),
            "state": {"type": "str", "default": "applied", "choices": ["applied", "undone"]},
            "run_id": {"type": "str", "default": ""},
            "unsealed": {"type": "bool", "default": False},
        },
        required_if=[("state", "undone", ["run_id"])],
        supports_check_mode=True,
    )
    run_module(module, lambda: _undone(module) if module.params["state"] == "undone" else _applied(module))


def _applied(module: AnsibleModule) -> dict[str, Any]:
    p = module.params
    return fix(
        options_from(p),
        overlay=p["contract_overlay"],
        policy=policy_from(p),
        safety=safety_from(p),
        working=working_from(p),
        window=window_from(p),
        **_common(module),
    )


def _undone(module: AnsibleModule) -> dict[str, Any]:
    p = module.params
    return undo(
        options_from(p),
        run_id=p["run_id"],
        only=tuple(p["only"]),
        overlay=p["contract_overlay"],
        unsealed=p["unsealed"],
        **_common(module),
    )


def _common(module: AnsibleModule) -> dict[str, Any]:
    p = module.params
    return {
        "budget": budget_from(p),
        "lock_wait_s": p["lock_wait_s"],
        "log_path": p["log_path"],
        "state_dir": p["state_dir"],
        "check_mode": module.check_mode,
    }


if __name__ == "__main__":
    main()
