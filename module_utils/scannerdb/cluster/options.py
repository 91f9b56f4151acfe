"""What can be asked about a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class ClusterOptions:
    """Tell which cluster a server is a member of: how to reach it is all that is asked."""

    SAYS: ClassVar = {"maintenance_db": ("Not used by this module; the option is here as in all the others.",)}
