"""Documentation of the options that several modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Named `scannerdb.connection`, `scannerdb.run` and so on in a module's documentation."""

    CONNECTION = r"""
options:
  login_host:
    description:
      - Host of the server; empty for a local socket.
      - Several servers of one cluster may stand here, with or without ports (C(db1,db2:5433)). The primary is taken,
        whichever that is.
    type: str
    default: ""
  login_port:
    description: Port of the server.
    type: int
    default: 5432
  login_user:
    description: Role to log in as; empty for the system user's name.
    type: str
    default: ""
  login_password:
    description: Password of the role. It reaches client programs through a private file, never by their arguments.
    type: str
    default: ""
  login_unix_socket:
    description: Folder of the server's socket; used where O(login_host) is empty.
    type: path
    default: ""
  login_db:
    description: The Ollama Scanner database.
    type: str
    default: ollama_scanner
  ssl_mode:
    description: How far TLS is insisted upon, as in libpq.
    type: str
    default: prefer
    choices: [disable, allow, prefer, require, verify-ca, verify-full]
  ca_cert:
    description: File with the certificates of the authorities that may have signed the server's.
    type: path
    default: ""
  ssl_cert:
    description: File with the client's own certificate, for a server that asks for one.
    type: path
    default: ""
  ssl_key:
    description: File with the private key of O(ssl_cert); nobody but its owner may read it.
    type: path
    default: ""
  channel_binding:
    description: Whether the password's exchange must be bound to the TLS connection, as in libpq.
    type: str
    default: prefer
    choices: [disable, prefer, require]
  connect_params:
    description:
      - Further parameters of libpq, for the driver and the client programs alike, such as C(sslcrl), C(sslnegotiation),
        C(ssl_min_protocol_version), C(require_auth), C(gssencmode) or C(requirepeer).
      - One that has an option of its own, or that is fixed for all sessions (C(options), C(client_encoding) and the
        like), is refused.
    type: dict
    default: {}
  maintenance_db:
    description: Database in which the job lock is taken and from which cutovers are sent.
    type: str
    default: postgres
  pg_bin_dir:
    description:
      - Folder with the client programs C(pg_dump), C(pg_restore) and the like.
      - By default they are searched for, and those of the server's own major version are preferred.
    type: path
    default: ""
requirements:
  - psycopg >= 3.1
"""

    RUN = r"""
options:
  lock_wait_s:
    description: How many seconds to wait for another run on the same database.
    type: int
    default: 0
  log_path:
    description: File to which the run adds its log lines; none where it is empty.
    type: path
    default: ""
  state_dir:
    description: Folder of run records, progress files and the hashes of manifests; none where it is empty.
    type: path
    default: ""
"""

    WINDOW = r"""
options:
  window:
    description:
      - The hours in which the module may work, as V(04:00/3h), V(04:00/3h/Europe/Berlin) or a dictionary of C(start),
        C(duration_h) and C(timezone). Begun outside of it, the module does nothing; when it closes, the module stops
        after the table or the fix that it is at. Empty for any time.
    type: raw
    default: ""
"""

    BUDGET = r"""
options:
  lock_timeout_ms:
    description: How long one attempt may wait for a lock that could block a writer.
    type: int
    default: 50
  lock_deadline_s:
    description: How many seconds to go on trying for such a lock.
    type: int
    default: 300
"""

    ENCRYPTION = r"""
options:
  age_recipients:
    description:
      - Public keys (C(age1...) or C(ssh-ed25519 ...)) to which every file of a new set is encrypted with C(age), once
        the set is verified. Empty for a plain set. The private keys are not needed here, and must not be here.
      - The manifest stays readable.
    type: list
    elements: str
    default: []
"""

    IDENTITY = r"""
options:
  identity:
    description:
      - File with the private key of an encrypted set, for C(age).
      - The set is decrypted into a hidden private folder in O(backup_dir), which is removed afterwards.
    type: path
    default: ""
  identity_key:
    description: The private key itself, instead of a file. It is never written to a disk of the host.
    type: str
    default: ""
"""

    OFFSITE = r"""
options:
  offsite_remote:
    description:
      - Where copies of the sets are, as C(rclone) names it; C(remote:path) or a folder. Empty for nowhere.
      - Every database needs a place of its own.
    type: str
    default: ""
  offsite_config:
    description: Configuration file of C(rclone); its own default where it is empty. Credentials belong there.
    type: path
    default: ""
  offsite_bandwidth:
    description: Limit of C(rclone), such as V(8M) for 8 MiB a second; empty for none.
    type: str
    default: ""
"""

    TRUST = r"""
options:
  trusted_signers:
    description:
      - Public keys of other hosts (the line in C(signing_key.pub) of their state folder), whose sets count as known
        and whose verifications of sets are believed.
      - The manifest of every set is signed with the key of the host that made it, by C(ssh-keygen). What this host made
        itself is known by that key, and by the hashes in O(state_dir).
    type: list
    elements: str
    default: []
"""

    RETENTION = r"""
options:
  retention_days:
    description: Sets and logs older than this many days are removed after a successful backup.
    type: int
    default: 30
  retention_min:
    description: So many of the newest sets are kept whatever their age. Pre-restore sets do not count.
    type: int
    default: 7
  retention_daily:
    description: Beyond that, keep the newest set of each of the last so many days that have any.
    type: int
    default: 0
  retention_weekly:
    description: The same with weeks, from Monday to Sunday in UTC.
    type: int
    default: 0
  retention_monthly:
    description: The same with months.
    type: int
    default: 0
  retention_yearly:
    description: The same with years.
    type: int
    default: 0
"""

    OVERLAY = r"""
options:
  contract_overlay:
    description:
      - What this site's database has on top of the baseline. Its keys are C(application_role), C(read_only_roles),
        C(tables), C(grants) and C(exceptions); see docs/contract.md.
    type: dict
    default: {}
"""
