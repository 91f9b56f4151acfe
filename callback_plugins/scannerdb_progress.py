# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show on a terminal how far a job of the bundle is, while it runs on this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
name: scannerdb_progress
type: aggregate
short_description: Show how far the jobs of the scanner database are
version_added: "0.3.0"
description:
  - While a module of the bundle works on this machine (C(ansible_connection=local)), one line on the standard error
    tells its step and how much of it is done, out of C(scannerdb_state_dir/progress).
  - Only where the standard error is a terminal, so that logs of scheduled runs stay as they are.
options:
  show:
    description: Whether it is shown; V(auto) for on a terminal only.
    type: str
    choices: [auto, always, never]
    default: auto
    env:
      - name: SCANNERDB_PROGRESS
"""

import importlib.util
import os
import threading
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible.template import Templar

PREFIX = "scannerdb_"
_SOURCE = importlib.util.spec_from_file_location(  # the package is no part of the controller's path
    "scannerdb_jsontext", Path(__file__).resolve().parents[1] / "module_utils" / "scannerdb" / "jsontext.py"
)
assert _SOURCE and _SOURCE.loader
_jsontext = importlib.util.module_from_spec(_SOURCE)
_SOURCE.loader.exec_module(_jsontext)
EVERY_S = 0.5
CLEAR = "\r\x1b[K"
WIDTH = 78
STEP = {"bytes": 1 << 20}
UNITS = {"bytes": "MiB"}


def line(host: str, status: dict[str, Any]) -> str:
    """A progress file's content as one line."""
    done, total = (value if type(value) in (int, float) else 0 for value in map(status.get, ("done", "total")))
    unit = str(status.get("unit", ""))
    said = f"{host}: {status.get('job', '')}, {status.get('step', '')}"
    amount = f"{done // STEP.get(unit, 1)}"
    if total:
        said += f" {amount} of {total // STEP.get(unit, 1)} {UNITS.get(unit, unit)} ({100 * done // total} %)"
    elif done:
        said += f" {amount} {UNITS.get(unit, unit)}"
    said = "".join(letter if letter.isprintable() else " " for letter in said)  # it may come from anybody's names
    return " ".join(said.split())[:WIDTH]


def newest(folder: Path, since: float) -> dict[str, Any] | None:
    """The progress file that was written last, if that was after `since`; None for none."""
    try:
        path = max(folder.glob("*.json"), key=lambda p: p.stat().st_mtime)
        status = _jsontext.read_json_file(path, _jsontext.LONGEST_CONFIG) if path.stat().st_mtime >= since else None
    except (OSError, ValueError):
        return None
    return status if isinstance(status, dict) else None


class CallbackModule(CallbackBase):
    """Watches the folders of the hosts that are at work. What goes wrong here never disturbs a run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "scannerdb_progress"

    def __init__(self) -> None:
        super().__init__()
        self._watched: dict[str, tuple[Path, float]] = {}
        self._play: Any = None
        self._thread: threading.Thread | None = None

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Remember the play: it knows the hosts' variables."""
        self._play = play

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task begins on a host."""
        show = self.get_option("show")
        if not task.action.startswith(PREFIX) or show == "never" or (show == "auto" and not os.isatty(2)):
            return
        folder = self._folder(host, task)
        if folder:
            self._watched[host.name] = (folder, time.time() - 1)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, daemon=True)
                self._thread.start()

    def _folder(self, host: Any, task: Any) -> Path | None:
        """Where the host's progress lies; None where its jobs do not run on this machine."""
        try:
            variables = self._play.get_variable_manager().get_vars(play=self._play, host=host, task=task)
            if variables.get("ansible_connection") != "local":
                return None
            templar = Templar(loader=self._play.get_loader(), variables=variables)
            state = templar.template(variables["scannerdb_state_dir"])
        except Exception:
            return None
        return Path(str(state), "progress")

    def _watch(self) -> None:
        while self._watched:
            self._show()
            time.sleep(EVERY_S)

    def _show(self) -> None:
        found = [(host, newest(folder, since)) for host, (folder, since) in list(self._watched.items())]
        said = "  ".join(line(host, status) for host, status in found if status)
        if said:
            # Not through Python's streams: a worker that is forked just now must not inherit their locks.
            os.write(2, f"{CLEAR}{said[: 2 * WIDTH]}".encode())

    def _ended(self, result: Any, **_more: Any) -> None:
        """A task has ended on a host: show its last word, and clear the line."""
        host = result.host.name if hasattr(result, "host") else result._host.get_name()
        if host in self._watched:
            self._show()
            del self._watched[host]
            os.write(2, CLEAR.encode())

    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_unreachable = v2_runner_on_skipped = _ended
