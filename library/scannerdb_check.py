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
  - scannerdb.connection
  - scannerdb.overlay
  - scannerdb.trust
options:
  ignore:
    description:
      - Findings not to report. Each entry has an C(id) and a C(reason), and may have an C(object) (both globs) and
        C(until), a date after which the finding counts again.
    type: list
    elements: dict
    default: []
  fail_on:
    description: The module fails, after writing its report, where a finding is as severe as this, or more.
    type: str
    default: never
    choices: [critical, warning, info, never]
  formats:
    description:
      - What the report is written as. C(markdown), C(html) and C(json) are for people and programs, C(junit) and
        C(sarif) for pipelines.
    type: list
    elements: str
    default: [markdown, html, json]
    choices: [markdown, html, json, junit, sarif]
  thresholds:
    description:
      - From where on something is a finding, by name, for example C(disk_free_percent=15); docs/checks.md lists them.
    type: dict
    default: {}
  cross_table:
    description:
      - Also look for benchmark results whose model belongs to another endpoint, which
        joins the two largest tables.
    type: bool
    default: false
  standbys:
    description:
      - Standbys whose use of indexes counts, as V(db2), V(db2:5433), V([2001:db8::2]:5432) or V(/socket/folder:5433),
        with the same login. Those that stream from the server now are found by themselves, where they listen on the
        same port.
    type: list
    elements: str
    default: []
  report_dir:
    description:
      - Folder for C(db_schema_issues_report.md) and its siblings C(.html) and C(.json); none where it is empty.
    type: path
    default: ""
  log_path:
    description: File to which the run adds its log lines; none where it is empty.
    type: path
    default: ""
  state_dir:
    description:
      - Folder in whose C(progress/) the run tells how far it is, and whose C(check_history.jsonl) remembers earlier
        runs for trends and forecasts; nowhere where it is empty.
    type: path
    default: ""
  host:
    description: The database's name in the inventory, for the report; empty for the machine's name.
    type: str
    default: ""
  backup_dir:
    description: The folder with the backup sets, for the report; none where it is empty.
    type: path
    default: ""
  statement_timeout_s:
    description: A check's statement is cancelled after so many seconds; 0 for never.
    type: int
    default: 300
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
  description: What is not as it should be, the most severe first.
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
from ansible.module_utils.scannerdb.argspec import (
    connection_arguments,
    options_from,
    overlay_arguments,
    trust_arguments,
)
from ansible.module_utils.scannerdb.jobs.check import FAIL_ON, FILES, FORMATS, check


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **connection_arguments(),
            **overlay_arguments(),
            **trust_arguments(),
            "ignore": {"type": "list", "elements": "dict", "default": []},
            "fail_on": {"type": "str", "default": "never", "choices": list(FAIL_ON)},
            "formats": {"type": "list", "elements": "str", "default": list(FORMATS), "choices": list(FILES)},
            "thresholds": {"type": "dict", "default": {}},
            "cross_table": {"type": "bool", "default": False},
            "standbys": {"type": "list", "elements": "str", "default": []},
            "report_dir": {"type": "path", "default": ""},
            "log_path": {"type": "path", "default": ""},
            "state_dir": {"type": "path", "default": ""},
            "statement_timeout_s": {"type": "int", "default": 300},
            "host": {"type": "str", "default": ""},
            "backup_dir": {"type": "path", "default": ""},
        },
        supports_check_mode=True,
    )
    p = module.params
    run_module(
        module,
        lambda: check(
            options_from(p),
            overlay=p["contract_overlay"],
            ignore=p["ignore"],
            fail_on=p["fail_on"],
            formats=p["formats"],
            thresholds=p["thresholds"],
            cross_table=p["cross_table"],
            standbys=p["standbys"],
            report_dir=p["report_dir"],
            log_path=p["log_path"],
            state_dir=p["state_dir"],
            statement_timeout_s=p["statement_timeout_s"],
            host=p["host"],
            backup_dir=p["backup_dir"],
            trusted_signers=p["trusted_signers"],
            check_mode=module.check_mode,
        ),
    )


if __name__ == "__main__":
    main()
