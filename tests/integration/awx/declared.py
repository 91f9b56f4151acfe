"""The role's own data and filters, as the tests read them: nothing of it is written a second time."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import yaml

from tests.integration.playbooks import ROOT

ROLE = ROOT / "roles" / "scannerdb_awx"


def _filters(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_filters", ROLE / "filter_plugins" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _load(name: str) -> dict[str, Any]:
    path = ROLE / "vars" / "main" / name
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


FILTERS, WORKFLOWS = _filters("scannerdb_awx"), _filters("scannerdb_awx_workflows")
VARIABLES: dict[str, Any] = FILTERS.variables(str(ROOT / "roles"))
JOBS: dict[str, dict[str, Any]] = {job["name"]: job for job in _load("jobs.yml")["__scannerdb_awx_jobs"]}
STEPS: dict[str, dict[str, Any]] = {step["step"]: step for step in _load("objects.yml")["__scannerdb_awx_workflow"]}


def playbook(job: str) -> str:
    """The playbook of a job template."""
    return str(JOBS[job].get("playbook", f"playbooks/{job}.yml"))


def questions(job: str) -> list[dict[str, Any]]:
    """The questions of a job template's survey, as AWX gets them."""
    spec: list[dict[str, Any]] = FILTERS.survey(JOBS[job].get("survey", {}), VARIABLES).get("spec", [])
    return spec


def answers(job: str, **given: Any) -> dict[str, Any]:
    """What AWX passes to a job: the survey's defaults where they are answers, and over them what somebody answered."""
    defaults = {one["variable"]: one["default"] for one in questions(job) if "default" in one and _answers(one)}
    return {**defaults, **given}


def _answers(question: dict[str, Any]) -> bool:
    """AWX leaves out a default that it would not accept, such as the empty one of a choice."""
    return question["type"] != "multiplechoice" or question["default"] in question["choices"]
