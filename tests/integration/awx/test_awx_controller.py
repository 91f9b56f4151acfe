"""awx.yml against a controller: the modules of awx.awx really run, over HTTP, and the server refuses what AWX refuses.

What it does not prove is in docs/awx.md: the server is the tests' own, AWX itself is not here.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from scannerdb.schedule.model import read_jobs

from tests.integration.awx.controller import Controller
from tests.integration.awx.declared import FILTERS, JOBS, STEPS, VARIABLES, playbook, questions
from tests.integration.awx.job import bare_repository
from tests.integration.awx.server import running
from tests.integration.playbooks import Run, Site

SLICED = [name for name, job in JOBS.items() if job.get("sliced")]
TOKEN = "hidden-controller-token"
PASSWORD = "hidden-login-password"
HOOK = "hidden-hook-token"
NAME = "Scanner database"
IN_PARTS = {f"{NAME}: {name} in parts" for name in ("daily", "weekly", "monthly")}  # what the schedule launches
ORGANIZATION = "Database people + [co] & söhne"  # AWX's addresses hold names: these need care
ZONE = "Europe/Berlin"
LASTING = "/backups/{{ inventory_hostname }}"


@dataclass
class Story:
    """What became of a controller, run by run: each run, what it wrote, and what was there afterwards."""

    controller: Controller
    runs: dict[str, Run] = field(default_factory=dict)
    writes: dict[str, list[tuple[str, str, Any]]] = field(default_factory=dict)
    items: dict[str, dict[str, dict[int, Any]]] = field(default_factory=dict)
    links: dict[str, dict[tuple[int, str], list[int]]] = field(default_factory=dict)
    rights: dict[str, dict[tuple[int, str], list[int]]] = field(default_factory=dict)

    @property
    def where(self) -> dict[str, str]:
        return {"CONTROLLER_HOST": self.controller.url, "CONTROLLER_OAUTH_TOKEN": TOKEN}

    def run(self, chapter: str, site: Site, *flags: str, **extra: Any) -> None:
        self.controller.requests.clear()
        self.runs[chapter] = site.run("playbooks/awx.yml", *flags, environment=self.where, **extra).ok()
        self.writes[chapter] = self.controller.writes()
        self.items[chapter] = copy.deepcopy(self.controller.items)
        self.links[chapter] = copy.deepcopy(self.controller.links)
        self.rights[chapter] = self.controller.rights()


def add_other_peoples(controller: Controller, repository: Path) -> None:
    """Other people's things: in another organization with the very same names, and beside them with others."""
    other = controller.add("organizations", name="Other people")["id"]
    inventory = controller.add("inventories", name=NAME, organization=other)["id"]
    git = {"scm_type": "git", "scm_url": str(repository)}
    project = controller.add("projects", name=NAME, organization=other, **git)["id"]
    template = {"inventory": inventory, "project": project, "playbook": "playbooks/check.yml"}
    template["id"] = controller.add("job_templates", name=f"{NAME}: check", description="Ours, not yours.", **template)[
        "id"
    ]
    controller.add("schedules", name=f"{NAME}: daily", rrule="DTSTART:20240101T000000Z RRULE:FREQ=DAILY;INTERVAL=1",
                   unified_job_template=template["id"])  # fmt: skip
    controller.add("teams", name=f"{NAME} operators", organization=other)
    controller.add("hosts", name="db1", inventory=inventory)
    slack = {"token": "a stranger's", "channels": ["#db"]}
    controller.add("notification_templates", name=f"{NAME}: chat", organization=other, notification_type="slack",
                   notification_configuration=slack)  # fmt: skip
    controller.add("credential_types", name="Another login", kind="cloud")
    galaxy = controller.add("credential_types", name="Galaxy", kind="cloud")["id"]
    controller.add("credentials", name="Ansible Galaxy", credential_type=galaxy, organization=other)
    controller.user = controller.add("users", username="builder")["id"]
    controller.add("users", username="a stranger")
    controller.add("instance_groups", name="database nodes")


def inventory(folder: Path, *names: str) -> Site:
    """The inventory that awx.yml is run with."""
    site = Site(folder, {name: {"ansible_host": f"{name}.example.org"} for name in names})
    site.hosts["db1"] |= {"scannerdb_login_db": "scanner", "scannerdb_login_password": PASSWORD}
    return site


def answers(repository: Path) -> dict[str, str]:
    """What is asked of the role in every run."""
    return {
        "scannerdb_awx_organization": ORGANIZATION,
        "scannerdb_awx_scm_url": str(repository),
        "scannerdb_awx_image": "registry.example.org/scannerdb:1",
        "scannerdb_awx_login_user": "scannerdb_maint",
        "scannerdb_awx_instance_groups": "database nodes",
        "scannerdb_awx_job_slices": "3",
        "scannerdb_schedule_timezone": ZONE,
    }


def write_variables(folder: Path) -> tuple[str, str]:
    """What is secret comes from a file, as it does from a vault: at -vvvv Ansible shows its own command line."""
    chat = {"name": "chat", "type": "slack", "configuration": {"token": HOOK, "channels": ["#db"]}, True: ["success"]}
    hook = {"name": "hook", "type": "webhook", "configuration": {"url": "https://hook.example.org", "headers": {}}}
    literal = f'scannerdb_awx_inventory_variables: {{scannerdb_backup_dir: !unsafe "{LASTING}"}}\n'
    secret = {"scannerdb_awx_login_password": PASSWORD, "scannerdb_awx_notifications": [chat, hook]}
    (folder / "mine.yml").write_text(literal + yaml.safe_dump(secret))
    more = {
        "scannerdb_hosts": "db1:db2:db3",
        "scannerdb_awx_notifications": [chat, hook, {**hook, "name": "new"}],
    }
    (folder / "more.yml").write_text(yaml.safe_dump(more))
    return ("-e", f"@{folder}/mine.yml")


def make_and_change(story: Story, folder: Path, mine: tuple[str, str], wanted: dict[str, str]) -> None:
    """Planned and made; changed by hands, planned again for more hosts, and changed."""
    site = inventory(folder, "db1", "db2")
    story.run("planned", site, "--check", *mine, **wanted)
    story.run("made", site, "-vvvv", *mine, **wanted)
    larger = inventory(folder, "db1", "db2", "db3")
    vandalise(story.controller)
    story.run("planned again", larger, "--check", *mine, "-e", f"@{folder}/more.yml", **wanted)
    changes = {
        "scannerdb_schedule_overrides": {"weekly": {"weekday": "saturday", "hour": 2}, "monthly": {"enabled": False}},
        "scannerdb_awx_inventory_path": "inventories/mine/hosts.yml",
    }
    story.run("changed", site, "--limit", "db2", *mine, **{**wanted, **changes})


def refuse_while_busy(story: Story, site: Site, mine: tuple[str, str], wanted: dict[str, str]) -> None:
    """To be removed, while a job of it runs."""
    controller = story.controller
    controller.active = {ours(controller.items, "job_templates")[f"{NAME}: backup"]["id"]}
    controller.requests.clear()
    story.runs["busy"] = site.run(
        "playbooks/awx.yml", *mine, environment=story.where, **wanted, scannerdb_awx_state="absent"
    )
    story.writes["busy"] = controller.writes()
    controller.active = set()


def remove(story: Story, site: Site, mine: tuple[str, str], wanted: dict[str, str]) -> None:
    """Removed as far as nobody else uses it, then wholly, then once more."""
    absent = {**wanted, "scannerdb_awx_state": "absent"}
    story.run("left", site, *mine, **absent)
    controller = story.controller
    controller.delete("applications", controller.named("applications")["a stranger's"])
    controller.delete("teams", controller.named("teams")["others"])
    controller.delete("hosts", ours_in(controller, "hosts")["theirs"])
    story.run("gone", site, *mine, **absent, scannerdb_awx_remove_credentials="true")
    story.run("gone again", site, *mine, **absent)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One controller from empty to empty again, among what is others'."""
    folder = tmp_path_factory.mktemp("awx")
    repository = bare_repository(folder)
    wanted, mine = answers(repository), write_variables(folder)
    with running(TOKEN) as controller:
        add_other_peoples(controller, repository)
        story = Story(controller)
        make_and_change(story, folder, mine, wanted)
        add_tenant(controller)
        site = inventory(folder, "db1", "db2")
        refuse_while_busy(story, site, mine, wanted)
        remove(story, site, mine, wanted)
        yield story


# The hosts of an inventory in the repository are not known here, so that nobody is asked to choose among them.
NO_CHOICE = {"workflow_job_templates": {"survey_enabled": False}}
VANDALISM = {  # of one job template: where it works, how, and what whoever launches it may choose
    "extra_vars": '{"scannerdb_login_host": "elsewhere.example.org"}',
    "limit": "db9",
    "verbosity": 4,
    "forks": 7,
    "job_tags": "backup",
    "skip_tags": "judge",
    "timeout": 1,
    "job_slice_count": 9,
    "become_enabled": True,
    "diff_mode": True,
    "allow_simultaneous": True,
    **{
        f"ask_{what}_on_launch": True
        for what in ("credential", "inventory", "variables", "execution_environment", "limit")
    },
}


def vandalise(controller: Controller) -> None:
    """What hands do to objects over the months; and a synchronisation that failed."""
    templates = ours(controller.items, "job_templates")
    templates[f"{NAME}: check"].update(VANDALISM)
    ours(controller.items, "workflow_job_templates")[NAME].update(
        limit="db9", extra_vars='{"scannerdb_profile": "daily"}'
    )
    project = ours(controller.items, "projects")[NAME]
    project.update(allow_override=True, status="failed")
    controller.playbooks[project["id"]] = []
    ours(controller.items, "hosts")["db1"]["enabled"] = False
    ours(controller.items, "schedules")[f"{NAME}: daily"]["limit"] = "db9"
    home = controller.named("organizations")[ORGANIZATION]["id"]
    other = controller.add("teams", name="others", organization=home)["id"]
    viewers = ours(controller.items, "teams")[f"{NAME} viewers"]["id"]
    stranger = controller.named("users")["a stranger"]["id"]
    for template, role, holders, holder in (
        ("restore", "execute", "teams", viewers),
        ("backup", "admin", "teams", other),
        ("deploy", "execute", "users", stranger),
        ("deploy", "admin", "users", controller.user),  # whoever makes an object has it
    ):
        controller.grant(templates[f"{NAME}: {template}"], role, holders, holder)
    hosts = {"inventory": ours(controller.items, "inventories")[NAME]["id"]}
    theirs = controller.add("hosts", name="theirs", **hosts)["id"]
    controller.associate(ours(controller.items, "groups")["scannerdb"], "hosts", {"id": theirs})
    storage = ours(controller.items, "credential_types")[f"{NAME}: storage elsewhere"]["id"]
    controller.add("credentials", name="their bucket", credential_type=storage, organization=home,
                   inputs={"configuration": "[theirs]"})  # fmt: skip


def ours_in(controller: Controller, resource: str) -> dict[str, Any]:
    """What is in our inventory, whoever has put it there."""
    home = ours(controller.items, "inventories")[NAME]["id"]
    return {item["name"]: item for item in controller.items[resource].values() if item["inventory"] == home}


def add_tenant(controller: Controller) -> None:
    """Somebody moves into the organization that the run has made."""
    home = controller.named("organizations")[ORGANIZATION]["id"]
    controller.add("applications", name="a stranger's", organization=home, client_type="public",
                   authorization_grant_type="password")  # fmt: skip


def ours(items: dict[str, dict[int, Any]], resource: str) -> dict[str, Any]:
    """What a chapter ended with, by name, without what strangers have."""
    found = [item for item in items[resource].values() if item.get("description", "").endswith(f"for {NAME}.")]
    return {item["name"]: item for item in found}


# --- the story


def test_a_plan_writes_nothing_and_names_everything(story: Story) -> None:
    assert story.writes["planned"] == []
    assert story.runs["planned"].changed["db1"] > 0
    for name in (f"{NAME}: restore", f"{NAME} viewers", f"{NAME}: monthly", "db2"):
        assert name in story.runs["planned"].prose


def test_a_plan_for_what_is_there_names_what_is_new(story: Story) -> None:
    """What refers to something only planned is not asked for; hosts chosen by a pattern are in the jobs' group."""
    assert story.writes["planned again"] == []
    told = story.runs["planned again"].prose
    for line in ("hosts to make: db3", f"notification templates to make: {NAME}: new"):
        assert line in told, line
    assert "changed db1 -> localhost: Databases (db1)" in told, "a host that somebody has disabled"
    assert "groups to make" not in told and "job templates to make" not in told


def test_everything_is_made(story: Story) -> None:
    made = story.items["made"]
    assert set(ours(made, "job_templates")) == {f"{NAME}: {job}" for job in JOBS}
    assert set(ours(made, "hosts")) == {"db1", "db2"} and set(ours(made, "groups")) == {"scannerdb"}
    assert json.loads(ours(made, "inventories")[NAME]["variables"]) == {"scannerdb_backup_dir": LASTING}
    assert set(ours(made, "teams")) == {f"{NAME} operators", f"{NAME} viewers"}
    for resource in ("projects", "inventories", "execution_environments"):
        assert set(ours(made, resource)) == {NAME}, resource
    assert set(ours(made, "workflow_job_templates")) == {NAME} | IN_PARTS
    nodes = [node["identifier"] for node in made["workflow_job_template_nodes"].values()]
    assert sorted(nodes) == sorted([*STEPS, "maintain", "maintain", "maintain"])
    template = ours(made, "job_templates")[f"{NAME}: restore"]
    assert template["playbook"] == playbook("restore") and template["ask_job_type_on_launch"]
    assert (template["job_slice_count"], ours(made, "job_templates")[f"{NAME}: check"]["job_slice_count"]) == (1, 3)
    home = ours(made, "organizations")[ORGANIZATION]
    assert story.links["made"][home["id"], "galaxy_credentials"], "collections come with it"


def test_whoever_may_only_launch_chooses_nothing_that_leads_elsewhere(story: Story) -> None:
    """A credential, an inventory, an image, a branch or a node of one's own would get the passwords and the dumps."""
    harmless = {"job_type", "diff_mode", "verbosity", "limit"}
    for name, template in ours(story.items["made"], "job_templates").items():
        asked = {field[4:-10] for field, value in template.items() if field.startswith("ask_") and value}
        assert asked <= harmless, name
        assert ("limit" in asked) == (template["job_slice_count"] == 1), "a limit leaves a slice without any host"
        assert (template["timeout"], template["allow_simultaneous"]) == (21600, False)
    workflow = ours(story.items["made"], "workflow_job_templates")[NAME]
    assert not any(value for field, value in workflow.items() if field.startswith("ask_"))
    assert not ours(story.items["made"], "projects")[NAME]["allow_override"]


def test_what_hands_have_changed_is_put_back(story: Story) -> None:
    made, changed = story.items["made"], story.items["changed"]
    for resource in ("workflow_job_templates", "projects"):
        was, now = ours(made, resource)[NAME], ours(changed, resource)[NAME]
        assert now == {**was, **NO_CHOICE.get(resource, {})}, [key for key in was if was[key] != now[key]]
    before, after = (ours(items, "job_templates")[f"{NAME}: check"] for items in (made, changed))
    assert {name: after[name] for name in VANDALISM if name != "extra_vars"} == {
        name: before[name] for name in VANDALISM if name != "extra_vars"
    }
    assert set(json.loads(after["extra_vars"])) == {"scannerdb_slices", "scannerdb_slice_names"}
    daily = f"{NAME}: daily"
    assert {**ours(changed, "schedules")[daily], "id": 0} == {**ours(made, "schedules")[daily], "id": 0}
    templates = ours(changed, "job_templates")
    assert story.rights["changed"][templates[f"{NAME}: restore"]["id"], "execute"] == []
    assert story.rights["changed"][templates[f"{NAME}: backup"]["id"], "admin"] == []
    assert story.rights["changed"][templates[f"{NAME}: deploy"]["id"], "execute"] == []
    assert story.rights["changed"][templates[f"{NAME}: deploy"]["id"], "admin"] == [story.controller.user]


def test_what_others_have_put_beside_ours_stays(story: Story) -> None:
    for chapter in ("changed", "left"):
        assert "theirs" in {host["name"] for host in story.items[chapter]["hosts"].values()}, chapter
    assert set(ours(story.items["left"], "inventories")) == {NAME}, "their host is in it"
    assert "since somebody else has put this into it: theirs" in story.runs["left"].prose
    assert "Somebody has made the credentials their bucket of the types" in story.runs["left"].prose
    assert set(ours(story.items["left"], "credential_types")) == {f"{NAME}: storage elsewhere"}
    assert not [one for one in story.items["gone"]["credentials"].values() if one["name"] == "their bucket"]


def test_nothing_is_removed_under_a_job_that_runs(story: Story) -> None:
    story.runs["busy"].failed("These jobs run", f"{NAME}: backup", "Nothing was removed.")
    assert story.writes["busy"] == []


def test_a_second_run_changes_only_what_the_data_has_changed(story: Story) -> None:
    """Also with --limit, which neither empties the play nor takes databases away."""
    writes = [(method, path.removeprefix("/api/v2/").split("/")[0]) for method, path, _ in story.writes["changed"]]
    assert Counter(writes) == {
        ("POST", "groups"): 3,  # what is in the group that goes is taken out of it
        ("DELETE", "groups"): 1,
        ("DELETE", "hosts"): 2,
        ("PATCH", "schedules"): 2,
        ("POST", "inventory_sources"): 1,
        ("POST", "projects"): 1,  # the update
        # What was put back.
        ("PATCH", "projects"): 1,
        # Sliced jobs of an inventory whose names are not known ask for no names.
        ("PATCH", "job_templates"): len(SLICED),
        ("POST", "job_templates"): len(SLICED),  # their surveys
        ("PATCH", "workflow_job_templates"): 1,
        ("DELETE", "schedules"): 1,
        ("POST", "schedules"): 1,
        ("POST", "roles"): 3,
    }
    schedules = ours(story.items["changed"], "schedules")
    assert "BYDAY=SA" in schedules[f"{NAME}: weekly"]["rrule"] and "T020000 " in schedules[f"{NAME}: weekly"]["rrule"]
    assert not schedules[f"{NAME}: monthly"]["enabled"]


def test_only_its_own_is_removed(story: Story) -> None:
    left = story.items["left"]
    assert {resource for resource in left if ours(left, resource)} == {
        "organizations",
        "inventories",
        "credential_types",
    }
    assert ours(story.items["gone"], "organizations") == {}
    assert story.items["gone"] == story.items["planned"]
    assert story.writes["gone again"] == [] and set(story.runs["gone again"].changed.values()) == {0}


def test_no_secret_is_shown(story: Story) -> None:
    for run in story.runs.values():
        for secret in (TOKEN, PASSWORD, HOOK):
            assert secret not in run.output
    hosts = story.items["made"]["hosts"].values()
    assert not any(PASSWORD in host["variables"] for host in hosts)
    assert any('"scannerdb_login_db": "scanner"' in host["variables"] for host in hosts)


def test_the_login_is_injected_as_variables(story: Story) -> None:
    types = ours(story.items["made"], "credential_types")
    login = types[f"{NAME}: login"]
    assert [one["id"] for one in login["inputs"]["fields"] if one.get("secret")] == ["password"]
    assert login["injectors"]["extra_vars"]["scannerdb_login_password"] == "{{ password }}"
    stored = ours(story.items["made"], "credentials")[f"{NAME}: login"]
    assert stored["inputs"] == {"username": "scannerdb_maint", "password": PASSWORD}
    for kind in types.values():
        assert set(kind["injectors"].get("extra_vars", {})) <= set(VARIABLES)


def posts(story: Story, what: str) -> dict[str, list[Any]]:
    """What the first run posted to related lists of that name, by the list's owner."""
    found: dict[str, list[Any]] = {}
    everything = {item["id"]: item for items in story.items["made"].values() for item in items.values()}
    for method, path, body in story.writes["made"]:
        parts = path.removeprefix("/api/v2/").strip("/").split("/")
        if method == "POST" and len(parts) == 3 and parts[2] == what:
            owner = everything[int(parts[1])]
            found.setdefault(owner.get("identifier") or owner["name"], []).append(body)
    return found


def test_surveys_are_made_of_the_roles_specs(story: Story) -> None:
    specs = posts(story, "survey_spec")
    for job in JOBS:
        given = specs.get(f"{NAME}: {job}", [{}])[0].get("spec", [])
        asked = FILTERS.survey(JOBS[job].get("survey", {}), VARIABLES).get("spec", [])
        shared = JOBS[job].get("sliced", False)  # asks for databases in place of a limit
        assert given[: len(asked)] == asked, job
        assert [one["variable"] for one in given[len(asked) :]] == (["scannerdb_hosts"] if shared else []), job
    asked = {question["variable"]: question for question in questions("restore")}
    assert asked["scannerdb_restore_confirm"]["required"] and "default" not in asked["scannerdb_restore_confirm"]
    assert asked["scannerdb_restore_source"]["default"] == "latest"


def test_the_workflow_has_its_branches(story: Story) -> None:
    identifiers = {
        node["id"]: node["identifier"] for node in story.items["made"]["workflow_job_template_nodes"].values()
    }
    for when in ("success", "failure", "always"):
        linked = {
            name: [identifiers[body["id"]] for body in bodies] for name, bodies in posts(story, f"{when}_nodes").items()
        }
        assert linked == {name: step[when] for name, step in STEPS.items() if when in step}


def test_operators_launch_what_is_safe_and_viewers_look(story: Story) -> None:
    team = {item["id"]: name for name, item in ours(story.items["made"], "teams").items()}
    roles = {number: key for key, number in story.controller.role_ids.items()}
    granted: dict[tuple[str, str], set[str]] = {}
    everything = {item["id"]: item for items in story.items["made"].values() for item in items.values()}
    for _, path, body in (write for write in story.writes["made"] if "/roles/" in write[1]):
        item, role = roles[int(path.split("/")[4])]
        granted.setdefault((team[body["id"]].split()[-1], role), set()).add(everything[item]["name"])
    launched = {f"{NAME}: {name}" for name, job in JOBS.items() if job.get("operators")}
    assert granted["operators", "execute_role"] == launched | {NAME}
    assert f"{NAME}: restore" not in launched and f"{NAME}: deploy" not in launched
    assert granted["operators", "read_role"] >= {f"{NAME}: {name}" for name in JOBS} - launched | IN_PARTS
    assert granted["viewers", "read_role"] == {f"{NAME}: {name}" for name in JOBS} | {NAME} | IN_PARTS
    assert ("viewers", "execute_role") not in granted


def test_failures_are_told(story: Story) -> None:
    chat = ours(story.items["made"], "notification_templates")[f"{NAME}: chat"]["id"]
    told = posts(story, "notification_templates_error")
    steps = {step.get("job", name) for name, step in STEPS.items()} | set(STEPS)
    alone = {f"{NAME}: {job}" for job in JOBS if job not in steps and job not in SLICED}
    assert set(told) == alone | {NAME} | IN_PARTS, "one failure, one message, however many parts have failed"
    hook = ours(story.items["made"], "notification_templates")[f"{NAME}: hook"]["id"]
    assert all({body["id"] for body in bodies} == {chat, hook} for bodies in told.values())
    assert set(posts(story, "notification_templates_success")) == {NAME}


def test_the_schedules_are_those_of_the_data(story: Story) -> None:
    made = ours(story.items["made"], "schedules")
    flows = {item["id"]: name for name, item in ours(story.items["made"], "workflow_job_templates").items()}
    nodes = story.items["made"]["workflow_job_template_nodes"].values()
    said = {flows[node["workflow_job_template"]]: node["extra_data"] for node in nodes}
    for job in read_jobs(VARIABLES["scannerdb_schedule"]["default"]):
        schedule = made[f"{NAME}: {job.name}"]
        assert schedule["rrule"] == FILTERS.rrule(job.rrule, ZONE)
        launched = flows[schedule["unified_job_template"]]
        assert launched == f"{NAME}: {job.name} in parts" and not schedule["extra_data"]
        assert said[launched] == {"scannerdb_profile": job.profile}
        assert schedule["enabled"] == job.enabled


# --- what goes wrong


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    with running(TOKEN) as made:
        yield made


def attempt(controller: Controller, tmp_path: Path, token: str = TOKEN, **extra: Any) -> Run:
    """A run with the least that it needs."""
    least = {"scannerdb_awx_host": controller.url, "scannerdb_awx_token": token, "scannerdb_awx_scm_url": "/nowhere"}
    return inventory(tmp_path, "db1").run("playbooks/awx.yml", **{**least, **extra})


def test_what_is_missing_is_asked_for(controller: Controller, tmp_path: Path) -> None:
    attempt(controller, tmp_path, scannerdb_awx_scm_url="").failed(
        "scannerdb_awx_scm_url is empty; it says where AWX gets"
    )
    attempt(controller, tmp_path, token="").failed("scannerdb_awx_token (or CONTROLLER_OAUTH_TOKEN) is empty")
    assert controller.requests == []


def test_a_strangers_object_under_our_name_is_left_alone(controller: Controller, tmp_path: Path) -> None:
    home = controller.add("organizations", name="Default")["id"]
    controller.add("inventories", name=NAME, organization=home, description="Somebody's databases.")
    refused = attempt(controller, tmp_path)
    refused.failed('Somebody else has made {"inventories": ["Scanner database"]}.', "scannerdb_awx_name")
    assert controller.writes() == []


def test_a_wrong_token_is_named(controller: Controller, tmp_path: Path) -> None:
    attempt(controller, tmp_path, token="wrong").failed("Invalid authentication credentials")
