#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Restore the Ollama Scanner database beside the live one, prove it, and cut over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_restore
short_description: Restore the Ollama Scanner database beside the live one, prove it, and cut over
version_added: "0.3.0"
description:
  - Verifies the source, backs up what is about to be replaced, builds a second database beside the live one, compares
    its rows with the backup's record and its structure with the contract, tries to write to it, and only then lets it
    take the live database's name, in one block that runs on the server.
  - Up to that moment the live database is only read. The database that was replaced is kept under a name of its own,
    and O(state=undone) swaps it back.
  - What an interrupted run left (a half-built database, a database closed to connections) is put right by the next.
  - One job at a time works on a database; a second one says who is first.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.restore
attributes:
  check_mode:
    description:
      - Verifies the source, looks at everything that could stop the restore, tells the whole plan with sizes, and
        writes nothing that stays. A copy is fetched and a set decrypted for that, into a hidden folder that is removed.
        What killed runs left is not swept.
    support: full
  diff_mode:
    description: In check mode the steps of the plan; else the database before and after.
    support: full
requirements:
  - PostgreSQL client programs of the archive's and the server's major version or newer
seealso:
  - module: scannerdb_backup
  - module: scannerdb_backup_info
"""

EXAMPLES = r"""
- name: Restore the latest backup, and end the sessions that are left after half a minute
  scannerdb_restore:
    login_unix_socket: /var/run/postgresql
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    source: latest
    confirm: ollama_scanner
    grace_s: 30
    terminate: true
  become: true
  become_user: postgres

- name: Restore a dump of the old backup script
  scannerdb_restore:
    login_host: db.example.com
    login_user: scannerdb_maint
    login_password: "{{ scannerdb_login_password }}"
    backup_dir: /srv/backups/scanner
    source: /srv/old/backups/ollama_scanner_20250418_120000.backup
    confirm: ollama_scanner

- name: Bring one table of yesterday's backup beside the live one
  scannerdb_restore:
    login_unix_socket: /var/run/postgresql
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    source: latest
    confirm: ollama_scanner
    tables: [endpoints]
    into_schema: yesterday

- name: Make a masked clone for development
  scannerdb_restore:
    login_unix_socket: /var/run/postgresql
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    source: latest
    into_database: scanner_dev
    confirm: scanner_dev
    masking_sql: /etc/scannerdb/mask.sql

- name: Show what a restore to a point in time would bring back
  scannerdb_restore:
    login_unix_socket: /var/run/postgresql
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    backup_method: [dump, pgbackrest]
    source: "2026-11-24 03:10:00+00"
    show: true
  become: true
  become_user: postgres

- name: Drop what restores replaced more than three days ago
  scannerdb_restore:
    login_unix_socket: /var/run/postgresql
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    state: swept
    keep_hours: 72

- name: Take the last restore back
  scannerdb_restore:
    login_unix_socket: /var/run/postgresql
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    state: undone
    confirm: ollama_scanner
    terminate: true
"""

RETURN = r"""
restore:
  description: What was restored, and what became of the database that was there.
  returned: success
  type: dict
  contains:
    source:
      description: Path of the source; with O(state=undone) the name of the database that came back.
      type: str
    database:
      description: The database that users see.
      type: str
    previous_database:
      description: Name under which the replaced database is kept; null where there was none.
      type: str
      sample: ollama_scanner__before_0a1b2c3d
    cutover_ms:
      description:
        - Milliseconds from the last connection to the old database until the first to the new one, as a client saw it
          that connects again and again. Null where there was no database before, and in check mode.
      type: float
    closed_ms:
      description: Milliseconds during which the server let nobody in. Not in check mode.
      type: float
    sessions_ended:
      description: How many sessions were ended. Not in check mode.
      type: int
    left_out:
      description: What O(leave_out) named, and is not there or not whole.
      type: list
      elements: str
    backup:
      description: Path of the backup made before the restore; null where none was made.
      type: str
    rows:
      description: Rows that were brought. Not in check mode.
      type: int
    table_count:
      description: Of how many tables. Not in check mode.
      type: int
    duration_s:
      description: Seconds it took. Not in check mode.
      type: float
    schema:
      description: With O(tables), the schema that they are in.
      type: str
    tables:
      description: With O(tables), what was brought.
      type: list
dropped:
  description: The replaced databases that were dropped (in check mode, would be), with size and times.
  returned: with O(state=swept)
  type: list
  elements: dict
kept:
  description: Those that are kept, with C(kept_until).
  returned: with O(state=swept)
  type: list
  elements: dict
left_undone:
  description: Those that are due, with C(why) they stay.
  returned: with O(state=swept)
  type: list
  elements: dict
plan:
  description:
    - The steps in words, sizes, free space, an estimate of the time, missing roles and tools.
    - Of a point in time the window, timeline and base backup, the last transaction in (C(last_in)) and the first one
      out (C(first_out)), and with O(show) the C(tables) of then and now.
  returned: in check mode with O(state=restored), and for a point in time without O(confirm) or with O(show)
  type: dict
done:
  description: What was changed for a look, such as WAL that was switched out; no database is.
  returned: for a point in time without O(confirm) or with O(show)
  type: list
  elements: str
run_id:
  description: Name of the run; O(undo_run_id) takes it.
  returned: success
  type: str
log:
  description: The run's log.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import ConnectionOptions, options_from
from ansible.module_utils.scannerdb.jobs.restore import restore
from ansible.module_utils.scannerdb.jobs.restore_sweep import sweep
from ansible.module_utils.scannerdb.option import argument_spec, taken
from ansible.module_utils.scannerdb.restore.options import RestoreOptions


def main() -> None:
    """Read the options, restore, swap back or sweep, answer."""
    module = AnsibleModule(argument_spec=argument_spec(ConnectionOptions, RestoreOptions), supports_check_mode=True)
    asked = taken(RestoreOptions, module.params)
    job = sweep if asked.state == "swept" else restore
    run_module(module, lambda: job(options_from(module.params), asked, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
