"""Which member of a cluster works, where each of them is an inventory host. Pure.

The controller loads this file by itself, for a filter: it imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

MIB = 1 << 20
Said = Mapping[str, Any]  # of each host what its server said (`membership`); empty where it could not be asked
Spellings = Callable[[str], "frozenset[str]"]  # how else a host may be written


def share(
    me: str,
    answers: Mapping[str, Said],
    places: Mapping[str, tuple[Sequence[str], int | None]],
    request: Mapping[str, Any],
    spellings: Spellings,
) -> dict[str, Any]:
    """Whom `me` leaves the work to (`left_to`, empty for nobody), `why`, and whether it is a `member` of a cluster.

    `answers` are of the hosts of this run, `places` how all hosts of the group can be reached: those that a limit or
    another slice has are known by whom a server follows. `request` has `job`, `dump_from`, `max_lag_mb`, `gives_way`.
    """
    mine = answers.get(me) or {}
    peers = {host: one for host, one in answers.items() if one.get("key") and one["key"] == mine.get("key")}
    peers = peers or {me: mine}
    near = _neighbours(me, mine, places, spellings)
    said: dict[str, Any] = {"left_to": "", "why": "", "member": bool(len(peers) > 1 or near or request["gives_way"])}
    outside = [host for host in _followed(peers, places, spellings) if host not in answers]
    if outside and all(one.get("standby") for one in peers.values()):
        return {**said, "left_to": outside[0], "why": f"{outside[0]}, which it follows, is not in this run"}
    if len(peers) > 1:
        workers, why = _workers(peers, request)
        return {**said, "left_to": "" if me in workers else workers[0], "why": why}
    if request["gives_way"] and mine.get("streaming"):
        return {**said, "left_to": mine.get("follows") or "its primary", "why": "the primary's own run works"}
    return said


def _workers(peers: Mapping[str, Said], request: Mapping[str, Any]) -> tuple[list[str], str]:
    """Who works, of several members, and why. Two primaries of one identifier are no cluster: each works."""
    primaries = sorted(host for host, one in peers.items() if not one["standby"])
    standbys = sorted((host for host, one in peers.items() if one["standby"]), key=lambda h: (-peers[h]["position"], h))
    if len(primaries) > 1:
        return primaries, "there are several primaries"
    head = peers[primaries[0]]["position"] if primaries else None
    if request["job"] != "backup" or request["dump_from"] != "standby" or not standbys:
        return (primaries or standbys[:1]), "" if primaries else "no primary answered"
    behind = {host: _behind(peers[host], head) for host in standbys}
    fit = [host for host in standbys if behind[host] <= int(request["max_lag_mb"]) * MIB]
    if fit:
        return fit[:1], "the dump is wanted from a standby"
    lag = ", ".join(f"{host} is {behind[host] // MIB} MiB behind" for host in standbys)
    return (primaries or standbys[:1]), f"no standby keeps up: {lag}"


def _behind(standby: Said, head: int | None) -> int:
    """How many bytes it has still to replay; without a primary, of what it has received."""
    return max(0, int(standby["behind_bytes"] if head is None else head - standby["position"]))


def _followed(
    peers: Mapping[str, Said], places: Mapping[str, tuple[Sequence[str], int | None]], spellings: Spellings
) -> list[str]:
    """The hosts of the group that a streaming member follows just now."""
    found: list[str] = []
    for me, one in sorted(peers.items()):
        host, _, port = (one.get("follows") or "").rpartition(" port ")
        if one.get("streaming") and host:
            found += _at(host, int(port), me, places, spellings)
    return found


def _neighbours(
    me: str, mine: Said, places: Mapping[str, tuple[Sequence[str], int | None]], spellings: Spellings
) -> list[str]:
    """The hosts of the group that it follows, or that follow it."""
    followers = [host for address in mine.get("followers", ()) for host in _at(address, None, me, places, spellings)]
    return _followed({me: mine}, places, spellings) + followers


def _at(
    host: str,
    port: int | None,
    me: str,
    places: Mapping[str, tuple[Sequence[str], int | None]],
    spellings: Spellings,
) -> list[str]:
    wanted = spellings(host)
    return [
        name
        for name, (hosts, its_port) in places.items()
        if name != me and (port is None or its_port in (None, port)) and not wanted.isdisjoint(_all(hosts, spellings))
    ]


def _all(hosts: Iterable[str], spellings: Spellings) -> frozenset[str]:
    return frozenset().union(*map(spellings, hosts))
