"""A restore's source, brought here and decrypted where that is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..connection import Options
from ..runs import Run
from ..sets.catalogue import BackupSet, load_held, load_set
from ..sets.encryption import require_key, unlocked
from ..sets.fetch import OFFSITE, fetched, find_copy, tidied
from ..sets.held import HeldSet, held, private_dump
from ..sets.locate import LATEST, find_backup, is_set, parse_moment
from ..sets.signature import require_known, require_spelled
from ..sets.staging import in_use
from ..sets.verification import require, verify_set
from .request import RestoreRequest


@contextlib.contextmanager
def at_hand(options: Options, wish: RestoreRequest, run: Run, check_mode: bool) -> Iterator[RestoreRequest]:
    """The wish with a source that lies here in the clear, for the block.

    A copy from elsewhere and what is decrypted lie in hidden folders of the backup folder, which are gone afterwards;
    in check mode too, since only they tell what a restore would meet. What killed runs left stays in check mode.
    """
    with contextlib.ExitStack() as stack:
        if check_mode:
            stack.enter_context(_as_it_was(wish.backup_dir))
        if wish.source.startswith(OFFSITE):
            copy = find_copy(wish.source, wish.access.offsite, options.db)
            if not check_mode:
                tidied(wish.backup_dir, options.db, run)
            path = stack.enter_context(fetched(copy, wish.access, wish.backup_dir, options.db, run))
            wish = replace(wish, source=str(path), told=wish.access.offsite.at(path.name))
        path = find_backup(wish.backup_dir, wish.source, options.db)
        if is_set(path):
            stack.enter_context(in_use(path))
            kept = stack.enter_context(held(path))
            item = load_held(kept.path, load_set(path, wish.trust))
            origin = require_known(item, wish.trust)
            if origin.sentence:
                run.log(origin.sentence)
            wish = replace(wish, told=wish.told or str(path), kept=kept)
            if item.manifest.encryption:
                plain = stack.enter_context(_opened(item, options, wish, run, check_mode))
                kept = stack.enter_context(held(plain.path))
                item = load_held(kept.path, plain)
            yield _held(wish, kept, item, stack)
            return
        if wish.source in ("latest", LATEST) or parse_moment(wish.source):  # nobody has named this very file
            require_spelled(path, wish.trust)
        kept = stack.enter_context(held(path))
        wish = replace(wish, told=wish.told or str(path))
        yield replace(wish, kept=kept, dump=stack.enter_context(private_dump(kept, "")))


def _held(wish: RestoreRequest, kept: HeldSet, item: BackupSet, stack: contextlib.ExitStack) -> RestoreRequest:
    """The wish with its set held open, whose table of contents nobody can change any more."""
    recorded = {record.path: record.sha256 for record in item.manifest.files}
    dump = stack.enter_context(private_dump(kept, item.manifest.dump_path, recorded))
    return replace(wish, kept=kept, dump=dump, judged=item.manifest_sha256)


@contextlib.contextmanager
def _as_it_was(folder: Path) -> Iterator[None]:
    """Remove a folder and its parents after the block, where they were not there before and nothing is in them."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


@contextlib.contextmanager
def _opened(item: BackupSet, options: Options, wish: RestoreRequest, run: Run, check_mode: bool) -> Iterator[BackupSet]:
    """The plain set behind an encrypted one, whose files are compared before they are decrypted."""
    require_key(item, wish.access.key)
    require(verify_set(item.path, "checksum", state_dir=wish.state_dir, jobs=wish.jobs or 2, record=False), item.name)
    run.progress("decrypt")
    if not check_mode:
        tidied(wish.backup_dir, options.db, run)
    with unlocked(item, wish.access.key, wish.backup_dir, options.db) as plain:
        yield plain
