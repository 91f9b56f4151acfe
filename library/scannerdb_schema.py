#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring the Ollama Scanner database up to its contract."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_schema
short_description: Bring the Ollama Scanner database up to its contract
version_added: "0.3.0"
description:
  - Creates the tables, columns, defaults, keys, indexes, triggers and privileges that the contract demands and the
    database lacks, and the view C(servers) with its INSTEAD OF triggers.
  - Never drops a table, a column, a row or the view, so that an existing database is adopted without harm; grants on
    the view and views that depend on it survive.
  - Writers never wait longer than O(lock_timeout_ms); indexes are built CONCURRENTLY, constraints validated online.
  - Afterwards a write probe, in a transaction that is rolled back, proves that inserts, updates and deletes on
    C(servers) reach the tables.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.schema
attributes:
  check_mode:
    description: Plans against the real server and writes nothing.
    support: full
  diff_mode:
    description: Shows every statement with its lock.
    support: full
"""

EXAMPLES = r"""
- name: Make the tables, the view and its triggers
  scannerdb_schema:
    login_user: postgres

- name: Add an index of this site's
  scannerdb_schema:
    login_user: postgres
    contract_overlay:
      tables:
        endpoints: {indexes: [[last_check_date]]}
"""

RETURN = r"""
run_id:
  description: Name of the run.
  returned: always
  type: str
fixed:
  description: What was made, each with id, object and lock.
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
  description: The SQL, in order.
  returned: always
  type: list
  elements: str
findings:
  description: What the contract still misses afterwards (in check mode, before).
  returned: always
  type: list
  elements: dict
probe:
  description: >-
    What the write probe proved, and as which role; C(notes) are the deletes that a foreign key of another table
    refuses, or that could not be tried.
  returned: when it was made
  type: dict
  sample:
    passed: [insert, duplicate insert, update, update of id, delete, delete with rows in models(endpoint_id)]
    notes: ["delete with rows in chat_history(model_id) fails: chat_history_model_id_fkey is ON DELETE NO ACTION"]
    role: ollama
    skipped: ""
max_lock_ms:
  description: The longest time a strong lock was held, in milliseconds.
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
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, budget_from, options_from
from ansible.module_utils.scannerdb.fixes.options import SchemaOptions
from ansible.module_utils.scannerdb.jobs.schema import schema
from ansible.module_utils.scannerdb.option import argument_spec, taken


def main() -> None:
    """Read the options, bring the schema up to the contract, answer."""
    module = AnsibleModule(argument_spec=argument_spec(ConnectionOptions, SchemaOptions), supports_check_mode=True)
    request = taken(SchemaOptions, module.params)
    run_module(
        module,
        lambda: schema(
            options_from(module.params),
            overlay=request.contract_overlay,
            only=tuple(request.only),
            skip=tuple(request.skip),
            replace_foreign=request.replace_foreign,
            probe=request.probe,
            budget=budget_from(request),
            lock_wait_s=request.lock_wait_s,
            log_path=request.log_path,
            state_dir=request.state_dir,
            check_mode=module.check_mode,
        ),
    )


if __name__ == "__main__":
    main()
