"""What requirements.txt wants on another Python: pip judges its conditions by the Python that pip itself runs on.

python3 -m demo.wheelhouse 3.12     prints the requirements, one a line, for a host with Python 3.12
"""

from __future__ import annotations

import sys
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

FILE = Path(__file__).resolve().parents[1] / "requirements.txt"


def wanted(text: str, version: str) -> list[str]:
    """The requirements in a file that hold for that version of Python, without their conditions. Pure."""
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].strip()
        if not words:
            continue
        requirement = Requirement(words)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": version}):
            requirement.marker = None
            found.append(str(requirement))
    return found


if __name__ == "__main__":
    print("\n".join(wanted(FILE.read_text(encoding="utf-8"), sys.argv[1])))
