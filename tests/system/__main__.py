"""`make system`: the system packages that tests need, installed where that is allowed; and what could not be tested.

python3 -m tests.system install   install what is absent; a second run installs nothing
python3 -m tests.system list      the packages, one a line
python3 -m tests.system begin     forget what earlier runs could not test
python3 -m tests.system report    what was not tested, why, and how to have it; the exit code says whether that may be
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from tests.system import absences, apt
from tests.system.needs import NEEDS, Need, release, required


def install() -> int:
    """Install what is absent; where that is not allowed, say so. An absence is a failure only where all is required."""
    absent = [need for need in NEEDS if not need.found()]
    here = release()
    why = apt.provide(absent, here) if absent else ""
    still = [need for need in absent if not need.found()]
    for need in still:
        print(f"{need.name} is absent{_reason(need, here, why)}: {need.tests} cannot be tested.", file=sys.stderr)
    return 1 if required() and any(not need.lawful(here) for need in still) else 0


def _reason(need: Need, here: str, why: str) -> str:
    if need.lawful(here):
        return f" (Debian {here} has no package of it)"
    return f" ({why})" if why else ""


def main(words: Sequence[str]) -> int:
    """One word, one job."""
    word = words[0] if words else "install"
    here = release()
    if word == "install":
        return install()
    if word == "list":
        print("\n".join(sorted({package for need in NEEDS for package in need.wanted(here)})))
        return 0
    if word == "begin":
        absences.forget()
        return 0
    if word == "report":
        return absences.report(here)
    print(__doc__)
    return 2


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
