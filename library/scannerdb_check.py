#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check the Ollama Scanner database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_check
short_description: Check the Ollama Scanner database against its contract and the data's own rules
version_added: "0.3.0"
description:
  - Compares the database with its contract by meaning (columns, keys, indexes, the view C(servers), triggers,
    privileges), looks for rows that break the data's rules, for invalid, duplicate or unused indexes, dead rows and
    bloat, for what runs out (transaction ids, sequences, connections, disk), for what holds back vacuum, and for
    dangerous settings and rights of the server around it.
  - Reads only, takes no lock that a writer could wait for, and runs on a standby too.
  - A part that could not look is a finding (C(check.run.failed), or C(check.run.not_allowed) for what only a superuser
    or a member of pg_monitor may see) and stops nothing else.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.check
attributes:
  check_mode:
    description: Looks just the same, and writes no report.
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Check the database on this host and write the report
  scannerdb_check:
    login_user: postgres
    report_dir: /var/lib/scannerdb/db1/reports

- name: Fail on anything but information
  scannerdb_check:
    login_host: db1.example.org
    login_user: scannerdb_maint
    login_password: "{{ vault_scannerdb_password }}"
    fail_on: warning
    ignore:
      - {id: index.unused, object: "chat_history.*", reason: used by the yearly report, until: 2027-01-31}
"""

RETURN = r"""
findings:
  description:
    - What is not as it should be, the most severe first.
    - Its C(fix) has C(consent) where a variable has to allow it.
  returned: always
  type: list
  elements: dict
  sample:
    - id: data.verified.link_missing
      severity: critical
      object: verified_endpoints
      message: 12 verified endpoints have no row in verified_endpoints, so they are not in servers.
      evidence: {rows: 12, example_id: 4711}
      fix: {id: data.verified.link_missing, sql: ["INSERT INTO …"], rows: 12, lock: ROW EXCLUSIVE}
summary:
  description: How many findings of each severity.
  returned: always
  type: dict
  sample: {critical: 1, warning: 3, info: 2}
suppressed:
  description: Findings left out by O(ignore), with the reason.
  returned: always
  type: list
  elements: dict
server:
  description: What the server says of itself, and in C(left_by_restores) the databases that restores have replaced.
  returned: always
  type: dict
  sample: {version: "17.5", version_num: 170005, in_recovery: false, database: ollama_scanner}
database_bytes:
  description: Size of the database.
  returned: always
  type: int
tables:
  description: The largest tables, at most 50, each with C(name), C(bytes), C(index_bytes), C(rows) and C(dead_rows).
  returned: always
  type: list
  elements: dict
slow_statements:
  description:
    - The ten statements that cost most, where C(pg_stat_statements) is installed; C(seen) and C(why) say whether they
      could be seen. Each has C(query) without values, C(calls), C(total_ms), C(mean_ms), C(rows), and in
      C(since_last_check) whether it is C(new) or C(worse) since then.
  returned: always
  type: dict
gauges:
  description: How full the server is, each with C(name), C(value), C(most), C(percent) and C(limit).
  returned: always
  type: list
  elements: dict
since:
  description: What is C(new) and what is C(gone) since the last check, C(at) its time; empty where there was none.
  returned: always
  type: dict
backups:
  description: The newest ten backups of O(backup_dir) with their proofs; empty where no folder was named.
  returned: always
  type: dict
checked_at:
  description: When, in UTC.
  returned: always
  type: str
report:
  description: Paths of the report by its format; empty where none was written.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.checks.options import CheckOptions
from ansible.module_utils.scannerdb.jobs.check import check
from ansible.module_utils.scannerdb.option import argument_spec, taken


def main() -> None:
    """Read the options, check, answer."""
    module = AnsibleModule(argument_spec=argument_spec(ConnectionOptions, CheckOptions), supports_check_mode=True)
    run_module(
        module,
        lambda: check(options_from(module.params), taken(CheckOptions, module.params), check_mode=module.check_mode),
    )


if __name__ == "__main__":
    main()
