"""What awx.yml makes of the bundle's data: schedules that are cron's, surveys that fit the roles, a sound workflow."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ansible.errors import AnsibleFilterError
from croniter import croniter
from dateutil import rrule, tz
from scannerdb.schedule.model import read_jobs

from tests.integration.awx import rules
from tests.integration.awx.declared import FILTERS, JOBS, STEPS, VARIABLES, playbook, questions
from tests.integration.playbooks import ROOT

RAW = VARIABLES["scannerdb_schedule"]["default"]
SCHEDULE = read_jobs(RAW)
NOT_LAUNCHED = {"awx"}  # makes the job templates

# --- schedules


def next_runs_of_awx(rule: str, start: datetime, count: int) -> list[datetime]:
    """As AWX does: the rule's next time after an instant, again and again; a time that does not exist is skipped."""
    rules = rrule.rrulestr(rule, forceset=True)
    found: list[datetime] = []
    while len(found) < count:
        start = rules.after(start)
        if tz.datetime_exists(start):
            found.append(start)
    return found


def next_runs_of_cron(entry: str, zone: str, start: datetime, count: int) -> list[datetime]:
    """As cron does, by the clock of that zone."""
    runs = croniter(entry, start.astimezone(ZoneInfo(zone)))
    return [runs.get_next(datetime) for _ in range(count)]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
def test_the_next_fifty_runs_are_those_of_cron(zone: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))
    assert [job.name for job in SCHEDULE] == ["daily", "weekly", "monthly"]
    for job in SCHEDULE:
        rule = FILTERS.rrule(job.rrule, zone)
        rules.check_rrule(rule)
        in_awx, in_cron = next_runs_of_awx(rule, start, 50), next_runs_of_cron(job.cron, zone, start, 50)
        assert [one.timestamp() for one in in_awx] == [one.timestamp() for one in in_cron], job.name
        assert in_awx[-1] - in_awx[0] > timedelta(days=48)


def test_what_awx_skips_is_an_hour_that_the_clocks_skip() -> None:
    """cron runs such a job right after the gap: the one difference between the two, and no default falls into it."""
    (job,) = read_jobs([{**RAW[0], "hour": 2, "minute": 30}])
    start = datetime(2026, 3, 27, tzinfo=ZoneInfo("UTC"))
    days = [run.day for run in next_runs_of_awx(FILTERS.rrule(job.rrule, "Europe/Berlin"), start, 4)]
    assert days == [27, 28, 30, 31]
    assert all(job.hour >= 3 for job in SCHEDULE)


def test_a_recurrence_without_a_time_of_day_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="has no time of day"):
        FILTERS.rrule("FREQ=DAILY;INTERVAL=1", "UTC")


# --- job templates and surveys


def test_each_playbook_has_its_job_template() -> None:
    playbooks = {path.stem for path in (ROOT / "playbooks").glob("*.yml")} - NOT_LAUNCHED
    declared = {name for name in JOBS if playbook(name) == f"playbooks/{name}.yml"}
    assert declared == playbooks, "roles/scannerdb_awx/vars/main/jobs.yml declares the job templates"
    assert all((ROOT / playbook(name)).is_file() for name in JOBS)


@pytest.mark.parametrize("name", JOBS)
def test_surveys_are_ones_that_awx_takes(name: str) -> None:
    asked = questions(name)
    if asked:
        rules.check_survey({"name": "", "description": "", "spec": asked})
    for question in asked:
        spec = VARIABLES[question["variable"]]
        assert not spec.get("no_log"), "secrets belong in credentials"
        if spec.get("choices"):
            assert question["choices"] == spec["choices"]
        if question["type"] == "multiplechoice":
            assert question["default"] == "", "AWX's page cannot edit a question that has choices and no default at all"
        assert not any(mark in question["question_description"] for mark in ("C(", "{{"))
    # Only what must be decided at each launch is required: an answer beats what the inventory says.
    assert {one["variable"] for one in asked if one["required"] or one.get("default", "") != ""} <= {
        "scannerdb_restore_source",
        "scannerdb_restore_confirm",
        "scannerdb_remove_set",
    }


def test_a_survey_of_an_unknown_variable_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="No role of the bundle has the variable scannerdb_nothing"):
        FILTERS.survey({"scannerdb_nothing": {"ask": "What"}}, VARIABLES)


# --- the workflow


def ends(step: str, failed: bool) -> set[str]:
    """Where a walk from that step can end; with `failed`, after that step itself has failed."""
    following = STEPS[step].get("failure" if failed else "success", []) + STEPS[step].get("always", [])
    return {end for one in following for end in ends(one, False)} if following else {step}


def test_a_workflow_with_a_failed_job_ends_red() -> None:
    """AWX calls a workflow successful when somebody looks after every failed job, unless the last one fails."""
    for name, step in STEPS.items():
        if step.get("failure"):
            assert ends(name, failed=True) == {"failed"}, name
    assert "failed" not in ends("check", failed=False)


def test_every_step_has_a_job_and_answers_that_it_takes() -> None:
    for name, step in STEPS.items():
        asked = questions(step.get("job", name))
        assert rules.check_answers(asked, step.get("answers", {})) == [], name
        assert set(step.get("answers", {})) <= {question["variable"] for question in asked}


def test_a_workflow_that_is_linked_otherwise_is_noticed() -> None:
    steps = list(STEPS.values())
    there = [
        {"id": number, "identifier": step["step"], **{f"{when}_nodes": [] for when in ("success", "failure", "always")}}
        for number, step in enumerate(steps)
    ]
    numbers = {node["identifier"]: node["id"] for node in there}
    for node, step in zip(there, steps, strict=True):
        node.update({f"{when}_nodes": [numbers[one] for one in step[when]] for when in step if f"{when}_nodes" in node})
    assert not FILTERS.other_workflow([], steps)
    assert not FILTERS.other_workflow(there, steps)
    there[0]["failure_nodes"] = []
    assert FILTERS.other_workflow(there, steps)


# --- what is ours


def test_surplus_is_what_has_our_mark_and_is_not_wanted() -> None:
    def item(number: int, name: str, mark: str = "M.", **more: Any) -> dict[str, Any]:
        return {"id": number, "name": name, "description": f"Text. {mark}", **more}

    there: dict[str, list[Any]] = {
        "inventories": [item(1, "ours"), item(2, "theirs", "M. They said.")],
        "hosts": [item(3, "old", inventory=9), item(4, "kept", inventory=9), item(5, "gone with it", inventory=1)],
        "groups": [],
        "inventory_sources": [],
        "job_templates": [],
        "schedules": [],
    }
    extra = FILTERS.surplus(there, {"hosts": ["kept"]}, "M.")
    assert [one["id"] for one in extra["inventories"]] == [1]
    assert [one["id"] for one in extra["hosts"]] == [3]
