"""Filters that turn the bundle's steps and its schedule into AWX's workflows, and find what differs from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LINKS = ("success", "failure", "always")
# What somebody may have chosen for a schedule or a node beside the answers of a survey.
PROMPTS = (
    "inventory",
    "limit",
    "job_type",
    "job_tags",
    "skip_tags",
    "scm_branch",
    "diff_mode",
    "verbosity",
    "forks",
    "timeout",
    "job_slice_count",
    "execution_environment",
)


def workflow_names(
    schedule: Sequence[Mapping[str, Any]], jobs: Sequence[Mapping[str, Any]], prefix: str
) -> dict[str, str]:
    """By the name of a scheduled job that is spread over parts: the workflow that the schedule launches in its place.

    AWX runs such a job as so many jobs of its template, each of which tells what is attached to the template, and
    nothing can be attached to the whole. A workflow of that one step tells once.
    """
    spread = {job["name"] for job in jobs if job.get("sliced")}
    return {one["name"]: f"{prefix}{one['name']} in parts" for one in schedule if _job(one) in spread}


def workflows(schedule: Sequence[Mapping[str, Any]], names_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """The workflows of `workflow_names`: name, description and steps."""
    return [
        {
            "name": names_of[one["name"]],
            "description": f"The scheduled job {one['name']}, which is spread over several: a failure is told once.",
            "steps": [{"step": _job(one), "answers": answers(one)}],
        }
        for one in schedule
        if one["name"] in names_of
    ]


def answers(scheduled: Mapping[str, Any]) -> dict[str, Any]:
    """What a scheduled job answers of its template's survey."""
    return {"scannerdb_profile": scheduled["profile"]} if _job(scheduled) == "maintain" else {}


def _job(scheduled: Mapping[str, Any]) -> str:
    """The name of the job template of a scheduled job: that of its playbook."""
    return Path(scheduled["playbook"]).stem


def nodes(steps: Sequence[Mapping[str, Any]], prefix: str, organization: str) -> list[dict[str, Any]]:
    """The steps of the workflow as the module takes them; a step runs the job of its name, unless it says another."""
    return [
        {
            "identifier": step["step"],
            "unified_job_template": {
                "name": prefix + step.get("job", step["step"]),
                "type": "job_template",
                "organization": {"name": organization},
            },
            "extra_data": step.get("answers", {}),
            "related": {f"{when}_nodes": [{"identifier": one} for one in step[when]] for when in LINKS if when in step},
        }
        for step in steps
    ]


def other_workflow(there: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]], prefix: str) -> bool:
    """Whether the nodes that are there are others than the steps say: other jobs, links, answers or prompts.

    No nodes at all are no other ones.
    """
    names = {node["id"]: node["identifier"] for node in there}
    found = {
        node["identifier"]: {
            "job": node["summary_fields"].get("unified_job_template", {}).get("name"),
            "answers": node["extra_data"] or {},
            "prompts": _prompts(node),
            **{when: {names.get(one) for one in node[f"{when}_nodes"]} for when in LINKS},
        }
        for node in there
    }
    wanted = {
        step["step"]: {
            "job": prefix + step.get("job", step["step"]),
            "answers": step.get("answers", {}),
            "prompts": [],
            **{when: set(step.get(when, [])) for when in LINKS},
        }
        for step in steps
    }
    return bool(found) and found != wanted


def _prompts(item: Mapping[str, Any]) -> list[str]:
    """What somebody has chosen for a schedule or a node beside the survey's answers."""
    return [name for name in PROMPTS if item.get(name) not in (None, "")]


def misled(there: Sequence[Mapping[str, Any]], mark: str, launched: Mapping[str, str]) -> list[Any]:
    """Those of our schedules for which somebody has chosen a limit, a job type and the like, or that launch another
    job or workflow than the one that is to be `launched`, by the schedule's name."""
    return [
        item
        for item in there
        if item["description"].endswith(mark)
        and (_prompts(item) or launched.get(item["name"], _launched(item)) != _launched(item))
    ]


def _launched(item: Mapping[str, Any]) -> Any:
    return item["summary_fields"]["unified_job_template"]["name"]


class FilterModule:
    """The filters, by their names in templates."""

    def filters(self) -> dict[str, Any]:
        return {
            "scannerdb_awx_answers": answers,
            "scannerdb_awx_misled": misled,
            "scannerdb_awx_nodes": nodes,
            "scannerdb_awx_other_workflow": other_workflow,
            "scannerdb_awx_workflow_names": workflow_names,
            "scannerdb_awx_workflows": workflows,
        }
