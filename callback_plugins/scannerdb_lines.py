# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible's output for people: a line for each step, each error once, and no dumps of results."""

from __future__ import annotations

DOCUMENTATION = r"""
name: scannerdb_lines
type: stdout
short_description: A line for each step, each error once
version_added: "0.3.0"
description:
  - One line for each step with its result and its time; what the bundle's jobs say, as they say it; each error once.
    Tasks that change nothing and are no step of the bundle are left out.
  - With C(-v) and more it is Ansible's own default output.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as stdout in configuration
"""

import re
import shlex
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.plugins.callback.default import CallbackModule as Default

STEP = "scannerdb_"
SHOWN = ("ansible.builtin.debug", "debug")
KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list", "dict": "a mapping"}
WRONG_KIND = re.compile(r"argument '(\w+)' is of type \S+ and we were unable to convert to (\w+): .*", re.DOTALL)
COMMAND = re.compile(r"\bansible-playbook (playbooks/\w+\.yml)")  # as a job says it, which knows no inventory
UNSAID = {"ansible.builtin.set_stats", "set_stats", "ansible.builtin.set_fact", "set_fact"}
MESSAGES = ("msg", "reason", "censored")


def short(method: Callable[..., None]) -> Callable[..., None]:
    """Only without -v: with it, what Ansible does by default."""

    @wraps(method)
    def chosen(self: Any, *arguments: Any, **more: Any) -> None:
        if self._display.verbosity:
            getattr(Default, method.__name__)(self, *arguments, **more)
        else:
            method(self, *arguments, **more)

    return chosen


def sentence(error: str) -> str:
    """An error of Ansible's argument specs in plainer words; another one as it is."""
    found = WRONG_KIND.fullmatch(error)
    return f"{found[1]} must be {KINDS.get(found[2], found[2])}." if found else error


def words(result: dict[str, Any]) -> list[str]:
    """What went wrong, each sentence once: wrong arguments one by one, else the message."""
    errors = result.get("argument_errors")
    if isinstance(errors, list) and errors:
        return list(dict.fromkeys(sentence(str(error)) for error in errors))
    said = next((result[name] for name in MESSAGES if result.get(name)), "It failed.")
    lines = said if isinstance(said, list) else [said]
    lines += [result[name] for name in ("stderr", "module_stderr") if result.get(name)][:1]
    return list(dict.fromkeys(str(line).strip() for line in lines))


def whole_commands(line: str, inventories: Sequence[str], host: str) -> str:
    """The line, whose commands name the inventory that was given and the host that it speaks of."""
    given = "".join(f"-i {shlex.quote(source)} " for source in inventories)
    return COMMAND.sub(lambda said: f"ansible-playbook {given}{said[1]} -l {shlex.quote(host)}", line)


class CallbackModule(Default):  # type: ignore[misc]
    """Ansible's default output, made short where nobody asked for more."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "scannerdb_lines"

    def __init__(self) -> None:
        super().__init__()
        self._began: dict[tuple[str, str], float] = {}
        self._headed = False
        self._items_failed: set[tuple[str, str]] = set()

    # --- what is left out

    @short
    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task says something only when it has ended."""

    @short
    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Nor a handler."""

    @short
    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Which file a task is in is no news."""

    @short
    def v2_runner_on_skipped(self, result: Any) -> None:
        """Nor what was not needed."""

    @short
    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """The task itself tells."""

    # --- what is said

    @short
    def v2_playbook_on_play_start(self, play: Any) -> None:
        """The play's name is a heading, written once something happens in it."""
        self._play, self._headed = play, False

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task begins on a host."""
        self._began[host.name, task._uuid] = time.monotonic()
        super().v2_runner_on_start(host, task)

    @short
    def v2_runner_item_on_ok(self, result: Any) -> None:
        """One of several: what it says, or that it has changed."""
        if result.task.action in SHOWN:
            self._speak(result)
        elif result.result.get("changed") and result.task.action not in UNSAID:
            self._line(result, "changed", C.COLOR_CHANGED, timed=False)

    @short
    def v2_runner_on_ok(self, result: Any) -> None:
        """A step, a change, or what a job has to say. Of several, each has told its own."""
        self._handle_warnings(result.result)
        action, changed = result.task.action, bool(result.result.get("changed"))
        if result.task.loop and "results" in result.result:
            return
        if action in SHOWN:
            self._speak(result)
        elif (changed and action not in UNSAID) or action.rpartition(".")[2].startswith(STEP):
            colour = C.COLOR_CHANGED if changed else C.COLOR_OK
            self._line(result, "changed" if changed else "ok", colour)

    @short
    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """The error, once."""
        self._handle_warnings(result.result)
        if (result.host.name, result.task._uuid) in self._items_failed:
            return
        if ignore_errors:  # whoever ignores it says what it means
            self._line(result, "ignored", C.COLOR_SKIP)
        else:
            self._complain(result, "FAILED")

    @short
    def v2_runner_item_on_failed(self, result: Any) -> None:
        """The error of one item, once."""
        self._items_failed.add((result.host.name, result.task._uuid))
        self._complain(result, "FAILED")

    @short
    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Why the host could not be reached."""
        self._complain(result, "UNREACHABLE")

    @short
    def v2_on_file_diff(self, result: Any) -> None:
        """What --diff shows, below the name of its task."""
        items = result.result["results"] if result.task.loop and "results" in result.result else [result.result]
        parts = [self._get_diff(item["diff"]) for item in items if item.get("diff") and item.get("changed")]
        if any(parts):
            self._heading()
            self._display.display(f"  {self._label(result)}{self._name(result)}")
            self._display.display("\n".join(part for part in parts if part))

    @short
    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The recap, as ever."""
        self._display.display("")
        super().v2_playbook_on_stats(stats)

    def _heading(self) -> None:
        name = self._play.get_name().strip() if self._play else ""
        if not self._headed and name:
            mode = " (check mode: nothing is changed)" if self._play.check_mode else ""
            self._display.display(f"\n{name}{mode}")
        self._headed = True

    def _label(self, result: Any) -> str:
        """The host, where that is not clear by itself."""
        return f"{self.host_label(result)}: "

    def _line(self, result: Any, word: str, colour: str, timed: bool = True) -> None:
        """One step: its result, whose it is, its name, and how long it took."""
        self._heading()
        began = self._began.pop((result.host.name, result.task._uuid), None) if timed else None
        took = f"  {time.monotonic() - began:.1f} s" if began else ""
        self._display.display(f"  {word:<8} {self._label(result)}{self._name(result)}{took}", color=colour)

    def _name(self, result: Any) -> str:
        """The task's name, without its role's."""
        if result.result.get("argument_errors"):
            return "Check the variables"
        role_and_name = result.task.get_name().strip().partition(" : ")
        name = str(role_and_name[2] or role_and_name[0])
        item = self._get_item_label(result.result) if result.task.loop else None
        return f"{name} ({item})" if item is not None else name

    def _complain(self, result: Any, word: str) -> None:
        self._line(result, word, C.COLOR_UNREACHABLE if word == "UNREACHABLE" else C.COLOR_ERROR)
        inventories = context.CLIARGS.get("inventory") or ()
        for sentence in words(result.result):
            for line in whole_commands(sentence, inventories, result.host.name).splitlines():
                self._display.display(
                    f"    {line}", color=C.COLOR_ERROR, stderr=self.get_option("display_failed_stderr")
                )

    def _speak(self, result: Any) -> None:
        """A message as text; anything else in the chosen format."""
        self._clean_results(result.result, result.task.action)
        said = result.result.get("msg")
        self._heading()
        if isinstance(said, str):
            self._display.display(f"\n{said.strip()}\n" if "\n" in said else f"  {self._label(result)}{said}")
        else:
            self._display.display(f"  {self._label(result)}{self._dump_results(result.result)}")
