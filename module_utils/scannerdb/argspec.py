"""Options that several modules share, each declared once, and what is made of their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import InvalidInput
from .lockbudget import Budget
from .login import CHANNEL_BINDINGS, OPTION_OF, PASSED_ON, SSL_MODES, Options
from .option import REQUIRED, PathText, Raw, option, taken
from .window import Window, parse_window

STORAGES = ("auto", "persistent", "ephemeral")
PROFILES = ("daily", "weekly", "monthly")


@dataclass(frozen=True)
class ConnectionOptions:
    """How to reach the database, with community.postgresql's names."""

    PREFIX = "scannerdb_"
    login_host: str = option(
        "",
        "Host of the server; empty for a local socket.",
        "Several servers of one cluster may stand here, with or without ports (C(db1,db2:5433)). The primary is taken, "
        "whichever that is.",
        environment=("PGHOST", "POSTGRES_HOST", "DB_HOST"),
        default_in_playbooks="{{ __scannerdb_prepared.host | default('') }}",
        note="The environment counts where the run is for one host that needs no ssh. For several it never does. By "
        "default empty; once C(deploy.yml) has prepared a login on the host, what that one takes.",
    )
    login_port: int = option(Options.port, "Port of the server.", environment=("PGPORT", "POSTGRES_PORT", "DB_PORT"))
    login_user: str = option(
        "",
        "Role to log in as; empty for the system user's name.",
        environment=("PGUSER", "POSTGRES_USER", "DB_USER"),
        default_in_playbooks="{{ __scannerdb_prepared.role | default('postgres') }}",
        note="A superuser on day one; afterwards the maintenance role that C(deploy.yml) prepares will do. By default "
        "C(postgres); once C(deploy.yml) has prepared a login on the host, its role.",
    )
    login_password: str = option(
        "",
        "Password of the role. It reaches client programs through a private file, never by their arguments.",
        secret=True,
        environment=("PGPASSWORD", "POSTGRES_PASSWORD", "DB_PASSWORD"),
    )
    login_unix_socket: PathText = option("", "Folder of the server's socket; used where O(login_host) is empty.")
    login_db: str = option(
        Options.db, "The Ollama Scanner database.", environment=("PGDATABASE", "POSTGRES_DB", "DB_NAME")
    )
    ssl_mode: str = option(
        Options.ssl_mode,
        "How far TLS is insisted upon, as in libpq.",
        choices=SSL_MODES,
        variable="scannerdb_login_ssl_mode",
        environment=("PGSSLMODE",),
    )
    ca_cert: PathText = option(
        "",
        "File with the certificates of the authorities that may have signed the server's.",
        variable="scannerdb_login_ca_cert",
        environment=("PGSSLROOTCERT",),
    )
    ssl_cert: PathText = option(
        "",
        "File with the client's own certificate, for a server that asks for one.",
        variable="scannerdb_login_ssl_cert",
        environment=("PGSSLCERT",),
    )
    ssl_key: PathText = option(
        "",
        "File with the private key of O(ssl_cert); nobody but its owner may read it.",
        variable="scannerdb_login_ssl_key",
        environment=("PGSSLKEY",),
    )
    channel_binding: str = option(
        Options.channel_binding,
        "Whether the password's exchange must be bound to the TLS connection, as in libpq.",
        choices=CHANNEL_BINDINGS,
        variable="scannerdb_login_channel_binding",
        environment=("PGCHANNELBINDING",),
    )
    connect_params: dict[str, Any] = option(
        {},
        "Further parameters of libpq, for the driver and the client programs alike, such as C(sslcrl), "
        "C(sslnegotiation), C(ssl_min_protocol_version), C(require_auth), C(gssencmode) or C(requirepeer).",
        "One that has an option of its own, or that is fixed for all sessions (C(options), C(client_encoding) and the "
        "like), is refused.",
        variable="scannerdb_login_connect_params",
    )
    patroni_url: list[str] = option(
        [],
        "Addresses of Patroni's REST API, such as V(http://db1:8008), of one or several members of a cluster.",
        "Patroni then says which servers there are and which one leads, and O(login_host) counts only where it does "
        "not answer.",
    )
    patroni_members: list[str] = option(
        [],
        "Where Patroni may say that members are, besides the hosts of O(login_host) and O(patroni_url): names, "
        "addresses, or networks such as V(10.0.0.0/24).",
        "A member that Patroni says is anywhere else is not asked, and given no password.",
    )
    cluster_min_standbys: int = option(
        Options.min_standbys,
        "How many standbys must stream from the primary before a restore, a fix, or a vacuum that rewrites is begun. "
        "0 looks at none.",
        "Where fewer do, a restore is refused, and its cutover, too; fixes and rewrites are left, with the reason.",
    )
    maintenance_db: str = option(
        Options.maintenance_db, "Database in which the job lock is taken and from which cutovers are sent."
    )
    pg_bin_dir: PathText = option(
        "",
        "Folder with the client programs C(pg_dump), C(pg_restore) and the like.",
        "By default they are searched for, and those of the server's own major version are preferred.",
    )


@dataclass(frozen=True)
class RunOptions:
    """Options of every module that does long or locking work."""

    PREFIX = "scannerdb_"
    lock_wait_s: int = option(0, "How many seconds to wait for another run on the same database.")
    log_path: PathText = option("", "File to which the run adds its log lines; none where it is empty.", variable="")
    state_dir: PathText = option(
        "",
        "Folder of run records, progress files and the hashes of manifests; none where it is empty.",
        default_in_playbooks="/var/lib/scannerdb/{{ inventory_hostname }}",
    )


@dataclass(frozen=True)
class BudgetOptions:
    """Options of every module that takes locks which could block a writer."""

    PREFIX = "scannerdb_"
    lock_timeout_ms: int = option(
        Budget.timeout_ms, "How many milliseconds one attempt may wait for a lock that could block a writer."
    )
    lock_deadline_s: int = option(int(Budget.deadline_s), "How many seconds to go on trying for such a lock.")


@dataclass(frozen=True)
class WindowOptions:
    """The option of every module that keeps to the site's window."""

    PREFIX = "scannerdb_"
    window: Raw = option(
        "",
        "The hours in which a job may work, as V(04:00/3h), V(04:00/3h/Europe/Berlin) or a dictionary of C(start), "
        "C(duration_h) and C(timezone). Empty for any time; without a time zone, that of the machine counts.",
        "Begun outside of it, a job does nothing, however late the scheduler fired it; when it closes, the job stops "
        "after the table or the fix that it is at.",
        note="Honoured by C(fix.yml) and C(vacuum.yml), and so by these steps of C(maintain.yml); looking and backing "
        "up may be done at any time.",
    )


@dataclass(frozen=True)
class OverlayOptions:
    """The option of every module that knows the contract."""

    contract_overlay: dict[str, Any] = option(
        {},
        "What this site's database has on top of the baseline. Its keys are C(application_role), "
        "C(application_creates), C(foreign_keys_of_others), C(retention_rules), C(read_only_roles), C(tables), "
        "C(grants) and C(exceptions); see docs/contract.md.",
        given="{{ __scannerdb_overlay }}",
    )


@dataclass(frozen=True)
class FolderOptions:
    """The option of every module that works on backup sets."""

    PREFIX = "scannerdb_"
    backup_dir: PathText = option(
        REQUIRED,
        "Folder of the backup sets, of C(latest.backup) and of their logs.",
        default_in_playbooks="/var/backups/scannerdb/{{ inventory_hostname }}",
    )


@dataclass(frozen=True)
class StorageOptions:
    """The option of every module that makes backup sets, in a folder that may not last."""

    PREFIX = "scannerdb_backup_"
    storage: str = option(
        "persistent",
        "Whether O(backup_dir) keeps what is written there.",
        "V(ephemeral) does not (an execution environment). A backup is refused then, unless O(offsite_remote) is set; "
        "where the copy fails, the task does.",
        "V(auto) looks. What lies in memory, on a container's layers, or in a container outside of any volume does not "
        "last.",
        choices=STORAGES,
        default_in_playbooks="auto",
    )


@dataclass(frozen=True)
class EncryptionOptions:
    """The option of every module that makes backup sets."""

    PREFIX = "scannerdb_backup_"
    age_recipients: list[str] = option(
        [],
        "Public keys (C(age1...) or C(ssh-ed25519 ...)) to which every file of a new set is encrypted with C(age), "
        "once the set is verified. Empty for a plain set. The private keys are not needed here, and must not be here.",
        "The manifest stays readable.",
    )


@dataclass(frozen=True)
class IdentityOptions:
    """Options of every module that reads encrypted sets."""

    PREFIX = "scannerdb_backup_"
    identity: PathText = option(
        "",
        "File with the private key of an encrypted set, for C(age).",
        "The set is decrypted into a hidden private folder in O(backup_dir), which is removed afterwards.",
    )
    identity_key: str = option(
        "",
        "The private key itself, instead of a file. It is never written to a disk of the host.",
        secret=True,
        note="It comes from a vault or a prompt.",
    )


@dataclass(frozen=True)
class OffsiteOptions:
    """Options of every module that reaches the copies of sets."""

    PREFIX = "scannerdb_backup_"
    offsite_remote: str = option(
        "",
        "Where copies of the sets are, as C(rclone) names it; C(remote:path) or a folder. Empty for nowhere.",
        "Every database needs a place of its own.",
    )
    offsite_config: PathText = option(
        "", "Configuration file of C(rclone); its own default where it is empty. Credentials belong there."
    )
    offsite_bandwidth: str = option("", "Limit of C(rclone), such as V(8M) for 8 MiB a second; empty for none.")


@dataclass(frozen=True)
class TrustOptions:
    """The option of every module that asks who made a set."""

    PREFIX = "scannerdb_"
    trusted_signers: list[str] = option(
        [],
        "Public keys of other hosts (the line in C(signing_key.pub) of their state folder), whose sets count as known "
        "and whose verifications of sets are believed.",
        "The manifest of every set is signed with the key of the host that made it, by C(ssh-keygen). What this host "
        "made itself is known by that key, and by the hashes in O(state_dir).",
        note="For one restore C(scannerdb_restore_trust) does, too.",
    )


@dataclass(frozen=True)
class RetentionOptions:
    """Options of every module that knows how long sets are kept."""

    PREFIX = "scannerdb_"
    retention_days: int = option(30, "Sets and logs older than this many days are removed after a successful backup.")
    retention_min: int = option(
        7,
        "So many of the newest sets are kept whatever their age. Pre-restore sets do not count. The newest verified "
        "one is never removed.",
    )
    retention_daily: int = option(0, "Beyond that, keep the newest set of each of the last so many days that have any.")
    retention_weekly: int = option(0, "The same with weeks, from Monday to Sunday in UTC.")
    retention_monthly: int = option(0, "The same with months.")
    retention_yearly: int = option(0, "The same with years.")


def passed_on(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The parameters of libpq that are given besides the options; raises `InvalidInput` for those that are ours."""
    for name, value in params.items():
        if name in OPTION_OF:
            raise InvalidInput(
                f"Parameter {name} in connect_params has an option of its own.", f"Set {OPTION_OF[name]}."
            )
        if name not in PASSED_ON:
            raise InvalidInput(
                f"Parameter {name} in connect_params is not passed on: it is fixed, secret or unknown.",
                f"Those that are: {', '.join(sorted(PASSED_ON))}.",
            )
        if not str(value).isprintable():
            raise InvalidInput(f"Parameter {name} in connect_params holds a line end or a control character.")
    return tuple(sorted((name, str(value)) for name, value in params.items()))


def options_from(params: Mapping[str, Any]) -> Options:
    """How to reach the database, out of a module's parameters."""
    given = taken(ConnectionOptions, params)
    return Options(
        host=given.login_host or "",
        port=given.login_port,
        user=given.login_user or "",
        password=given.login_password or "",
        unix_socket=given.login_unix_socket or "",
        db=given.login_db,
        ssl_mode=given.ssl_mode,
        ca_cert=given.ca_cert or "",
        ssl_cert=given.ssl_cert or "",
        ssl_key=given.ssl_key or "",
        channel_binding=given.channel_binding,
        connect_params=passed_on(given.connect_params or {}),
        patroni_urls=tuple(given.patroni_url or ()),
        patroni_members=tuple(given.patroni_members or ()),
        min_standbys=given.cluster_min_standbys,
        maintenance_db=given.maintenance_db,
        pg_bin_dir=given.pg_bin_dir or "",
    )


def budget_from(request: BudgetOptions) -> Budget:
    """The lock budget that is asked for."""
    return Budget(timeout_ms=request.lock_timeout_ms, deadline_s=float(request.lock_deadline_s))


def window_from(request: WindowOptions) -> Window | None:
    """The window that is asked for."""
    return parse_window(request.window)
