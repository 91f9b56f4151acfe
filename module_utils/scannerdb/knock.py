"""Knocking at a server that has refused a connection, to hear its code for that. `connection.py` alone uses this."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from .refusals import refusal_state

TRACE_SINCE = 140000  # from which libpq on a trace names the fields of a message


def state_of_refusal(words: Mapping[str, Any]) -> str:
    """The SQLSTATE with which the server refuses a connection; empty where none answers.

    libpq hands out no more than a text, in the server's language; its trace of the protocol has the code.
    """
    if pq.version() < TRACE_SINCE or not hasattr(os, "memfd_create"):
        return ""
    with contextlib.suppress(psycopg.Error, OSError), os.fdopen(os.memfd_create("scannerdb"), "rb") as trace:
        knocking = pq.PGconn.connect_start(make_conninfo(**words).encode())
        knocking.trace(trace.fileno())
        end = time.monotonic() + float(words["connect_timeout"])
        try:
            while _goes_on(knocking, end):
                pass
        finally:
            knocking.untrace()  # writes out what is buffered
            knocking.finish()
        trace.seek(0)
        return refusal_state(trace.read())
    return ""


def _goes_on(knocking: Any, end: float) -> bool:
    """Take the next step of connecting; False when it has come to its end, or is out of time."""
    event = {
        pq.PollingStatus.READING: select.POLLIN,
        pq.PollingStatus.WRITING: select.POLLOUT,
    }.get(knocking.connect_poll())
    left = end - time.monotonic()
    if event is None or left <= 0:
        return False
    waiting = select.poll()
    waiting.register(knocking.socket, event)
    return bool(waiting.poll(left * 1000))
