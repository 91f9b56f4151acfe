"""Asking a server which cluster it is a member of."""

from __future__ import annotations

import contextlib
from typing import Any

from ..cluster.membership import membership
from ..connection import Options, connect, job_entry

LOOK_S = 20


@job_entry("Asking for the cluster")
def cluster(options: Options) -> dict[str, Any]:
    """The module's result: `membership`, and a sentence. Changes nothing."""
    conn = connect(options, purpose="cluster", allow_standby=True, statement_timeout_s=LOOK_S)
    with contextlib.closing(conn):
        said = membership(conn, options.db)
    follows = f" that follows {said['follows']}" if said["follows"] else ""
    kind = f"a standby{follows}" if said["standby"] else "the primary"
    return {"changed": False, "msg": f"This is {kind} of cluster {said['system'] or 'unknown'}.", **said}
