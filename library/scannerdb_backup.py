#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Back up the Ollama Scanner database into a verified set."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_backup
short_description: Back up the Ollama Scanner database into a verified set
version_added: "0.3.0"
description:
  - Makes one backup set, a folder with a parallel dump, the role definitions, and a manifest of what a restore needs.
  - The rows of every table are counted in the dump's own snapshot while it runs, and the set is verified before
    C(latest.backup) leads to it. A backup that fails leaves C(latest.backup) as it was.
  - Removes old sets by age, but never the newest verified one nor anything younger, and only sets that it made.
  - Takes no lock that a writer could wait for. One job at a time works on a database; a second one says who is first.
  - Runs against a standby too, and finds one by itself where O(login_host) names several servers.
author:
  - the scannerdb contributors
extends_documentation_fragment:
  - scannerdb.budget
  - scannerdb.connection
  - scannerdb.encryption
  - scannerdb.offsite
  - scannerdb.overlay
  - scannerdb.retention
  - scannerdb.run
  - scannerdb.trust
options:
  login_user:
    description: Role to log in as; empty for the system user's name. It has to read all tables (C(pg_read_all_data)).
    type: str
    default: ""
  backup_dir:
    description:
      - Folder of the sets, of C(latest.backup) and of the logs C(backup_<time>.log).
      - It is made where it is missing.
    type: path
    required: true
  log_path:
    description: File for the run's log instead of C(backup_<time>.log) in O(backup_dir).
    type: path
    default: ""
  lock_timeout_ms:
    description:
      - The lock budget of the whole bundle. A dump waits for its locks ten times as long, at least two seconds,
        because writers do not wait behind it.
    type: int
    default: 50
  verify_level:
    description:
      - How the new set is verified before it counts.
      - V(checksum) reads every file again and compares it with the manifest.
      - V(read) also decompresses the whole dump and compares every table's rows with the snapshot.
      - V(restore) restores it into a scratch database, as M(scannerdb_verify) does, before it is encrypted. Where that
        cannot be done (no room, no rights), the set is read instead, with a warning.
    type: str
    default: read
    choices: [none, checksum, read, restore]
  verify_place:
    description: Where V(restore) restores; on the database's V(server), or on a disposable one, a V(cluster).
    type: str
    default: server
    choices: [server, cluster]
  verify_cluster_dir:
    description: Folder in which that one gets a private folder. Its path must be short.
    type: path
    default: /var/tmp
  purpose:
    description: A V(pre_restore) set never becomes C(latest.backup).
    type: str
    default: regular
    choices: [regular, pre_restore]
  jobs:
    description: Parallel workers of C(pg_dump); 0 for as many as there are processors, at most eight.
    type: int
    default: 0
  nice:
    description: Niceness of the client programs, 0 to 19.
    type: int
    default: 0
  bandwidth:
    description: No more. Anything but V(0) is refused, with what to use instead; the option goes with the next release.
    type: bytes
    default: 0
  contract_fingerprint:
    description: Fingerprint of the schema for the manifest; computed from the structure where it is empty.
    type: str
    default: ""
  dump_format:
    description:
      - V(directory) is one file per table, made by several workers.
      - V(custom) is one file for all, made by one.
    type: str
    default: directory
    choices: [directory, custom]
  dump_from:
    description:
      - Where O(login_host) names several servers (C(db1,db2)), which of them the dump is taken from. They are asked who
        is the primary and how far the others are behind, so nothing has to be edited after a failover.
      - V(auto) takes the standby that is least behind; the primary, where all are more than O(max_lag_mb) behind.
        V(primary) and V(standby) insist.
      - A standby that ends the dump twice, to go on replaying, is given up for the primary.
    type: str
    default: auto
    choices: [auto, primary, standby]
  max_lag_mb:
    description: How many MB of the log a standby may be behind the primary, for O(dump_from).
    type: int
    default: 64
  storage:
    description:
      - Whether O(backup_dir) keeps what is written there.
      - V(ephemeral) does not (an execution environment). A backup is refused then, unless O(offsite_remote) is set;
        where the copy fails, the task does.
      - V(auto) looks. What lies in memory, on a container's layers, or in a container outside of any volume does not
        last.
    type: str
    default: persistent
    choices: [auto, persistent, ephemeral]
  adopt:
    description:
      - Names or patterns of dumps in O(backup_dir) that the bundle did not make, such as C(ollama_scanner_*.backup),
        and that retention may treat like regular sets. Their age is in their names (UTC), else when they were written.
      - Only archives of C(pg_dump) and renamed sets, and only of this database, as their content says.
    type: list
    elements: str
    default: []
  fingerprints:
    description:
      - Compute an order-independent fingerprint of every table's content in the dump's snapshot, too.
      - A restore drill compares them. It costs ten times as much as counting the rows.
    type: bool
    default: false
  hook_pre_backup:
    description:
      - Command to run before a backup, as a list of the program and its arguments. There is no shell.
      - A single word that begins with C(https://) or C(http://) is called instead, by POST, with the values below as
        JSON (C(event), C(database) and so on).
      - Commands get C(SCANNERDB_EVENT), C(SCANNERDB_DATABASE), C(SCANNERDB_RUN_ID), C(SCANNERDB_BACKUP_DIR) and
        C(SCANNERDB_PURPOSE) in their environment. A command that fails is a warning, and never fails the backup.
    type: list
    elements: str
    default: []
  hook_post_backup:
    description:
      - Command to run after a successful backup.
      - It also gets C(SCANNERDB_NAME), C(SCANNERDB_PATH), C(SCANNERDB_SIZE_BYTES), C(SCANNERDB_DURATION_S),
        C(SCANNERDB_VERIFIED), C(SCANNERDB_LOG) and C(SCANNERDB_MESSAGE).
    type: list
    elements: str
    default: []
  hook_on_failure:
    description:
      - Command to run when a backup or its copy failed.
      - It also gets C(SCANNERDB_LOG) and C(SCANNERDB_MESSAGE), the error.
    type: list
    elements: str
    default: []
  hook_timeout_s:
    description: A command is ended after so many seconds.
    type: int
    default: 60
  offsite_check:
    description:
      - How the copy is proven. V(download) reads every byte back.
      - V(hash) trusts the checksums of the storage, and reads back where it has none.
    type: str
    default: download
    choices: [download, hash]
  offsite_days:
    description: Copies older than so many days are removed.
    type: int
    default: 90
  offsite_min:
    description: So many of the newest copies are kept whatever their age.
    type: int
    default: 7
  run_id:
    description: Name of the run in logs and progress files; made up where it is empty.
    type: str
    default: ""
attributes:
  check_mode:
    description:
      - Looks at the server, the tools, the disk and the old sets, tells what would be made and removed, and writes
        nothing.
    support: full
  diff_mode:
    description: Shows the sets before and after.
    support: full
requirements:
  - PostgreSQL client programs of the server's major version or newer
seealso:
  - module: scannerdb_backup_info
  - module: scannerdb_restore
"""

EXAMPLES = r"""
- name: Back up the database of this host
  scannerdb_backup:
    login_unix_socket: /var/run/postgresql
    backup_dir: "/var/backups/scannerdb/{{ inventory_hostname }}"
    state_dir: "/var/lib/scannerdb/{{ inventory_hostname }}"
  become: true
  become_user: postgres

- name: Back up a remote database gently, and keep a year
  scannerdb_backup:
    login_host: db.example.com
    login_user: scannerdb_maint
    login_password: "{{ scannerdb_login_password }}"
    backup_dir: /srv/backups/scanner
    retention_days: 365
    jobs: 2
    nice: 10
"""

RETURN = r"""
backup:
  description: The new set. In check mode its name and the estimated size.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the set's folder.
      type: str
      sample: ollama_scanner_20250418_120000.backup
    path:
      description: Where it is.
      type: str
    size_bytes:
      description: Bytes of its files.
      type: int
    duration_s:
      description: Seconds it took, with flush and verification.
      type: float
    verified:
      description: The level it passed, one of none, checksum, read, restore.
      type: str
    created:
      description: When its snapshot was taken, UTC.
      type: str
    purpose:
      description: regular or pre_restore.
      type: str
    rows:
      description: Rows of all tables.
      type: int
    tables:
      description: Number of tables.
      type: int
    compression:
      description: Compression and level.
      type: str
      sample: zstd:1
    globals:
      description: Whether the role definitions could be saved.
      type: bool
    encrypted:
      description: Whether its files are encrypted.
      type: bool
    standby:
      description: Whether the dump was taken from a standby.
      type: bool
removed:
  description: Names of the sets that retention removed (in check mode, would remove).
  returned: success
  type: list
  elements: str
retention:
  description: What becomes of each set, and why; a list of name, action (keep or remove) and why.
  returned: success
  type: list
  elements: dict
swept:
  description: Debris of killed runs that was removed (in check mode, would be).
  returned: success
  type: list
  elements: str
latest:
  description: Name of the set that C(latest.backup) leads to.
  returned: success
  type: str
proven:
  description:
    - The newest set that a restore drill has proven restorable, as name, created, proven_at and restore_s.
    - Empty where there is none.
  returned: success
  type: dict
offsite:
  description:
    - The copy, as remote, copied, why (what failed), removed (old copies), caught_up (sets that earlier runs could not
      copy, copied now), missing (sets that still have none) and left_alone (folders there that are named like sets and
      have no manifest, and that nothing shows to be the bundle's). Empty where no copies are made.
  returned: when a set was made
  type: dict
plan:
  description: Server, tools, compression, expected size and free space.
  returned: in check mode
  type: dict
log:
  description: The run's log.
  returned: when a set was made
  type: str
run_id:
  description: Name of the run.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.argspec import connection_arguments, options_from
from ansible.module_utils.scannerdb.backup.request import addresses_in, backup_arguments
from ansible.module_utils.scannerdb.jobs.backup import backup


class Module(AnsibleModule):
    """A module that shows no address of a webhook, which may hold a token.

    C(no_log) on the options would hide every word of a command, such as "true", wherever it occurs.
    """

    def _load_params(self) -> None:
        super()._load_params()  # before the options are checked, and before they go to the system's log
        self.no_log_values.update(addresses_in(self.params))


def main() -> None:
    """Read the options, make the backup, answer."""
    own = backup_arguments()
    module = Module(argument_spec={**connection_arguments(), **own}, supports_check_mode=True)
    run_module(
        module,
        lambda: backup(
            options_from(module.params),
            check_mode=module.check_mode,
            **{name: module.params[name] for name in own},
        ),
    )


if __name__ == "__main__":
    main()
