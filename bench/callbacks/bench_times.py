"""Ansible callback of the bench: how long each task took, in order, as JSON lines in $BENCH_TASKS."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase  # type: ignore[import-untyped]

DOCUMENTATION = """
name: bench_times
type: aggregate
short_description: How long each task took
description: [Writes the tasks and their seconds to the file named by BENCH_TASKS.]
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Notes when tasks start; a task lasts until the next one starts, or the run ends."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "bench_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.task: tuple[str, str, float] | None = None

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins."""
        self._end()
        self.task = (task.get_name().strip(), task.action, time.perf_counter())

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run is over."""
        self._end()

    def _end(self) -> None:
        if self.task is not None:
            name, action, started = self.task
            line = {"task": name, "action": action, "seconds": time.perf_counter() - started}
            with open(os.environ["BENCH_TASKS"], "a", encoding="utf-8") as file:  # noqa: PTH123 - as Ansible's own do
                file.write(json.dumps(line) + "\n")
            self.task = None
