"""The machine that measured."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """What it is, which versions, and how busy it was; a load above 0 at the start means that others worked too."""
    return {
        "cpu": _field("/proc/cpuinfo", r"model name\s*:\s*(.+)") or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(int(_field("/proc/meminfo", r"MemTotal:\s*(\d+)") or 0) / 1024**2, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "ansible_core": version("ansible-core"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _field(path: str, pattern: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text(encoding="utf-8"))
    except OSError:
        return ""
    return found.group(1).strip() if found else ""
