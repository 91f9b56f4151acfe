"""What kind of verification is wanted: the module's options, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InvalidInput
from ..process import checked_workers
from ..sets.fetch import Access, access_from
from ..sets.names import checked_folder
from ..sets.signing import Trust
from ..sets.verification_log import PLACES, PROOFS
from .options import DrillOptions


@dataclass(frozen=True)
class DrillRequest:
    """The module's options. `source` is `latest`, a set's name, a path, a time, or a copy elsewhere."""

    backup_dir: Path
    source: str = DrillOptions.source
    level: str = DrillOptions.level
    place: str = DrillOptions.place
    cluster_dir: Path = Path(DrillOptions.cluster_dir)
    jobs: int = 0
    nice: int = 0
    amcheck: bool = False
    state_dir: str = ""
    access: Access = field(default_factory=Access)
    trust: Trust = field(default_factory=Trust)


def drill_request_from(asked: DrillOptions) -> DrillRequest:
    """What is wanted, out of the options. Raises `InvalidInput`."""
    request = DrillRequest(
        backup_dir=checked_folder(asked.backup_dir),
        source=asked.source,
        level=asked.level,
        place=asked.place,
        cluster_dir=Path(asked.cluster_dir),
        jobs=asked.jobs,
        nice=asked.nice,
        amcheck=asked.amcheck,
        state_dir=asked.state_dir,
        access=access_from(asked, asked),
        trust=Trust(asked.state_dir, tuple(asked.trusted_signers)).checked(),
    )
    for name, value, choices in (("level", request.level, PROOFS), ("place", request.place, PLACES)):
        if value not in choices:
            raise InvalidInput(f"{name} is {value!r}.", f"Choose one of {', '.join(choices)}.")
    if not request.cluster_dir.is_absolute():
        raise InvalidInput(
            f"cluster_dir is {asked.cluster_dir!r}.", "Give an absolute path in scannerdb_verify_cluster_dir."
        )
    checked_workers(request.jobs, request.nice)
    return request
