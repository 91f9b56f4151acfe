"""Ansible's own cost apart from the work's: a maintain.yml that has nothing to do."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench.figure import Figure, Goal
from bench.lab import Lab
from bench.measure import interleave
from bench.playbook import Played, Site

SCALE = 1.0  # 50,000 endpoints: the work is small beside Ansible


def no_change(lab: Lab, repetitions: int) -> Iterator[Figure]:
    """One host, everything in order already."""
    with lab.copy(scale=SCALE) as name:
        site = Site(lab.folder(), {"db": lab.options(name)})
        site.play("maintain.yml")
        ways = {
            "whole": lambda: site.play("maintain.yml").ran.seconds,
            "empty": lambda: site.module("ansible.builtin.ping", {}).seconds,
        }
        seen = interleave(repetitions, ways)
        runs = [site.play("maintain.yml", metered=True) for _ in range(repetitions)]
    whole, empty = seen["whole"], seen["empty"]
    name = "ansible -m ping"
    yield Figure("maintain.yml with nothing to do", "s", whole, empty, name, Goal(most=6), note=_where(runs))
    yield Figure("of these in the modules' processes", "s", [run.module_s for run in runs])
    yield Figure("of these Ansible's own", "s", [all_s - run.module_s for all_s, run in zip(whole, runs)])
    yield Figure("tasks", "", [float(len(run.tasks)) for run in runs])
    yield Figure("processes of modules", "", [float(len(run.modules)) for run in runs])
    yield Figure("peak memory of a module's process", "MB", [run.peak_mb for run in runs])


def _where(runs: list[Played]) -> str:
    """The five longest tasks, each with its median seconds."""
    medians = [
        (statistics.median(run.tasks[place]["seconds"] for run in runs), task["task"])
        for place, task in enumerate(runs[0].tasks)
    ]
    return "longest: " + ", ".join(f"{task} {seconds:.2f} s" for seconds, task in sorted(medians, reverse=True)[:5])


MEASUREMENTS = (no_change,)
