"""What kind of restore is wanted, and one restore at work: the values that its steps hand on to each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ..connection import Options
from ..contract.model import Contract
from ..errors import InvalidInput, RestoreRefused
from ..files import ensure_folder
from ..load.leave_out import Named, named
from ..runs import Run
from ..sets.fetch import Access, access_from
from ..sets.held import HeldSet
from ..sets.manifest import TableCount
from ..sets.signing import Trust
from ..sets.storage import Storage
from .options import RestoreOptions


@dataclass(frozen=True)
class RestoreRequest:
    """What kind of restore is wanted: the module's options."""

    backup_dir: Path
    source: str = ""
    confirm: str = ""
    prebackup: bool = True
    verify_level: str = RestoreOptions.verify_level
    jobs: int = 0
    grace_s: float = RestoreOptions.grace_s
    terminate: bool = False
    missing_roles: str = RestoreOptions.missing_roles
    role_map: Mapping[str, str] = field(default_factory=dict)  # the backup's roles, and those that take their place
    tablespace_map: Mapping[str, str] = field(default_factory=dict)  # likewise
    accept: tuple[str, ...] = ()
    state_dir: str = ""
    recipients: tuple[str, ...] = ()
    storage: Storage = field(default_factory=lambda: Storage(Path("/")))
    access: Access = field(default_factory=Access)
    keep_hours: float = 0.0
    replication: str = RestoreOptions.replication
    tables: tuple[str, ...] = ()
    into_schema: str = ""
    into_database: str = ""
    masking_sql: str = ""
    run_code: bool = False
    trust: Trust = field(default_factory=Trust)
    leave_out: Named = field(default_factory=Named)  # what the restored database may lack
    kept: Optional[HeldSet] = None  # the source, held open
    dump: Optional[Path] = None  # as pg_restore is to read it
    judged: str = ""  # the SHA-256 of the manifest that was found to be of a known maker
    told: str = ""  # what people call the source, where it was brought here or decrypted for this run
    words: str = "scannerdb_restore"  # how the names of the variables begin that errors speak of


@dataclass(frozen=True)
class RestoreTask:
    """One restore: where, what, its run, what the contract demands, and what healing has told so far."""

    options: Options
    request: RestoreRequest
    run: Run
    contract: Contract
    told: tuple[str, ...] = ()
    check_mode: bool = False


def restore_request_from(asked: RestoreOptions) -> RestoreRequest:
    """The request out of the module's options. Raises `InvalidInput` where signers or names make no sense."""
    return RestoreRequest(
        backup_dir=Path(asked.backup_dir),
        source=asked.source,
        confirm=asked.confirm,
        prebackup=asked.prebackup,
        verify_level=asked.verify_level,
        jobs=asked.jobs,
        grace_s=asked.grace_s,
        terminate=asked.terminate,
        missing_roles=asked.missing_roles,
        role_map=asked.role_map,
        tablespace_map=asked.tablespace_map,
        accept=tuple(asked.accept),
        state_dir=asked.state_dir,
        recipients=tuple(asked.age_recipients),
        storage=Storage(Path(asked.backup_dir), asked.storage),
        access=access_from(asked, asked),
        keep_hours=asked.keep_hours,
        replication=asked.replication,
        tables=tuple(asked.tables),
        into_schema=asked.into_schema,
        into_database=asked.into_database,
        masking_sql=asked.masking_sql,
        run_code=asked.run_code,
        trust=Trust(asked.state_dir, tuple(asked.trusted_signers), asked.trust.strip()).checked(),
        leave_out=named(asked.leave_out),
    )


def check_request(options: Options, request: RestoreRequest) -> None:
    """Raise `InvalidInput` or `RestoreRefused` where the request alone forbids the restore."""
    written = request.into_database or options.db
    if request.confirm != written:
        said = f"it says {request.confirm!r}" if request.confirm else "it is not set"
        does = (
            "adds a schema to" if request.tables else "creates" if request.into_database else "replaces the content of"
        )
        raise RestoreRefused(
            f"This {does} database {written!r}, and has to be confirmed by that name, spelled out; {said}.",
            f"Set {request.words}_confirm to {written}.",
        )
    if options.maintenance_db == options.db:
        raise InvalidInput(
            f"The maintenance database is {options.db!r} itself, and no database can be renamed from inside.",
            "Set scannerdb_maintenance_db to another one, such as postgres.",
        )
    if request.jobs < 0 or request.grace_s < 0:
        raise InvalidInput("jobs and grace_s must not be negative.")
    if request.tables and request.into_database:
        raise InvalidInput("Tables go into a schema of the live database, never into another database.")
    if request.masking_sql and not request.into_database:
        raise InvalidInput("Only a clone is masked.", "Set scannerdb_restore_into_database to its name.")
    for kind, names in (("role", request.role_map), ("tablespace", request.tablespace_map)):
        for name, instead in names.items():
            if not (name and isinstance(instead, str) and instead):
                raise InvalidInput(
                    f"scannerdb_restore_{kind}_map names no {kind} in the place of {name!r}.",
                    f'Write it like {{"old_one": "new_one"}}: the {kind} in the backup, and the one that is here.',
                )
    if request.into_database == options.db:
        raise InvalidInput("A clone needs another name than the database that it is a clone of.")


def backup_folder(request: RestoreRequest) -> Path:
    """The folder of backups and logs; made where it is missing."""
    return ensure_folder(request.backup_dir)


def state_line(database: str, words: str) -> str:
    """One side of a diff."""
    return f"database {database!r}: {words}\n"


def counted(rows: Iterable[TableCount]) -> dict[str, int]:
    """How much was brought, for the result: as the source says and the validation has confirmed. Pure."""
    counts = [table.rows for table in rows]
    return {"rows": sum(counts), "table_count": len(counts)}


def result_of(
    options: Options, run: Run, source: str, previous: Optional[str], gap: Optional[float], warnings: Sequence[str]
) -> dict[str, Any]:
    """What the results of all kinds of restores have in common."""
    return {
        "changed": True,
        "restore": {
            "source": source,
            "database": options.db,
            "previous_database": previous,
            "cutover_ms": gap,
        },
        "run_id": run.run_id,
        "log": run.log_path,
        "warnings": list(warnings),
    }
