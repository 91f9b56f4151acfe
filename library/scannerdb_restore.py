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
  - scannerdb.connection
  - scannerdb.encryption
  - scannerdb.identity
  - scannerdb.offsite
  - scannerdb.overlay
  - scannerdb.run
  - scannerdb.trust
options:
  login_user:
    description:
      - Role to log in as; empty for the system user's name.
      - Without a superuser it needs C(CREATEDB), membership in the role that owns the database and in the owners of its
        tables, and C(pg_signal_backend) where sessions have to be ended. All of it is tested before anything starts.
    type: str
    default: ""
  maintenance_db:
    description: Database in which the job lock is taken and from which the cutover is sent. Not O(login_db) itself.
    type: str
    default: postgres
  pg_bin_dir:
    description:
      - Folder with C(pg_restore) (C(psql) for plain SQL) and, for the backup before the restore, C(pg_dump).
      - By default they are searched for, and chosen by the archive's version and the server's.
    type: path
    default: ""
  state:
    description:
      - V(restored) restores O(source).
      - V(undone) swaps the live database with the one that the last restore (or O(undo_run_id)) replaced, and keeps the
        live one in turn.
      - V(swept) drops the databases that earlier runs replaced O(keep_hours) ago or before. Only those go that carry
        both the name and the comment that a restore gave them; what is in use, or has replication slots, stays, and is
        told. O(confirm) is not needed.
    type: str
    default: restored
    choices: [restored, swept, undone]
  source:
    description:
      - What to restore, for O(state=restored).
      - V(latest), the name of a backup in O(backup_dir), a path, or a time (C(2025-04-18T12:00:00Z), UTC unless it says
        otherwise) for the newest backup that is not younger.
      - With C(offsite:) before V(latest), a name or a time, the copy at O(offsite_remote). It is brought into a hidden
        folder of O(backup_dir) and verified there.
      - A set must have been made on this host or by one of O(trusted_signers), or O(trust) has its hash. An archive or
        SQL file of anybody else's is restored when its name or path is given here, and runs what is in it.
      - A set of M(scannerdb_backup), an archive of C(pg_dump -Fc), C(-Fd) or C(-Ft), or plain SQL of C(pg_dump), packed
        with gzip or not; told by its content.
      - Plain SQL is read through first. What does more than fill one database (C(\connect), other commands of psql,
        databases, roles) is refused; the rest is run by psql as one transaction in the side database.
    type: str
    default: ""
  confirm:
    description: The name of the database, spelled out. Anything else and nothing happens.
    type: str
    default: ""
  backup_dir:
    description: Folder of the backups, where the pre-restore backup and the log C(restore_<time>.log) go too.
    type: path
    required: true
  prebackup:
    description: Whether to back up the live database first. A failure of that backup stops the restore.
    type: bool
    default: true
  storage:
    description:
      - Whether O(backup_dir) keeps the backup before the restore; V(auto) looks, as M(scannerdb_backup) does.
      - Where it does not, that backup needs a copy at O(offsite_remote), else nothing is restored.
    type: str
    default: persistent
    choices: [auto, persistent, ephemeral]
  verify_level:
    description:
      - How a set is verified before it is restored. Other archives are always read through.
      - V(checksum) compares every file with the manifest, V(read) decompresses the whole dump as well.
    type: str
    default: read
    choices: [checksum, read]
  jobs:
    description: Parallel workers; 0 for as many as there are processors, at most eight. A tar archive takes one.
    type: int
    default: 0
  grace_s:
    description:
      - How many seconds to wait, with connections open, for clients to go (or with O(terminate), to finish their
        transactions) before the cutover.
      - Without O(terminate) the same wait stands at the beginning, so that a restore that could not end is not begun.
    type: int
    default: 5
  terminate:
    description:
      - Whether sessions that are still there may be ended at the moment of the cutover.
      - Without it a restore into a database that is in use stops, and says who uses it.
    type: bool
    default: false
  trust:
    description:
      - The SHA-256 of the C(manifest.json) of a set that neither this host nor one of O(trusted_signers) made, as
        whoever made it tells. It is restored then. Take it from the machine that made the set, never from the place
        where the set was found.
      - For a file that is no set and that V(latest) or a time leads to, the SHA-256 of the file.
    type: str
    default: ""
  run_code:
    description:
      - Whether functions that belong to lesser roles may run while an archive is loaded, in CHECKs, domains, generated
        columns, partition keys and casts. They have the rights of O(login_user) then.
      - Without it, a restore of such an archive is refused before it begins, and names the function and its owner.
        Triggers, defaults and indexes are no concern.
    type: bool
    default: false
  missing_roles:
    description:
      - What to do about roles that the backup names and the server does not have.
      - V(stop) lists them and changes nothing. V(create) creates them without login. V(ignore) leaves their grants out;
        what they owned belongs to O(login_user).
      - Those that O(role_map) speaks of are not missing.
    type: str
    default: stop
    choices: [stop, create, ignore]
  role_map:
    description:
      - Roles of the backup, and those that take their place, as C(old_app=ollama). What one owned is owned by the
        other, and so are its grants, default privileges, policies, and the settings that it has in this database.
      - Roles that exist can be replaced too, for instance in a clone. All are replaced at once, so that two may change
        places. The other role must exist; without a superuser, O(login_user) must be a member of one that is to own.
    type: dict
    default: {}
  tablespace_map:
    description:
      - Tablespaces of the backup, and those that take their place, as C(fast_disk=pg_default). It goes for the database
        itself and for each table, index and materialized view that lies in a tablespace of its own.
      - A tablespace that the server does not have and that is not named here stops the restore before it begins.
    type: dict
    default: {}
  leave_out:
    description:
      - Objects that the restored database may do without, where they cannot be made and must not cost all the rest. An
        error or a drill gives their names, such as C(public.my_view) or C(public.my_table.my_constraint).
      - Of a materialized view or a table the rows are left out, and it comes back empty. A CHECK comes back NOT VALID,
        of anything else nothing does. A name that the backup does not have stops the restore.
    type: list
    elements: str
    default: []
  accept:
    description:
      - Ids of critical findings, or patterns of them, that may be in the restored database though they are not in the
        live one, for instance V(schema.table.missing).
    type: list
    elements: str
    default: []
  keep_hours:
    description:
      - How many hours a replaced database is kept, for O(state=swept); 0 keeps all of them.
      - A restore never drops what it replaced itself, nor what others did.
    type: float
    default: 168
  replication:
    description:
      - What to do where logical replication slots or subscriptions hang on the database, which the cutover would cut
        off. V(stop) says what that would mean and restores nothing; V(cut) goes on.
      - Standbys follow by themselves, and stop nothing.
    type: str
    default: stop
    choices: [stop, cut]
  tables:
    description:
      - Bring only these tables, C(endpoints) or C(public.endpoints), into a new schema of the live database, to compare
        and to copy rows back. The live tables are not touched, and nobody is disconnected.
    type: list
    elements: str
    default: []
  into_schema:
    description: With O(tables), the new schema; by default C(restored_) and the last eight digits of the run's name.
    type: str
    default: ""
  into_database:
    description:
      - Clone the backup into a new database of this name instead of replacing the live one. It must not exist yet, and
        O(confirm) is its name.
    type: str
    default: ""
  masking_sql:
    description:
      - With O(into_database), a file of SQL that C(psql) runs on the clone, as one transaction, before anybody but a
        superuser or the maintenance role can connect to it. An error stops the clone.
      - Its tables are rewritten afterwards, so that neither files nor statistics hold what was masked.
    type: path
    default: ""
  undo_run_id:
    description: With O(state=undone), the run whose replaced database comes back; empty for the last.
    type: str
    default: ""
  run_id:
    description: Name of this run in logs and progress files; made up where it is empty.
    type: str
    default: ""
  log_path:
    description: File for the run's log instead of C(restore_<time>.log) in O(backup_dir).
    type: path
    default: ""
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
  description: The steps in words, sizes, free space, an estimate of the time, missing roles and tools.
  returned: in check mode with O(state=restored)
  type: dict
run_id:
  description: Name of the run; O(undo_run_id) takes it.
  returned: success
  type: str
log:
  description: The run's log.
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import (
    connection_arguments,
    encryption_arguments,
    identity_arguments,
    offsite_arguments,
    options_from,
    overlay_arguments,
    run_arguments,
    trust_arguments,
)
from ansible.module_utils.scannerdb.jobs.restore import restore
from ansible.module_utils.scannerdb.jobs.restore_sweep import sweep


def main() -> None:
    """Read the options, restore, swap back or sweep, answer."""
    own = {
        **encryption_arguments(),
        **identity_arguments(),
        **offsite_arguments(),
        **overlay_arguments(),
        **trust_arguments(),
        "trust": {"type": "str", "default": ""},
        "run_code": {"type": "bool", "default": False},
        "state": {"type": "str", "default": "restored", "choices": ["restored", "swept", "undone"]},
        "source": {"type": "str", "default": ""},
        "confirm": {"type": "str", "default": ""},
        "backup_dir": {"type": "path", "required": True},
        "prebackup": {"type": "bool", "default": True},
        "storage": {"type": "str", "default": "persistent", "choices": ["auto", "persistent", "ephemeral"]},
        "verify_level": {"type": "str", "default": "read", "choices": ["checksum", "read"]},
        "jobs": {"type": "int", "default": 0},
        "grace_s": {"type": "int", "default": 5},
        "terminate": {"type": "bool", "default": False},
        "role_map": {"type": "dict", "default": {}},
        "tablespace_map": {"type": "dict", "default": {}},
        "missing_roles": {"type": "str", "default": "stop", "choices": ["stop", "create", "ignore"]},
        "leave_out": {"type": "list", "elements": "str", "default": []},
        "accept": {"type": "list", "elements": "str", "default": []},
        "keep_hours": {"type": "float", "default": 168},
        "replication": {"type": "str", "default": "stop", "choices": ["stop", "cut"]},
        "tables": {"type": "list", "elements": "str", "default": []},
        "into_schema": {"type": "str", "default": ""},
        "into_database": {"type": "str", "default": ""},
        "masking_sql": {"type": "path", "default": ""},
        "undo_run_id": {"type": "str", "default": ""},
        "run_id": {"type": "str", "default": ""},
    }
    module = AnsibleModule(
        argument_spec={**connection_arguments(), **run_arguments(), **own},
        supports_check_mode=True,
    )
    values = {name: module.params[name] for name in [*run_arguments(), *own]}
    run_module(module, lambda: _job(module, values))


def _job(module: AnsibleModule, values: dict[str, Any]) -> dict[str, Any]:
    if values["state"] == "swept":
        few = [*run_arguments(), "backup_dir", "keep_hours", "run_id"]
        values, job = {name: values[name] for name in few}, sweep
    else:
        job = restore
    return job(options_from(module.params), check_mode=module.check_mode, **values)


if __name__ == "__main__":
    main()
