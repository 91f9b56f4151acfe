"""What kind of verification is wanted: the module's options, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..process import checked_workers
from ..sets.fetch import Access, access_from
from ..sets.names import checked_folder
from ..sets.signing import Trust
from ..sets.verification_log import CLUSTER_DIR, PLACES
from .options import LEVELS


@dataclass(frozen=True)
class DrillRequest:
    """The module's options. `source` is `latest`, a set's name, a path, a time, or a copy elsewhere."""

    backup_dir: Path
    source: str = "latest"
    level: str = "restore"
    place: str = "server"
    cluster_dir: Path = Path(CLUSTER_DIR)
    jobs: int = 0
    nice: int = 0
    amcheck: bool = False
    state_dir: str = ""
    access: Access = field(default_factory=Access)
    trust: Trust = field(default_factory=Trust)


def drill_request_from(
    *,
    backup_dir: str,
    cluster_dir: str = CLUSTER_DIR,
    identity: str = "",
    identity_key: str = "",
    offsite_remote: str = "",
    offsite_config: str = "",
    offsite_bandwidth: str = "",
    state_dir: str = "",
    trusted_signers: Sequence[str] = (),
    **plain: Any,
) -> DrillRequest:
    """The wish out of the module's options; those in `plain` are fields of its own. Raises `InvalidInput`."""
    wish = DrillRequest(
        backup_dir=checked_folder(backup_dir),
        cluster_dir=Path(cluster_dir),
        access=access_from(identity, identity_key, offsite_remote, offsite_config, offsite_bandwidth),
        state_dir=state_dir,
        trust=Trust(state_dir, tuple(trusted_signers)).checked(),
        **plain,
    )
    for name, value, choices in (("level", wish.level, LEVELS), ("place", wish.place, PLACES)):
        if value not in choices:
            raise InvalidInput(f"{name} is {value!r}.", f"Choose one of {', '.join(choices)}.")
    if not wish.cluster_dir.is_absolute():
        raise InvalidInput(f"cluster_dir is {cluster_dir!r}.", "Give an absolute path in scannerdb_verify_cluster_dir.")
    checked_workers(wish.jobs, wish.nice)
    return wish
