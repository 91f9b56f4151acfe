"""One job in a process of its own, as a module runs it, so that its memory is its own: `python -m bench.job JSON`."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from scannerdb.connection import Options


def arguments(job: str, folder: str) -> dict[str, Any]:
    """The keywords of each job, all else by default."""
    if job == "backup":
        from scannerdb.backup.options import BackupOptions  # noqa: PLC0415 - only this job's process needs it

        return {"told": BackupOptions(backup_dir=f"{folder}/backups", jobs=2)}
    if job == "fix":
        from scannerdb.jobs.fix import Safety  # noqa: PLC0415 - likewise

        return {"safety": Safety(require_backup=False)}
    if job == "check":
        from scannerdb.checks.options import CheckOptions  # noqa: PLC0415 - likewise

        return {"asked": CheckOptions(report_dir=f"{folder}/reports")}
    return {}


def main() -> None:
    """Run it and print its seconds, the start of Python not included, and the peak of its memory in MB."""
    asked = json.loads(sys.argv[1])
    work = getattr(importlib.import_module(f"scannerdb.jobs.{asked['job']}"), asked["job"])
    keywords = arguments(asked["job"], asked["folder"])
    started = time.perf_counter()
    result = work(Options(**asked["options"]), **keywords)
    if result.get("failures"):
        raise RuntimeError(result["msg"])
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(), "msg": result["msg"]}))


def peak_mb() -> float:
    """The peak of this program's own memory; what wait4 tells holds that of whoever started it, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) / 1024


if __name__ == "__main__":
    main()
