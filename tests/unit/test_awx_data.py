"""What awx.yml makes of the bundle's data: schedules that are cron's, surveys that fit the roles, a sound workflow."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from croniter import croniter
from dateutil import rrule, tz
from scannerdb.schedule.model import read_jobs

from tests.integration.awx import rules, shapes
from tests.integration.awx.declared import FILTERS, JOBS, STEPS, VARIABLES, WORKFLOWS, playbook, questions
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
        "scannerdb_migrate_confirm",
    }


# The rows of the table in docs/awx.md; a key is what a launch could ask for, as AWX names it.
PAGE_WORDS = {
    "job type": ["job_type"],
    "diff mode": ["diff_mode"],
    "verbosity": ["verbosity"],
    "limit": ["limit"],
    "credentials": ["credential"],
    "inventory": ["inventory"],
    "variables": ["variables"],
    "execution environment": ["execution_environment"],
    "instance groups": ["instance_groups"],
    "SCM branch": ["scm_branch"],
    "tags": ["tags"],
    "skip tags": ["skip_tags"],
    "forks": ["forks"],
    "timeout": ["timeout"],
    "slices": ["job_slice_count"],
    "labels": ["labels"],
}
SETTLED = yaml.safe_load((ROOT / "roles/scannerdb_awx/vars/main/objects.yml").read_text())


def rows_of_the_page() -> dict[str, str]:
    """What could be asked for, with the page's answer to it."""
    page = (ROOT / "docs/awx.md").read_text()
    table = page.split("| a launch could ask for |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {word: answer for words, answer, why in cells for word in words.split(", ") if why}


@pytest.mark.parametrize("word", PAGE_WORDS)
def test_each_row_of_what_a_launch_may_choose_is_what_the_templates_say(word: str) -> None:
    """Each template says yes or no to each, so that AWX's own default, or hands, decide nothing."""
    answer = rows_of_the_page()[word]
    for name in PAGE_WORDS[word]:
        key = f"ask_{name}_on_launch"
        if name == "limit":
            tasks = (ROOT / "roles/scannerdb_awx/tasks/jobs.yml").read_text()
            assert answer == "yes, where a job is not sliced" and f"'{key}': not __scannerdb_awx_shared" in tasks
        else:
            assert SETTLED["__scannerdb_awx_fixed"][key] is (answer == "yes"), word


def test_the_table_has_a_row_for_all_that_awx_could_ask_for() -> None:
    """By the real controller's fields, as the imitation has them; the survey is the one way to set variables."""
    assert set(rows_of_the_page()) == set(PAGE_WORDS)
    known = {field[4:-10] for field in shapes.SHAPES["job_templates"].fields if field.startswith("ask_")}
    assert known == {name for names in PAGE_WORDS.values() for name in names}
    steps = {key for key in SETTLED["__scannerdb_awx_fixed_workflow"] if key.startswith("ask_")}
    assert steps and not any(SETTLED["__scannerdb_awx_fixed_workflow"][key] for key in steps)


@pytest.mark.parametrize("name", JOBS)
def test_no_survey_asks_for_what_leads_elsewhere(name: str) -> None:
    """Where a job logs in, what it writes to, or which code it runs is no answer of whoever may only launch."""
    elsewhere = re.compile(r"scannerdb_(login_|.*_dir$|.*hook|.*offsite|.*identity|.*password|become|.*_sql$|.*remote)")
    assert [q["variable"] for q in questions(name) if elsewhere.match(q["variable"])] == []


def test_the_fix_asks_for_what_has_to_be_asked_for() -> None:
    """What is off by default is reached from a launch, too."""
    asked = {question["variable"] for question in questions("fix")}
    assert {"scannerdb_fix_counters", "scannerdb_fix_types", "scannerdb_retention_rules"} <= asked


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


@pytest.fixture
def nodes() -> list[dict[str, Any]]:
    """The nodes as AWX shows them after a run."""
    made: list[dict[str, Any]] = [
        {
            "id": number,
            "identifier": name,
            "extra_data": step.get("answers", {}),
            "limit": None,
            "summary_fields": {"unified_job_template": {"name": f"N: {step.get('job', name)}"}},
        }
        for number, (name, step) in enumerate(STEPS.items())
    ]
    numbers = {node["identifier"]: node["id"] for node in made}
    for node in made:
        for when in ("success", "failure", "always"):
            node[f"{when}_nodes"] = [numbers[one] for one in STEPS[node["identifier"]].get(when, [])]
    return made


@pytest.mark.parametrize(
    "change",
    [
        {"failure_nodes": []},
        {"extra_data": {"scannerdb_check_fail_on": "critical"}},
        {"limit": "db9"},
        {"summary_fields": {"unified_job_template": {"name": "N: restore"}}},
    ],
)
def test_a_workflow_that_somebody_has_changed_is_noticed(nodes: list[dict[str, Any]], change: dict[str, Any]) -> None:
    steps = list(STEPS.values())
    assert not WORKFLOWS.other_workflow([], steps, "N: ")
    assert not WORKFLOWS.other_workflow(nodes, steps, "N: ")
    nodes[0].update(change)
    assert WORKFLOWS.other_workflow(nodes, steps, "N: ")


# --- notifications


def read(text: str) -> Any:
    """What YAML 1.1, Ansible's, makes of a notification with this line."""
    return [{"name": "n", "type": "t", "configuration": {}, **yaml.safe_load(text)}]


@pytest.mark.parametrize("line", ["events: [success]", "events: success", "on: [success]", "'on': [success]", "{}"])
def test_a_success_is_told_however_the_key_is_written(line: str) -> None:
    given = FILTERS.notifications(read(line))
    assert FILTERS.told(given, "failure", "P: ", "O+1") == ["P: n++O[+]1"]
    assert FILTERS.told(given, "success", "P: ", "O") == ([] if line == "{}" else ["P: n++O"])


@pytest.mark.parametrize(("line", "word"), [("events: [sucess]", "'sucess'"), ("evnts: [success]", "'evnts'")])
def test_a_notification_with_an_unknown_word_is_refused(line: str, word: str) -> None:
    with pytest.raises(AnsibleFilterError, match=word):
        FILTERS.notifications(read(line))


def test_no_choice_of_ours_is_a_word_that_yaml_reads_as_something_else() -> None:
    """YAML 1.1 takes on, off, yes, no for booleans: as an unquoted choice such a word would never arrive."""
    for name, spec in VARIABLES.items():
        for choice in spec.get("choices") or []:
            assert yaml.safe_load(str(choice)) == choice, name
    for name in VARIABLES:
        assert yaml.safe_load(name) == name


# --- rights

HELD = {"kind": "job_templates", "object": "N: check", "role": "execute", "holders": "teams", "holder": 7, "id": 1}


@pytest.mark.parametrize(
    ("found", "foreign"),
    [
        ({"holder_name": "N operators"}, False),
        ({"holder_name": "N viewers"}, True),
        ({"holder_name": "N operators", "object": "N: restore"}, True),
        ({"holder_name": "N operators", "role": "admin"}, True),
        ({"holder_name": "me", "holders": "users", "holder": 3}, False),
        ({"holder_name": "somebody", "holders": "users"}, True),
    ],
)
def test_a_right_that_nobody_declared_is_foreign(found: dict[str, Any], foreign: bool) -> None:
    grants = [{"team": "operators", "role": "execute", "templates": ["check"], "workflows": ["N"]}]
    assert bool(FILTERS.foreign_rights([{**HELD, **found}], grants, "N", [3])) == foreign
    workflow = {**HELD, "kind": "workflow_job_templates", "object": "N", "holder_name": "N operators"}
    held = [{**HELD, "holder_name": "N operators"}, workflow]
    assert FILTERS.granted(held, grants[0], "N") and not FILTERS.granted(held[1:], grants[0], "N")


# --- jobs in parts


def test_a_scheduled_job_in_parts_is_a_workflow_of_one_step() -> None:
    schedule = [
        {"name": "nightly", "playbook": "maintain.yml", "profile": "daily"},
        {"name": "drill", "playbook": "playbooks/verify.yml", "profile": "daily"},
        {"name": "look", "playbook": "playbooks/status.yml", "profile": "daily"},
    ]
    names_of = WORKFLOWS.workflow_names(schedule, list(JOBS.values()), "N: ")
    assert names_of == {"nightly": "N: nightly in parts", "drill": "N: drill in parts"}
    nightly, drill = WORKFLOWS.workflows(schedule, names_of)
    assert (nightly["name"], nightly["steps"]) == (
        "N: nightly in parts",
        [{"step": "maintain", "answers": {"scannerdb_profile": "daily"}}],
    )
    assert drill["steps"] == [{"step": "verify", "answers": {}}]
    assert WORKFLOWS.workflows(schedule, {}) == []


@pytest.mark.parametrize(
    ("change", "goes"),
    [
        ({}, False),
        ({"limit": "db9"}, True),
        ({"summary_fields": {"unified_job_template": {"name": "N: maintain"}}}, True),
        ({"name": "N: of yesterday", "summary_fields": {"unified_job_template": {"name": "N: maintain"}}}, False),
        ({"description": "Theirs.", "limit": "db9"}, False),
    ],
)
def test_a_schedule_that_launches_something_else_is_made_again(change: dict[str, Any], goes: bool) -> None:
    """As where jobs are spread over parts from now on: AWX's module would make a second one of that name."""
    launched = {"N: daily": "N: daily in parts"}
    there = {
        "name": "N: daily",
        "description": "Ours.",
        "summary_fields": {"unified_job_template": {"name": "N: daily in parts"}},
    }
    assert bool(WORKFLOWS.misled([{**there, **change}], "Ours.", launched)) == goes


# --- what the real one refuses


@pytest.mark.parametrize(
    ("question", "answer", "said"),
    [
        ({"type": "multiplechoice", "choices": ["a"]}, "", "expected to be one of"),
        ({"type": "integer", "min": 1, "max": 5}, "3", "expected to be a integer"),
        ({"type": "integer", "min": 1, "max": 5}, 6, "too large"),
        ({"type": "text", "min": 2}, "x", "too small"),
        ({"type": "text", "required": True, "default": "latest"}, None, "value missing"),
    ],
)
def test_answers_that_awx_refuses(question: dict[str, Any], answer: Any, said: str) -> None:
    asked = [{"variable": "v", "required": False, **question}]
    (error,) = rules.check_answers(asked, {} if answer is None else {"v": answer})
    assert said in error


@pytest.mark.parametrize("part", ["COUNT=1000", "FREQ=SECONDLY", "BYDAY=1MO", "COUNT=2;UNTIL=20300101T000000Z"])
def test_recurrences_that_awx_refuses(part: str) -> None:
    start = "DTSTART:20240101T000000Z RRULE:"
    rules.check_rrule(f"{start}FREQ=DAILY;INTERVAL=1")
    with pytest.raises(rules.Refused):
        rules.check_rrule(f"{start}{part}{'' if 'FREQ' in part else ';FREQ=DAILY'};INTERVAL=1")


FIELDS = [{"id": "token", "label": "Token", "type": "string", "secret": True}]


@pytest.mark.parametrize(
    ("fields", "files"),
    [
        ([{"id": "tower", "label": "T"}], {}),
        ([{"id": "a-b", "label": "T"}], {}),
        (FIELDS * 2, {}),
        ([{"id": "flag", "label": "F", "type": "boolean", "secret": True}], {}),
        (FIELDS, {"template": "x", "template.one": "y"}),
    ],
)
def test_credential_types_that_awx_refuses(fields: list[dict[str, Any]], files: dict[str, str]) -> None:
    rules.check_credential_type({"inputs": {"fields": FIELDS}, "injectors": {"file": {"template.one": "{{ token }}"}}})
    with pytest.raises(rules.Refused):
        rules.check_credential_type({"inputs": {"fields": fields}, "injectors": {"file": files}})


@pytest.mark.parametrize(
    ("configuration", "messages"),
    [
        ({"url": 1}, {}),
        ({"colour": "red"}, {}),
        ({}, {"finished": {"message": "x"}}),
        ({}, {"error": {"message": "{{ job.name"}}),
    ],
)
def test_notifications_that_awx_refuses(configuration: dict[str, Any], messages: dict[str, Any]) -> None:
    good = {"url": "https://hook.example.org"}
    item = {"notification_type": "webhook", "notification_configuration": dict(good), "messages": {}}
    rules.check_notification(item)
    with pytest.raises(rules.Refused):
        rules.check_notification(
            {**item, "notification_configuration": {**good, **configuration}, "messages": messages}
        )


# --- what is ours


def test_an_inventory_with_somebody_elses_hosts_stays() -> None:
    there = {
        "inventories": [{"id": 1, "name": "ours", "description": "M."}],
        "hosts": [{"id": 2, "name": "theirs", "description": "", "inventory": 1}],
        "groups": [{"id": 3, "name": "scannerdb", "description": "M.", "inventory": 1}],
        "inventory_sources": [],
        "job_templates": [],
        "schedules": [],
    }
    extra = FILTERS.surplus(there, {}, "M.")
    assert extra["inventories"] == [] and [one["name"] for one in extra["groups"]] == ["scannerdb"]
    there["hosts"][0]["has_inventory_sources"] = True  # what a source has brought goes with the inventory
    assert [one["name"] for one in FILTERS.surplus(there, {}, "M.")["inventories"]] == ["ours"]


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
