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
def at_hand(options: Options, request: RestoreRequest, run: Run, check_mode: bool) -> Iterator[RestoreRequest]:
    """The request with a source that lies here in the clear, for the block.

    A copy from elsewhere and what is decrypted lie in hidden folders of the backup folder, which are gone afterwards;
    in check mode too, since only they tell what a restore would meet. What killed runs left stays in check mode.
    """
    with contextlib.ExitStack() as stack:
        if check_mode:
            stack.enter_context(_as_it_was(request.backup_dir))
        if request.source.startswith(OFFSITE):
            copy = find_copy(request.source, request.access.offsite, options.db)
            if not check_mode:
                tidied(request.backup_dir, options.db, run)
            path = stack.enter_context(fetched(copy, request.access, request.backup_dir, options.db, run))
            request = replace(request, source=str(path), told=request.access.offsite.at(path.name))
        path = find_backup(request.backup_dir, request.source, options.db)
        if is_set(path):
            stack.enter_context(in_use(path))
            kept = stack.enter_context(held(path))
            item = load_held(kept.path, load_set(path, request.trust))
            origin = require_known(item, request.trust)
            if origin.sentence:
                run.log(origin.sentence)
            request = replace(request, told=request.told or str(path), kept=kept)
            if item.manifest.encryption:
                plain = stack.enter_context(_opened(item, options, request, run, check_mode))
                kept = stack.enter_context(held(plain.path))
                item = load_held(kept.path, plain)
            yield _held(request, kept, item, stack)
            return
        if request.source in ("latest", LATEST) or parse_moment(request.source):  # nobody has named this very file
            require_spelled(path, request.trust)
        kept = stack.enter_context(held(path))
        request = replace(request, told=request.told or str(path))
        yield replace(request, kept=kept, dump=stack.enter_context(private_dump(kept, "")))


def _held(request: RestoreRequest, kept: HeldSet, item: BackupSet, stack: contextlib.ExitStack) -> RestoreRequest:
    """The request with its set held open, whose table of contents nobody can change any more."""
    recorded = {record.path: record.sha256 for record in item.manifest.files}
    dump = stack.enter_context(private_dump(kept, item.manifest.dump_path, recorded))
    return replace(request, kept=kept, dump=dump, judged=item.manifest_sha256)


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
def _opened(
    item: BackupSet, options: Options, request: RestoreRequest, run: Run, check_mode: bool
) -> Iterator[BackupSet]:
    """The plain set behind an encrypted one, whose files are compared before they are decrypted."""
    require_key(item, request.access.key)
    require(
        verify_set(item.path, "checksum", state_dir=request.state_dir, jobs=request.jobs or 2, record=False), item.name
    )
    run.progress("decrypt")
    if not check_mode:
        tidied(request.backup_dir, options.db, run)
    with unlocked(item, request.access.key, request.backup_dir, options.db) as plain:
        yield plain
