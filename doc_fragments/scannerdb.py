"""Documentation of the options that several modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Named `scannerdb.connection`, `scannerdb.run` and `scannerdb.budget` in a module's documentation."""

    CONNECTION = r"""
options:
  login_host:
    description: Host of the server; empty for a local socket.
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
    description: Folder in whose C(progress/) the run tells how far it is; nowhere where it is empty.
    type: path
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

    OVERLAY = r"""
options:
  contract_overlay:
    description:
      - What this site's database has on top of the baseline. Its keys are C(application_role), C(read_only_roles),
        C(tables), C(grants) and C(exceptions); see docs/contract.md.
    type: dict
    default: {}
"""
