"""Which names and addresses are one machine, and which machines somebody named: before a password goes to one."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any


@functools.lru_cache(maxsize=256)
def addresses_of(host: str) -> frozenset[str]:
    """How a host may be written: its name in lower case, and its addresses as far as the name service knows them."""
    name = _plain(host)
    if not name or name.startswith("/"):  # a socket's folder
        return frozenset({host})
    with contextlib.suppress(OSError, UnicodeError):
        return frozenset({name, *(str(info[4][0]) for info in socket.getaddrinfo(name, None))})
    return frozenset({name})


def one_place(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two places, each a host and a port, are one, however they are written."""
    return one[1] == other[1] and (one[0] == other[0] or not addresses_of(one[0]).isdisjoint(addresses_of(other[0])))


def nobody_listens(host: str, port: int, timeout_s: float = 0.5) -> bool:
    """Whether it is known that no server takes connections there: its machine says so. Silence says nothing."""
    socket_file = f"{host or '/tmp'}/.s.PGSQL.{port}"  # noqa: S108 - libpq's own default
    places: list[tuple[int, Any]] = [(socket.AF_UNIX, socket_file)]
    try:
        if host and not host.startswith("/"):
            places = [(one[0], one[4]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        return all(_is_refused(family, place, timeout_s) for family, place in places)
    except (OSError, UnicodeError):
        return False


def _is_refused(family: int, place: Any, timeout_s: float) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as knocking:
        knocking.settimeout(timeout_s)
        try:
            knocking.connect(place)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
    return False


def is_among(host: str, known: Sequence[str]) -> bool:
    """Whether `host` is one of those that are `known`, which are names, addresses and networks.

    An address counts where a known name leads to it. A name counts only as it is written there: where another name
    leads is for those to say who keep it.
    """
    if any(_plain(host) == _plain(one) for one in known):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(_covers(one, address) for one in known)


def _covers(known: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(known.strip(), strict=False)
    except ValueError:
        return str(address) in addresses_of(known)


def _plain(host: str) -> str:
    return host.strip().rstrip(".").lower()
