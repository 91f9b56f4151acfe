"""What the restore job can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..argspec import (
    EncryptionOptions,
    FolderOptions,
    IdentityOptions,
    OffsiteOptions,
    OverlayOptions,
    RunOptions,
    StorageOptions,
    TrustOptions,
)
from ..option import PathText, option
from ..physical.copy_folder import COPY_DIR
from ..physical.options import MethodOptions
from ..sets.verification import LEVELS

REPLICATION = ("stop", "cut")


@dataclass(frozen=True)
class RestoreOptions(
    FolderOptions,
    StorageOptions,
    EncryptionOptions,
    IdentityOptions,
    OffsiteOptions,
    OverlayOptions,
    MethodOptions,
    RunOptions,
    TrustOptions,
):
    """Restore the Ollama Scanner database beside the live one, prove it, and cut over."""

    PREFIX = "scannerdb_restore_"
    state: str = option(
        "restored",
        "V(restored) restores O(source).",
        "V(undone) swaps the live database with the one that the last restore (or O(undo_run_id)) replaced, and "
        "keeps the live one in turn.",
        "V(swept) drops the databases that earlier runs replaced O(keep_hours) ago or before. Only those go that "
        "carry both the name and the comment that a restore gave them; what is in use, or has replication slots, "
        "stays, and is told. O(confirm) is not needed.",
        choices=("restored", "swept", "undone"),
        given="{{ __scannerdb_restore_state }}",
    )
    source: str = option(
        "",
        "What to restore, for O(state=restored).",
        "V(latest), the name of a backup in O(backup_dir), a path, or a time (C(2025-04-18T12:00:00Z), UTC unless "
        "it says otherwise) for the newest backup that is not younger.",
        "Where O(backup_method) has C(pgbackrest), a time is a point in time of the physical backups, and so are "
        "C(lsn:0/3000028) (all before that position), C(xid:1234) (with that transaction), C(before-xid:1234) "
        "(without it and all later ones), C(name:NAME) (a restore point) and C(physical:latest). C(dump:) before a "
        "time asks for the newest dump from before. Without O(confirm) the plan of a point in time is told, and "
        "no database is changed; WAL that is not archived yet may be switched out, which is told.",
        "With C(offsite:) before V(latest), a name or a time, the copy at O(offsite_remote). It is brought into a "
        "hidden folder of O(backup_dir) and verified there.",
        "A set must have been made on this host or by one of O(trusted_signers), or O(trust) has its hash. An "
        "archive or SQL file of anybody else's is restored when its name or path is given here, and runs what is "
        "in it.",
        "A set of M(scannerdb_backup), an archive of C(pg_dump -Fc), C(-Fd) or C(-Ft), or plain SQL of "
        "C(pg_dump), packed with gzip or not; told by its content.",
        "Plain SQL is read through first. What does more than fill one database (C(\\connect), other commands of "
        "psql, databases, roles) is refused; the rest is run by psql as one transaction in the side database.",
    )
    confirm: str = option("", "The name of the database, spelled out. Anything else and nothing happens.")
    timeline: int = option(
        0,
        "For a point in time, the timeline along which it is looked for; 0 for any. Where several hold the point with "
        "different contents, it has to be said.",
    )
    show: bool = option(
        False,
        "For a point in time, whether to build the paused copy and tell what its tables hold beside what they hold "
        "now. Nothing is restored then, whatever O(confirm) says.",
    )
    copy_dir: PathText = option(
        COPY_DIR,
        "Folder in which the copy of the cluster gets a private folder, for a point in time. It needs room for the "
        "whole cluster, and its path must be short.",
    )
    prebackup: bool = option(
        True, "Whether to back up the live database first. A failure of that backup stops the restore."
    )
    verify_level: str = option(
        "read",
        "How a set is verified before it is restored. Other archives are always read through.",
        "V(checksum) compares every file with the manifest, V(read) decompresses the whole dump as well.",
        choices=LEVELS,
    )
    jobs: int = option(
        0, "Parallel workers; 0 for as many as there are processors, at most eight. A tar archive takes one."
    )
    grace_s: int = option(
        5,
        "How many seconds to wait, with connections open, for clients to go (or with O(terminate), to finish "
        "their transactions) before the cutover.",
        "Without O(terminate) the same wait stands at the beginning, so that a restore that could not end is not "
        "begun.",
    )
    terminate: bool = option(
        False,
        "Whether sessions that are still there may be ended at the moment of the cutover.",
        "Without it a restore into a database that is in use stops, and says who uses it.",
    )
    trust: str = option(
        "",
        "The SHA-256 of the C(manifest.json) of a set that neither this host nor one of O(trusted_signers) made, "
        "as whoever made it tells. It is restored then. Take it from the machine that made the set, never from "
        "the place where the set was found.",
        "For a file that is no set and that V(latest) or a time leads to, the SHA-256 of the file.",
    )
    run_code: bool = option(
        False,
        "Whether functions that belong to lesser roles may run while an archive is loaded, in CHECKs, domains, "
        "generated columns, partition keys and casts. They have the rights of O(login_user) then.",
        "Without it, a restore of such an archive is refused before it begins, and names the function and its "
        "owner. Triggers, defaults and indexes are no concern.",
    )
    missing_roles: str = option(
        "stop",
        "What to do about roles that the backup names and the server does not have.",
        "V(stop) lists them and changes nothing. V(create) creates them without login. V(ignore) leaves their "
        "grants out; what they owned belongs to O(login_user).",
        "Those that O(role_map) speaks of are not missing.",
        choices=("stop", "create", "ignore"),
    )
    role_map: dict[str, Any] = option(
        {},
        "Roles of the backup, and those that take their place, as C(old_app=ollama). What one owned is owned by "
        "the other, and so are its grants, default privileges, policies, and the settings that it has in this "
        "database.",
        "Roles that exist can be replaced too, for instance in a clone. All are replaced at once, so that two may "
        "change places. The other role must exist; without a superuser, O(login_user) must be a member of one "
        "that is to own.",
    )
    tablespace_map: dict[str, Any] = option(
        {},
        "Tablespaces of the backup, and those that take their place, as C(fast_disk=pg_default). It goes for the "
        "database itself and for each table, index and materialized view that lies in a tablespace of its own.",
        "A tablespace that the server does not have and that is not named here stops the restore before it begins.",
    )
    leave_out: list[str] = option(
        [],
        "Objects that the restored database may do without, where they cannot be made and must not cost all the "
        "rest. An error or a drill gives their names, such as C(public.my_view) or "
        "C(public.my_table.my_constraint).",
        "Of a materialized view or a table the rows are left out, and it comes back empty. A CHECK comes back NOT "
        "VALID, of anything else nothing does. A name that the backup does not have stops the restore.",
    )
    accept: list[str] = option(
        [],
        "Ids of critical findings, or patterns of them, that may be in the restored database though they are not "
        "in the live one, for instance V(schema.table.missing).",
    )
    keep_hours: float = option(
        168,
        "How many hours a replaced database is kept, for O(state=swept); 0 keeps all of them.",
        "A restore never drops what it replaced itself, nor what others did.",
    )
    replication: str = option(
        "stop",
        "What to do where logical replication slots or subscriptions hang on the database, which the cutover "
        "would cut off. V(stop) says what that would mean and restores nothing; V(cut) goes on.",
        "Standbys follow by themselves, and stop nothing.",
        choices=REPLICATION,
    )
    tables: list[str] = option(
        [],
        "Bring only these tables, C(endpoints) or C(public.endpoints), into a new schema of the live database, to "
        "compare and to copy rows back. The live tables are not touched, and nobody is disconnected.",
    )
    into_schema: str = option(
        "", "With O(tables), the new schema; by default C(restored_) and the last eight digits of the run's name."
    )
    into_database: str = option(
        "",
        "Clone the backup into a new database of this name instead of replacing the live one. It must not exist "
        "yet, and O(confirm) is its name.",
    )
    masking_sql: PathText = option(
        "",
        "With O(into_database), a file of SQL that C(psql) runs on the clone, as one transaction, before anybody "
        "but a superuser or the maintenance role can connect to it. An error stops the clone.",
        "Its tables are rewritten afterwards, so that neither files nor statistics hold what was masked.",
    )
    undo_run_id: str = option(
        "",
        "With O(state=undone), the run whose replaced database comes back; empty for the last.",
        given="{{ scannerdb_run_id if scannerdb_restore_undo | bool else '' }}",
    )
    run_id: str = option("", "Name of this run in logs and progress files; made up where it is empty.", variable="")
    SAYS: ClassVar = {
        "login_user": (
            "Role to log in as; empty for the system user's name.",
            "Without a superuser it needs C(CREATEDB), membership in the role that owns the database and in the "
            "owners of its tables, and C(pg_signal_backend) where sessions have to be ended. All of it is tested "
            "before anything starts.",
        ),
        "maintenance_db": (
            "Database in which the job lock is taken and from which the cutover is sent. Not O(login_db) itself.",
        ),
        "pg_bin_dir": (
            "Folder with C(pg_restore) (C(psql) for plain SQL) and, for the backup before the restore, C(pg_dump).",
            "By default they are searched for, and chosen by the archive's version and the server's.",
        ),
        "log_path": ("File for the run's log instead of C(restore_<time>.log) in O(backup_dir).",),
    }
