"""What physical backups there are, what can be restored, and what is wrong with them. Reads only, and never fails."""

from __future__ import annotations

from typing import Any

from ..connection import Options
from ..physical.judge import PhysicalLimits
from ..physical.options import PhysicalInfoOptions
from ..physical.request import stanza_from
from .physical_state import look_from, public_state


def physical_info(options: Options, asked: PhysicalInfoOptions) -> dict[str, Any]:
    """Look at the physical backups of the cluster; returns the module's result.

    What could not be looked at is in `why`: another job, which is given the result, says it.
    """
    stanza = stanza_from(asked)
    if not stanza.wanted:
        return {"changed": False, "msg": "No physical backups are made here.", "physical": {}}
    limits = PhysicalLimits(asked.backup_max_age_h, float(asked.archive_max_age_s))
    seen = public_state(look_from(options, stanza, limits), stanza.name)
    said = seen["why"] or seen["window"].get("sentence") or "Nothing can be restored."
    return {"changed": False, "msg": said, "physical": seen}
