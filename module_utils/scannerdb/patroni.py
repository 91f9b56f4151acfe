"""What Patroni's REST API says of a cluster: who leads, who is there, and whether the cluster is paused. Read only."""

from __future__ import annotations

import re
import ssl
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from .errors import ConnectionFailed, InvalidInput, ScannerDbError, quoted
from .jsontext import read_json
from .together import ask_all

TIMEOUT_S = 2.0
MOST_BYTES = 1 << 20
LEADERS = ("leader", "master", "primary", "standby_leader")
WELL = ("running", "streaming")
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_WRITE = "Write http://host:8008."


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
    strange: tuple[PatroniMember, ...] = ()  # members at places that nobody named, which are not asked

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
    members = document.get("members") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise _none("it lists no members")
    found = [_member(one) for one in members]
    return PatroniView(tuple(one for one in found if one), document.get("pause") is True)


def _member(one: Any) -> PatroniMember | None:
    """One of them; None for one that has not said yet where it is."""
    if not isinstance(one, dict) or not all(isinstance(one.get(key), str) for key in ("name", "role", "state")):
        raise _none("a member has no name, role or state")
    host, port, timeline = one.get("host"), one.get("port"), one.get("timeline")
    if host is None and port is None:
        return None
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise _none("a member's host is none")
    if type(port) is not int or not 0 < port < 65536:
        raise _none("a member's port is none")
    return PatroniMember(
        name=one["name"],
        host=host,
        port=port,
        leader=one["role"] in LEADERS,
        well=one["state"] in WELL,
        timeline=timeline if type(timeline) is int else 0,  # or "unknown"
    )


def _none(why: str) -> InvalidInput:
    return InvalidInput(f"That is no answer of Patroni's REST API: {why}.", "Check its host and port.")


def look(urls: Sequence[str], ca_cert: str = "", timeout_s: float = TIMEOUT_S) -> PatroniView:
    """Ask the members' REST APIs, all at once, and take the first answer; raises one of our errors where none comes."""
    for url in urls:
        _refuse_misspelt(url)
    openers = {url: _opener(url, ca_cert) for url in urls}
    # Of a server that sends a byte now and then, no single read ever takes too long: so the whole has an end.
    answers = ask_all(list(urls), lambda url: _asked(url, openers[url], timeout_s), lambda view: True, timeout_s, 0)
    views = [answer for answer in answers.values() if isinstance(answer, PatroniView)]
    if views:
        return views[0]
    errors = {url: answer for url, answer in answers.items() if isinstance(answer, ScannerDbError)}
    said = "; ".join(f"{quoted(url)}: {_why(errors.get(url), timeout_s)}" for url in urls)
    hint = next((error.hint for error in errors.values() if error.hint), "")
    raise ConnectionFailed(
        f"Patroni's REST API does not answer: {said}.",
        hint or "Check scannerdb_patroni_url, and that Patroni runs there.",
    )


def _why(error: ScannerDbError | None, timeout_s: float) -> str:
    return error.message.rstrip(".") if error else f"no answer within {timeout_s:g} s"


def _refuse_misspelt(url: str) -> None:
    try:
        parts = urlsplit(url)
        well = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, half a pair of brackets
        well = parts = None
    if parts and "@" in parts.netloc:
        raise InvalidInput("An address in scannerdb_patroni_url holds a user's name.", f"Leave it out. {_WRITE}")
    if not well or not url.isprintable() or " " in url:
        raise InvalidInput(f"{quoted(url)} is no address of Patroni's REST API.", _WRITE)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Whoever answers must not choose who is asked."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener(url: str, ca_cert: str) -> urllib.request.OpenerDirector:
    # No proxy of the environment's: it would be asked where the primary is.
    handlers: list[Any] = [urllib.request.ProxyHandler({}), _NoRedirect()]
    if url.lower().startswith("https:"):
        try:
            context = ssl.create_default_context(cafile=ca_cert or None)
        except OSError as error:
            raise InvalidInput(
                f"The certificates in {quoted(ca_cert)} cannot be read: {_reason(error)}.",
                "Check scannerdb_login_ca_cert: it counts for Patroni's REST API, too.",
            ) from error
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def _asked(url: str, opener: urllib.request.OpenerDirector, timeout_s: float) -> PatroniView:
    try:
        with opener.open(f"{url.rstrip('/')}/cluster", timeout=timeout_s) as answer:
            data = answer.read(MOST_BYTES + 1)
    except HTTPError as error:
        raise _refused(error) from error
    except HTTPException as error:
        raise ConnectionFailed(
            "what answers there speaks no HTTP", "Check the port, and whether the API speaks TLS: then write https://."
        ) from error
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise _unreached(reason) from error
    try:
        return parse_view(read_json(data[:MOST_BYTES].decode("utf-8")))
    except ValueError as error:
        longer = f" of at most {MOST_BYTES >> 20} MiB" if len(data) > MOST_BYTES else ""
        raise ConnectionFailed(
            f"what it answers is no JSON{longer}, so it is not Patroni's REST API", "Check its host and port."
        ) from error


def _refused(error: HTTPError) -> ConnectionFailed:
    error.close()
    if 300 <= error.code < 400:
        return ConnectionFailed(
            f"it leads elsewhere (HTTP status {error.code}), and is not followed", "Name the API's own address."
        )
    return ConnectionFailed(f"it answers with HTTP status {error.code}", "Look at Patroni's log on that host.")


def _unreached(reason: Any) -> ConnectionFailed:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ConnectionFailed(
            f"its certificate is not trusted ({reason.verify_message})",
            "Set scannerdb_login_ca_cert to the authority that signed it, and name the host as the certificate does.",
        )
    if isinstance(reason, ssl.SSLError):
        return ConnectionFailed(
            "TLS is not agreed on with what answers there", "Where the API speaks none, write http:// in the address."
        )
    return ConnectionFailed(_reason(reason))


def _reason(error: Any) -> str:
    return str(getattr(error, "strerror", None) or error)
