"""What may come with a backup: hooks around it, and a copy elsewhere. Neither ever undoes a backup that was made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ..backup.hooks import Hooks
from ..backup.offsite import Copied, Offsite, as_json, replicate
from ..backup.plan import Wish
from ..backup.sets import BackupSet
from ..backup.workspace import in_use
from ..connection import Options
from ..errors import ScannerDbError
from ..runs import Run, utc_now


class Hooked:
    """The hooks of one run: `around` it, and `finish` with its result."""

    def __init__(self, hooks: Hooks, options: Options, wish: Wish, run: Run) -> None:
        self._hooks = hooks
        self._run = run
        self._told: list[str] = []
        self._values: dict[str, object] = {
            "database": options.db,
            "run_id": run.run_id,
            "backup_dir": wish.backup_dir,
            "purpose": wish.purpose,
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


def copy_away(offsite: Offsite, made: BackupSet, run: Run) -> Copied | None:
    """Copy a new set to where copies go; None where they go nowhere."""
    if not offsite.remote:
        return None
    run.progress("copy")
    with in_use(made.path):
        done = replicate(offsite, made, utc_now())
    run.log(f"copy: {as_json(done)}")
    return done


def with_copy(result: dict[str, Any], done: Copied | None, made: BackupSet) -> dict[str, Any]:
    """The result with what became of the copy: one that failed fails the run, though the set is made and kept."""
    if done is None:
        return {**result, "offsite": {}}
    copy = {"remote": done.remote, "copied": done.copied, "removed": done.removed, "why": done.why}
    if done.copied and not done.why:
        return {**result, "offsite": copy, "msg": f"{result['msg']} Copied to {done.remote}, and read back."}
    if done.copied:
        why = f"The backup was copied to {done.remote}, but old copies could not be let go: {done.why}"
        return {**result, "offsite": copy, "warnings": [*result["warnings"], why]}
    why = f"Backup {made.name} was made and is kept, but could not be copied to {done.remote}: {done.why}"
    return {**result, "offsite": copy, "failed": True, "msg": why}
