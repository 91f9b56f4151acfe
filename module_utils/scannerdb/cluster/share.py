"""Which member of a cluster works, where each of them is an inventory host. Pure.

The controller loads this file by itself, for a filter: it imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

MIB = 1 << 20
Said = Mapping[str, Any]  # of each host what its server said (`membership`); empty where it could not be asked
Places = Mapping[str, "tuple[Sequence[str], int | None]"]  # how each host can be reached, and its server's port
Spellings = Callable[[str], "frozenset[str]"]  # how else a host may be written


def share(
    me: str, answers: Mapping[str, Said], places: Places, request: Mapping[str, Any], spellings: Spellings
) -> dict[str, Any]:
    """Whom `me` leaves the work to (`left_to`, empty for nobody), `why`, and whether it is a `member` of a cluster.

    `answers` are of the hosts of this run, `places` are of all hosts of the group: those that a limit or another slice
    has are known by whom a server follows. Of many hosts few places are looked at: each look is dear. `request` has
    `job`, `dump_from`, `max_lag_mb`, `gives_way`.
    """
    mine = answers.get(me) or {}
    peers = {host: one for host, one in answers.items() if one.get("key") and one["key"] == mine.get("key")}
    peers = peers or {me: mine}
    several = len(peers) > 1 or request["gives_way"]
    if not several and request["job"] == "schedule":  # which runs on without the others
        several = bool(_neighbours(mine, [host for host in places if host != me], places, spellings))
    said: dict[str, Any] = {"left_to": "", "why": "", "member": bool(several)}
    elsewhere = [host for host in places if host not in answers]
    if elsewhere and all(one.get("standby") for one in peers.values()):
        outside = [host for one in peers.values() for host in _followed(one, elsewhere, places, spellings)]
        if outside:
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


def _followed(one: Said, hosts: Sequence[str], places: Places, spellings: Spellings) -> list[str]:
    """Those of the hosts that a streaming member follows just now."""
    host, _, port = (one.get("follows") or "").rpartition(" port ")
    return _at(host, int(port), hosts, places, spellings) if one.get("streaming") and host else []


def _neighbours(one: Said, hosts: Sequence[str], places: Places, spellings: Spellings) -> list[str]:
    """Those of the hosts that it follows, or that follow it."""
    followers = [host for address in one.get("followers", ()) for host in _at(address, None, hosts, places, spellings)]
    return _followed(one, hosts, places, spellings) + followers


def _at(host: str, port: int | None, hosts: Sequence[str], places: Places, spellings: Spellings) -> list[str]:
    wanted, found = spellings(host), []
    for name in hosts:
        names, its_port = places[name]
        if (port is None or its_port in (None, port)) and any(not wanted.isdisjoint(spellings(one)) for one in names):
            found.append(name)
    return found
