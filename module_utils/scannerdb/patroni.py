"""What Patroni's REST API says of a cluster: who leads, who is there, and whether the cluster is paused. Read only."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from .errors import ConnectionFailed, InvalidInput, quoted
from .jsontext import read_json
from .together import ask_all

TIMEOUT_S = 2.0
MOST_BYTES = 1 << 20
LEADERS = ("leader", "master", "primary", "standby_leader")
WELL = ("running", "streaming")


@dataclass(frozen=True)
class PatroniMember:
    """One member as Patroni sees it."""

    name: str
    host: str
    port: int
    leader: bool = False
    well: bool = True
    timeline: int = 0

    @property
    def place(self) -> tuple[str, int]:
        """Where it is."""
        return self.host, self.port


@dataclass(frozen=True)
class PatroniView:
    """A cluster as Patroni sees it."""

    members: tuple[PatroniMember, ...] = ()
    paused: bool = False

    @property
    def leader(self) -> PatroniMember | None:
        """Who leads, if anybody does."""
        return next((member for member in self.members if member.leader), None)

    @property
    def standbys(self) -> int:
        """How many members follow and are well."""
        return sum(member.well and not member.leader for member in self.members)


def parse_view(document: Any) -> PatroniView:
    """The answer to `GET /cluster`; raises `InvalidInput` where it is none. Pure."""
    try:
        return PatroniView(tuple(map(_member, document["members"])), bool(document.get("pause")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"That is no answer of Patroni's REST API ({type(error).__name__}).") from error


def _member(one: Mapping[str, Any]) -> PatroniMember:
    timeline = one.get("timeline")
    return PatroniMember(
        name=str(one["name"]),
        host=str(one["host"]),
        port=int(one["port"]),
        leader=one["role"] in LEADERS,
        well=one["state"] in WELL,
        timeline=timeline if isinstance(timeline, int) else 0,  # or "unknown"
    )


def look(urls: Sequence[str], ca_cert: str = "") -> PatroniView:
    """Ask the members' REST APIs, all at once, and take the first answer; raises one of our errors where none comes."""
    answers = ask_all(list(urls), lambda url: _asked(url, ca_cert), lambda view: True, TIMEOUT_S + 0.5, 0)
    views = [answer for answer in answers.values() if isinstance(answer, PatroniView)]
    if views:
        return views[0]
    said = "; ".join(f"{quoted(url)}: {answers.get(url) or 'no answer'}".rstrip(".") for url in urls)
    raise ConnectionFailed(
        f"Patroni's REST API does not answer: {said}.", "Check scannerdb_patroni_url, and that Patroni runs there."
    )


def _asked(url: str, ca_cert: str) -> PatroniView:
    if urlsplit(url).scheme not in ("http", "https"):
        raise InvalidInput(f"{quoted(url)} is no address of Patroni's REST API.", "Write http://host:8008.")
    context = ssl.create_default_context(cafile=ca_cert or None) if url.startswith("https") else None
    # No proxy of the environment's: it would be asked where the primary is.
    handlers = [urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=context)] if context else [])]
    try:
        with urllib.request.build_opener(*handlers).open(f"{url.rstrip('/')}/cluster", timeout=TIMEOUT_S) as answer:
            return parse_view(read_json(answer.read(MOST_BYTES).decode("utf-8")))
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise ConnectionFailed(str(getattr(reason, "strerror", None) or reason)) from error
