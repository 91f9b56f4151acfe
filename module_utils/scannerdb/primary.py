"""Which member of a cluster a run works on, and whether that member is the primary still.

A run asks the members once and keeps to the one that it chose: sessions and tools of one run never split over two
servers. Every later session must find that server as it was, a primary of the same timeline; where it does not, the run
ends in one sentence, or begins again where it can. A write is fenced as well: members and Patroni are asked again in
the transaction that writes, for a server that was replaced does not know it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional, TypeVar
from urllib.parse import urlsplit

from .addresses import addresses_of, is_among
from .errors import (
    AuthenticationFailed,
    BackupInvalid,
    ConnectionFailed,
    DatabaseMissing,
    FixRefused,
    InvalidInput,
    JobLocked,
    PrimaryMoved,
    PrimaryUnseen,
    PrivilegeMissing,
    ScannerDbError,
    ServerUnsupported,
    UnsafeCode,
)
from .fence import Fence, Witness
from .login import Options
from .memberstate import MemberState, primaries_of
from .patroni import PatroniMember, PatroniView, look
from .together import ask_all

PATIENCE_S = 5.0  # for members that do not answer, where no primary has
GRACE_S = 0.3  # for the others, once a primary has
NEW_PRIMARY_S = 30.0  # how long a new primary is waited for
TWO_S = 3.0  # how long two of them may be there, while one is on its way down
LOOK_S = 0.2
ROUNDS = 3  # how often a run that can begin again does
# Errors that have nothing to do with where the primary is.
OWN = (AuthenticationFailed, BackupInvalid, FixRefused, InvalidInput, JobLocked, PrivilegeMissing, UnsafeCode)
_Result = TypeVar("_Result")


class TwoPrimaries(ServerUnsupported):
    """More than one server takes writes: which of them counts, only people know."""


Ask = Callable[[Options], MemberState]
Answers = dict[Options, Any]  # of each server its MemberState, or the error


def places(options: Options) -> tuple[tuple[Options, ...], Optional[PatroniView]]:
    """The servers that `options` name, with Patroni's view where it is asked.

    Patroni says where members are, and people say where they may be: nobody else is given a password.
    """
    if not options.patroni_urls:
        return options.servers, None
    try:
        view = look(options.patroni_urls, options.ca_cert)
    except ConnectionFailed:
        if len(options.servers) > 1:  # they can be asked without it
            return options.servers, None
        raise
    for member in view.members:  # looked up now, and not in the middle of a transaction
        addresses_of(member.host)
    named = [*(one.host for one in options.servers if one.host), *options.patroni_members]
    named += [urlsplit(url).hostname or "" for url in options.patroni_urls]
    strange = tuple(one for one in view.members if not is_among(one.host, named))
    if strange and (view.leader in strange or len(strange) == len(view.members)):
        raise _at_no_named_place(view.leader or strange[0])
    return tuple(options.at(*one.place) for one in view.members if one not in strange), replace(view, strange=strange)


def _at_no_named_place(member: PatroniMember) -> ConnectionFailed:
    kind = "leader" if member.leader else "member"
    return ConnectionFailed(
        f"The primary could not be looked for, because Patroni's {kind} is on {member.host} port {member.port}, which "
        "nobody named: it is not asked, and no password goes there.",
        "If that is right, add it to scannerdb_patroni_members (names, addresses or networks).",
    )


def choose(answers: Answers, asked: Sequence[Options], view: Optional[PatroniView], standby_ok: bool) -> MemberState:
    """The primary; with `standby_ok` a standby where none answers. Pure.

    Raises one of our errors, which says which servers answered and what they said.
    """
    seen = [answer for answer in answers.values() if isinstance(answer, MemberState)]
    primaries = primaries_of(seen, view)
    if len(primaries) > 1:
        raise TwoPrimaries(
            f"Two servers both say that they are the primary: {'; '.join(one.words for one in primaries)}.",
            "Find out which one is, and stop the other, before anything writes to both.",
        )
    if primaries:
        return primaries[0]
    if seen and standby_ok:
        return seen[0]
    # What every server would say, such as a wrong password, is said as it is.
    errors = [answer for answer in answers.values() if isinstance(answer, ScannerDbError)]
    telling = [error for error in errors if isinstance(error, (*OWN, DatabaseMissing))]
    if telling and not seen:
        raise telling[0]
    kind = ServerUnsupported if seen else ConnectionFailed
    raise kind(
        f"None of the servers {', '.join(one.server for one in asked)} is a primary that can be reached: "
        f"{said_by(answers, asked)}{_led(view)}.",
        "Start or promote one, or correct scannerdb_login_host.",
    )


def said_by(answers: Answers, asked: Sequence[Options]) -> str:
    """Which servers answered, and what they said. Pure."""
    words = []
    for one in asked:
        answer = answers.get(one)
        if isinstance(answer, MemberState):
            words.append(answer.words)
        else:
            why = answer.message.rstrip(".") if answer else f"the server on {one.server} does not answer"
            words.append(why[0].lower() + why[1:])
    return "; ".join(words)


def _led(view: Optional[PatroniView]) -> str:
    if view is None:
        return ""
    leader = view.leader
    strange = "".join(f"; {one.host} port {one.port} is not asked: nobody named it" for one in view.strange)
    paused = ", and is paused: no other member takes over" if view.paused else ""
    return (
        (f"; Patroni's leader is {leader.host} port {leader.port}" if leader else "; Patroni has no leader")
        + paused
        + strange
    )


@dataclass
class Pin:
    """The member that a run keeps to, as it was when it was chosen."""

    wanted: Options
    member: Options
    state: Optional[MemberState] = None
    others: tuple[Options, ...] = ()
    fence: Optional[Fence] = None

    @property
    def clustered(self) -> bool:
        """Whether another server may take its place."""
        several = len(self.wanted.servers) > 1 or bool(self.wanted.patroni_urls)
        return several or bool(self.state and self.state.followed)


@dataclass
class Scope:
    """The members that the run of one job keeps to, by what was asked for."""

    pins: dict[Options, Pin] = field(default_factory=dict)
    turn: threading.RLock = field(default_factory=threading.RLock)  # its threads choose one after the other

    @property
    def written(self) -> Optional[Pin]:
        """The pin of the primary, which is the one that may move; None where none was found."""
        with self.turn:
            return next((pin for pin in self.pins.values() if pin.state and not pin.state.standby), None)

    def pin_of(self, member: Options) -> Optional[Pin]:
        """The pin of a member."""
        with self.turn:
            return next((pin for pin in self.pins.values() if _key(pin.member) == _key(member)), None)

    def clear(self) -> None:
        """Forget the members: they are chosen anew."""
        with self.turn:
            for pin in self.pins.values():
                if pin.fence:
                    pin.fence.close()
            self.pins.clear()


_scopes: list[Scope] = []  # the job's that runs now; what it calls in threads has the same


def member_of(options: Options, ask: Ask, standby_ok: bool) -> Options:
    """The one server to connect to: that of the run, else the one that answers as the primary now."""
    if len(options.servers) == 1 and not options.patroni_urls:
        return options.servers[0]
    if not _scopes:
        return _place_of(options, choose(*_asked(options, ask), standby_ok).options)
    scope = _scopes[-1]
    with scope.turn:
        pin = scope.pins.get(_key(options))
        if pin and (standby_ok or not pin.state or not pin.state.standby):
            return _place_of(options, pin.member)
        answers, asked, view = _asked(options, ask)
        chosen = choose(answers, asked, view, standby_ok)
        scope.pins[_key(options)] = Pin(options, chosen.options, chosen, asked)
    return _place_of(options, chosen.options)


def _place_of(options: Options, member: Options) -> Options:
    return options.at(member.host, member.port)


def _asked(options: Options, ask: Ask) -> tuple[Answers, tuple[Options, ...], Optional[PatroniView]]:
    asked, view = places(options)
    answers = ask_all(asked, ask, lambda state: not state.standby, PATIENCE_S, GRACE_S)
    return answers, asked, view


def fence_of(member: Options, reach: Callable[[Options], Any], state: Callable[[Any, Options], Any]) -> Optional[Fence]:
    """The fence of the run's primary, one for all its sessions; None where no other server can be asked."""
    scope = _scopes[-1] if _scopes else None
    pin = scope.pin_of(member) if scope else None
    several = pin and (len(pin.wanted.servers) > 1 or pin.wanted.patroni_urls)
    if scope is None or pin is None or pin.state is None or not several:
        return None
    with scope.turn:
        if pin.fence is None:
            others = {one: Witness(one, reach, state) for one in pin.others if _key(one) != _key(member)}
            pin.fence = Fence(replace(pin.state, options=member), others, pin.wanted.patroni_urls)
        return pin.fence


def _key(options: Options) -> Options:
    """One server for all databases and roles. Pure."""
    return Options(
        host=options.host, port=options.port, unix_socket=options.unix_socket, patroni_urls=options.patroni_urls
    )


def ensure_same(options: Options, found: MemberState) -> None:
    """Remember the server that a session of the run met, or raise `PrimaryMoved` where it is not what it was."""
    if not _scopes:
        return
    scope = _scopes[-1]
    with scope.turn:
        pin = scope.pin_of(options) or scope.pins.setdefault(_key(options), Pin(options, options))
        before = pin.state
        if before is None or before.standby:
            pin.state, pin.member = found, options
            return
    if found.standby or found.timeline != before.timeline:
        raise PrimaryMoved(f"The server on {before.options.server} is not the primary that it was: {found.words}.")


@contextlib.contextmanager
def keeping(doing: str, ask: Ask) -> Iterator[None]:
    """The run of a job: it keeps to one member, and an error because that was replaced names the old and the new."""
    if _scopes:  # a job within a job
        yield
        return
    _scopes.append(Scope())
    try:
        yield
    except ScannerDbError as error:
        moved = None if isinstance(error, PrimaryReplaced) else _moved(error, ask)
        if moved is None:
            raise
        raise _sentence(doing, moved, error) from error
    finally:
        _scopes.pop().clear()


class PrimaryReplaced(PrimaryMoved):
    """The one sentence that names the old primary and the new one."""


def _sentence(doing: str, moved: str, error: ScannerDbError) -> PrimaryReplaced:
    said = PrimaryReplaced(f"{doing} ended, because {moved}.", "Run it again: what was committed stays.")
    if error.done:
        said.done = {**error.done, "msg": f"{said} Before that: {error.done.get('msg', '')}"}
    return said


def going_on(doing: str, ask: Ask, work: Callable[[], _Result], note: Callable[[str], object]) -> _Result:
    """Do `work`, and again on the new primary where the old one was replaced meanwhile; `note` is told of it."""
    for left in reversed(range(ROUNDS)):
        try:
            return work()
        except ScannerDbError as error:
            moved = _moved(error, ask)
            if moved is None and left and isinstance(error, PrimaryUnseen):
                moved = "it could not be seen whether the primary is still that"
            elif moved is None:
                raise
            if not left or _NONE in moved or _TWO in moved:
                raise _sentence(doing, moved, error) from error
            note(f"{doing} begins again, because {moved}.")
            _scopes[-1].clear()
    raise AssertionError("the last round returns or raises")


_NONE = "no new primary answered"
_TWO = "two servers say that they are the primary"


def _moved(error: ScannerDbError, ask: Ask) -> Optional[str]:
    """Where the run's primary went, as a clause; None where it is what it was, and so not what the error is about."""
    pin = _scopes[-1].written if _scopes else None
    if pin is None or pin.state is None or isinstance(error, OWN):
        return None
    old = f"{pin.member.server} (timeline {pin.state.timeline})"
    end = time.monotonic() + NEW_PRIMARY_S
    two_end = time.monotonic() + TWO_S
    last = ""
    while True:
        try:
            answers, asked, view = _asked(pin.wanted, ask)
            last = said_by(answers, asked) + _led(view)
            undecided = view is not None and view.leader is None  # by Patroni
            now = None if undecided else choose(answers, asked, view, standby_ok=False)
        except TwoPrimaries:
            now = None
            if time.monotonic() > two_end:
                return f"the primary was {old} and {_TWO} now ({last}): stop the one that was replaced"
        except ScannerDbError as refusal:
            now, last = None, last or refusal.message.rstrip(".")
        if now:
            if now.timeline == pin.state.timeline and now.is_same_as(pin.state):
                return None
            return f"the primary was {old} and is {now.options.server} (timeline {now.timeline}) now"
        if not pin.clustered:
            return None
        if time.monotonic() > end:
            return f"the primary was {old} and {_NONE} within {NEW_PRIMARY_S:g} s ({last})"
        time.sleep(LOOK_S)
