"""Asking a server which cluster it is a member of."""

from __future__ import annotations

import contextlib
from typing import Any

from ..cluster.membership import membership
from ..connection import Options, connect, job_entry
from ..patroni import look

LOOK_S = 20
PAUSED = " Patroni is paused: no other member takes over."


@job_entry("Asking for the cluster")
def cluster(options: Options) -> dict[str, Any]:
    """The module's result: `membership`, and a sentence. Changes nothing."""
    conn = connect(options, purpose="cluster", allow_standby=True, statement_timeout_s=LOOK_S)
    with contextlib.closing(conn):
        said = membership(conn, options.db)
    follows = f" that follows {said['follows']}" if said["follows"] else ""
    kind = f"a standby{follows}" if said["standby"] else "the primary"
    paused = bool(options.patroni_urls) and look(options.patroni_urls, options.ca_cert).paused
    told = f"This is {kind} of cluster {said['system'] or 'unknown'}.{PAUSED if paused else ''}"
    return {"changed": False, "msg": told, **said, "paused": paused}
