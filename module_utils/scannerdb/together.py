"""Asking several places at the same time, so that one that is dead costs no more than the patience for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar, Union

from .errors import ScannerDbError

_Place = TypeVar("_Place")
_Answer = TypeVar("_Answer")


def ask_all(
    places: Sequence[_Place],
    ask: Callable[[_Place], _Answer],
    enough: Callable[[_Answer], bool],
    patience_s: float,
    grace_s: float,
) -> dict[_Place, Union[_Answer, ScannerDbError]]:
    """What each place answers, or why it cannot be asked; one that has not answered in time is left out.

    Once an answer is `enough`, the others have `grace_s` more.
    """
    answers: dict[_Place, Union[_Answer, ScannerDbError]] = {}
    faults: list[BaseException] = []
    news = threading.Condition()

    def put(place: _Place) -> None:
        try:
            answer = _answer_of(ask, place)
        except BaseException as fault:
            with news:
                faults.append(fault)
                news.notify_all()
            return
        with news:
            answers[place] = answer
            news.notify_all()

    for place in places:
        threading.Thread(target=put, args=(place,), daemon=True).start()
    end = time.monotonic() + patience_s
    met = False
    with news:
        while len(answers) < len(places) and time.monotonic() < end:
            if not met and any(not isinstance(a, ScannerDbError) and enough(a) for a in answers.values()):
                met, end = True, min(end, time.monotonic() + grace_s)
            news.wait(max(0.0, end - time.monotonic()))
            if faults:
                raise faults[0]
        return {place: answers[place] for place in places if place in answers}


def _answer_of(ask: Callable[[_Place], _Answer], place: _Place) -> Union[_Answer, ScannerDbError]:
    try:
        return ask(place)
    except ScannerDbError as error:
        return error
