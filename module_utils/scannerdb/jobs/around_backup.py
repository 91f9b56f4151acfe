"""What may come with a backup: hooks around it, and a copy elsewhere. Neither ever undoes a backup that was made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..backup.hooks import Hooks
from ..backup.plan import BackupRequest
from ..backup.request import Request
from ..connection import Options
from ..errors import BackupInvalid, RestoreRefused, ScannerDbError
from ..runs import Run
from ..sets.adopted import Adopted, find_adopted
from ..sets.archive import SQL_FILE
from ..sets.catalogue import BackupSet
from ..sets.locate import open_source
from ..sets.offsite import Copied, Offsite, as_json, replicate
from ..sets.staging import in_use


class Hooked:
    """The hooks of one run: `around` it, and `finish` with its result."""

    def __init__(self, hooks: Hooks, options: Options, request: BackupRequest, run: Run) -> None:
        self._hooks = hooks
        self._run = run
        self._told: list[str] = []
        self._values: dict[str, object] = {
            "database": options.db,
            "run_id": run.run_id,
            "backup_dir": request.backup_dir,
            "purpose": request.purpose,
        }

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """Run `pre_backup` before the block, and `on_failure` where the block fails; its error goes on."""
        self._call("pre_backup")
        try:
            yield
        except Exception as error:
            self._call("on_failure", message=error, log=self._run.log_path)
            raise

    def finish(self, result: dict[str, Any]) -> None:
        """Run `post_backup`, or `on_failure` where the copy failed; a hook's own failure becomes a warning."""
        made = result["backup"]
        values = {name: made[name] for name in ("name", "path", "size_bytes", "duration_s", "verified")}
        event = "on_failure" if result["failed"] else "post_backup"
        self._call(event, message=result["msg"], log=self._run.log_path, **values)
        result["warnings"] += self._told

    def _call(self, event: str, **values: object) -> None:
        why = self._hooks.run(event, {**self._values, **values})
        if why:
            self._told.append(why)
            with contextlib.suppress(ScannerDbError):
                self._run.log(f"warning: {why}")


def adopted_dumps(asked: Request, database: str) -> tuple[list[Adopted], list[str]]:
    """The dumps that retention was told to treat like sets, and warnings about those that it may not."""
    found, refused = find_adopted(asked.backup.backup_dir, asked.adopt, database, database_in, asked.backup.trust)
    return found, [f"{name} was not adopted: {why}" for name, why in refused]


def database_in(path: Path) -> str:
    """The database that an archive of pg_dump was made of; raises `BackupInvalid` where it is none."""
    source = open_source(path)
    if source.kind == SQL_FILE:
        raise RestoreRefused(f"{path} is a plain SQL file, which does not say of which database it is.")
    name = source.header.database
    if not name:
        raise BackupInvalid(f"{path} does not say of which database it is.")
    return name


def copy_away(offsite: Offsite, made: BackupSet, here: Sequence[BackupSet], run: Run) -> Copied | None:
    """Copy a new set, and what earlier runs missed, to where copies go; None where they go nowhere."""
    if not offsite.remote:
        return None
    run.progress("copy")
    with in_use(made.path):
        done = replicate(offsite, made, here, run.log)
    run.log(f"copy: {as_json(done)}")
    return done


def with_copy(result: dict[str, Any], done: Copied | None, made: BackupSet, lost: str) -> dict[str, Any]:
    """The result with what became of the copies: where the new set has none, the run failed, though the set is kept.

    `lost` says why the set here will not last, where it will not.
    """
    if done is None:
        return {**result, "offsite": {}}
    warnings = [*result["warnings"], *(f"Backup {name} still has no copy; see the log." for name in done.missing)]
    if done.left_alone:
        warnings.append(
            f"On {done.remote} are folders that are named like sets and have no manifest.json: "
            f"{', '.join(done.left_alone)}. Nothing shows that this bundle made them (an interrupted upload of an "
            "earlier version looks so, too), so they were left alone: look at them, and remove or rename them."
        )
    result = {**result, "offsite": vars(done), "warnings": warnings}
    if not done.copied:
        why = f"Backup {made.name} was made and is kept, but could not be copied to {done.remote}: {done.why}"
        last = f" What is here will not last: {lost}." if lost else ""
        return {**result, "failed": True, "msg": f"{why}{last}"}
    more = f", and {len(done.caught_up)} that earlier runs had missed" if done.caught_up else ""
    if done.why:
        warnings.append(f"The backup was copied to {done.remote}, but not all was done there: {done.why}")
    return {**result, "msg": f"{result['msg']} Copied to {done.remote}, and read back{more}."}
