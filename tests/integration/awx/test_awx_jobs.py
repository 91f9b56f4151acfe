"""Jobs as AWX runs them: ansible-runner, a private data directory of AWX's shape, a read-only clone, a real server."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.integration.awx import rules
from tests.integration.awx.declared import JOBS, STEPS, answers, playbook, questions
from tests.integration.awx.job import Job, Outcome, bare_repository, clone
from tests.integration.support import content, findings
from tests.servers import Database, Databases


@pytest.fixture
def one(request: pytest.FixtureRequest, pool: servers.Pool) -> Iterator[Databases]:
    """A factory of databases on one server only: what a job says does not depend on the version."""
    version = servers.asked_version(request.config, 17)
    factory = Databases(pool, pool.server(version))
    yield factory
    factory.clean()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, synchronised from a bare clone of this checkout."""
    folder = tmp_path_factory.mktemp("project")
    return clone(bare_repository(folder), folder / "clone")


@dataclass
class Tower:
    """Launches the jobs of one database, with its login as a credential and its files in persistent storage."""

    folder: Path
    project: Path
    database: Database
    host: dict[str, Any] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def password(self) -> str:
        return self.database.server.password

    def job(self, template: str, given: dict[str, Any] | None = None, **more: Any) -> Job:
        """A launch of a job template with these answers; AWX must accept them."""
        asked = questions(template)
        extra = {key: value for key, value in (given or {}).items() if not key.endswith("_artifacts")}
        assert set(extra) <= {question["variable"] for question in asked}
        assert rules.check_answers(asked, extra) == []
        inventory_vars = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "scannerdb_become": False,
            "scannerdb_backup_storage": "persistent",  # a volume, in AWX
            "scannerdb_backup_dir": f"{self.folder}/{{{{ inventory_hostname }}}}/backups",
            "scannerdb_state_dir": f"{self.folder}/{{{{ inventory_hostname }}}}/state",
            "scannerdb_log_dir": f"{self.folder}/{{{{ inventory_hostname }}}}/logs",
        }
        login = self.database.login
        host = {
            "scannerdb_login_host": "127.0.0.1",
            "scannerdb_login_port": login["login_port"],
            "scannerdb_login_db": self.database.name,
            "scannerdb_pg_bin_dir": login["pg_bin_dir"],
            **self.host,
        }
        return Job(
            folder=self.folder / f"awx_{next(self.numbers)}",
            project=self.project,
            playbook=playbook(template),
            hosts={"db": host},
            answers=answers(template, **(given or {})),
            credential={"scannerdb_login_user": "postgres", "scannerdb_login_password": self.password},
            inventory_vars=inventory_vars,
            **more,
        )

    def run(self, template: str, given: dict[str, Any] | None = None, **more: Any) -> Outcome:
        return self.job(template, given, **more).run()

    @property
    def backups(self) -> list[Path]:
        found = (self.folder / "db" / "backups").glob("*.backup")
        return sorted(path for path in found if not path.is_symlink())


@pytest.fixture
def tower(tmp_path: Path, project: Path, one: Databases) -> Tower:
    return Tower(tmp_path, project, one(filled=True))


def run_workflow(tower: Tower, **more: Any) -> dict[str, Outcome]:
    """The workflow as AWX walks it: from the root along the branches, artifacts handed on; the outcomes by step."""
    children = {
        child for step in STEPS.values() for when in ("success", "failure", "always") for child in step.get(when, [])
    }
    waiting, outcomes, artifacts = [step for step in STEPS if step not in children], {}, {}
    while waiting:
        name = waiting.pop(0)
        if name in outcomes:
            continue
        step = STEPS[name]
        outcome = tower.run(step.get("job", name), {**step.get("answers", {}), **artifacts}, **more)
        outcomes[name] = outcome
        artifacts.update(outcome.artifacts)
        branch = "success" if outcome.status == "successful" else "failure"
        waiting += step.get(branch, []) + step.get("always", [])
    return outcomes


# --- the project


def test_the_project_synchronises_from_a_bare_clone(project: Path, tmp_path: Path) -> None:
    """Collections are found as a synchronisation asks for them, and every job template has its playbook."""
    command = [sys.executable, "-m", "ansible", "galaxy", "collection", "install", "--offline"]
    command += ["-r", "collections/requirements.yml", "-p", str(tmp_path / "requirements_collections")]
    environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert "Nothing to do. All requested collections are already installed" in done.stdout + done.stderr
    for job in JOBS:
        assert (project / playbook(job)).is_file()
    assert not any(path.stat().st_mode & 0o222 for path in [project, *project.rglob("*")])


# --- the workflow


def test_the_workflow_at_verbosity_4(tower: Tower) -> None:
    outcomes = run_workflow(tower, verbosity=4)
    for outcome in outcomes.values():
        outcome.ok()
    assert list(outcomes) == ["check", "backup", "fix", "vacuum", "verify", "check_again", "status"]
    before, fix = outcomes["check"].artifacts["scannerdb_check_artifacts"]["db"], outcomes["fix"].artifacts
    assert before["critical"] > 0
    backup = outcomes["backup"].artifacts["scannerdb_backup_artifacts"]["db"]
    assert [path.name for path in tower.backups] == [backup["name"]]
    assert outcomes["verify"].artifacts["scannerdb_verify_artifacts"]["db"]["name"] == backup["name"]
    assert fix["scannerdb_fix_artifacts"]["db"]["fixed"] > 0
    for outcome in outcomes.values():
        assert tower.password not in outcome.everything
        assert "no_log" in outcome.everything or "********" in outcome.everything
    assert not [name for name in findings(tower.database) if name.startswith("data.verified.link")]


def test_a_workflow_whose_backup_fails_changes_nothing_and_ends_red(tower: Tower) -> None:
    before = content(tower.database)
    tower.host["scannerdb_pg_bin_dir"] = "/nowhere"
    outcomes = run_workflow(tower)
    assert outcomes["check"].status == "successful"
    assert outcomes["backup"].status == "failed"
    assert "/nowhere" in outcomes["backup"].prose
    assert not {"fix", "vacuum", "verify"} & set(outcomes)
    assert content(tower.database) == before
    # AWX calls a workflow failed when a failed job has nobody who looks after it.
    last = list(outcomes)[-1]
    assert outcomes[last].status == "failed"
    assert not STEPS[last].get("failure") and not STEPS[last].get("always")


# --- single job templates


def test_restore_asks_for_source_and_confirmation(tower: Tower) -> None:
    name = tower.database.name
    before = content(tower.database)
    backup = tower.run("backup").ok().artifacts["scannerdb_backup_artifacts"]["db"]["name"]
    tower.database.sql("DELETE FROM endpoints")
    damaged = content(tower.database)
    injected = {"scannerdb_restore_source": "latest", "scannerdb_restore_confirm": "{{ scannerdb_login_db }}"}
    wrong = tower.run("restore", injected)
    assert wrong.status == "failed" and "scannerdb_restore_confirm" in wrong.output
    right = {"scannerdb_restore_source": backup, "scannerdb_restore_confirm": name}
    planned = tower.run("restore", right, job_type="check").ok()
    assert planned.changed == 1 and "scannerdb_restore_artifacts" not in planned.artifacts
    assert content(tower.database) == damaged
    done = tower.run("restore", right, verbosity=4).ok()
    assert content(tower.database) == before
    assert done.artifacts["scannerdb_restore_artifacts"]["db"]["previous_database"].startswith(name)
    assert tower.password not in done.everything
    tower.run("restore", {**right, "scannerdb_restore_undo": "true"}).ok()
    assert content(tower.database) == damaged


def test_fix_in_a_dry_run_then_for_real_and_undo_by_its_artifacts(tower: Tower) -> None:
    tower.run("backup").ok()
    before = content(tower.database)
    chosen = {"scannerdb_fix_only": "data.verified.*, data.endpoints.*"}
    dry = tower.run("fix", {**chosen, "scannerdb_fix_dry_run": "true"}).ok()
    assert dry.artifacts == {} and "To fix" in dry.output and dry.changed == 1
    assert tower.run("fix", chosen, job_type="check").ok().artifacts == {}
    assert content(tower.database) == before
    fixed = tower.run("fix", chosen).ok()
    assert content(tower.database) != before
    undone = tower.run("undo", {"scannerdb_run_id": "", **fixed.artifacts}).ok()
    assert fixed.artifacts["scannerdb_fix_artifacts"]["db"]["run_id"] in undone.everything
    assert content(tower.database) == before


def test_maintain_as_a_check_job_then_deploy_as_one(tower: Tower) -> None:
    before = content(tower.database)
    planned = tower.run("maintain", {"scannerdb_profile": "weekly"}, job_type="check", limit="db").ok()
    assert "check mode: nothing was changed" in planned.output
    assert set(planned.artifacts) == {"scannerdb_check_artifacts"}
    tower.run("deploy", job_type="check").ok()
    assert content(tower.database) == before
    assert not (tower.folder / "db").exists()


@pytest.mark.parametrize("template", ["schedule", "client", "uninstall"])
def test_jobs_that_look_after_hosts_as_check_jobs(tower: Tower, template: str) -> None:
    done = tower.run(template, job_type="check").ok()
    assert not (tower.folder / "db" / "backups").exists()
    assert tower.password not in done.everything


def test_a_backup_that_would_not_last_is_refused(tower: Tower) -> None:
    """In an execution environment folders vanish with the container."""
    tower.host["scannerdb_backup_storage"] = "ephemeral"
    refused = tower.run("backup")
    assert refused.status == "failed" and refused.artifacts == {}
    assert "would not last" in refused.prose and "scannerdb_backup_offsite_remote" in refused.prose
    assert tower.backups == []


def test_a_part_of_a_sliced_job_without_any_chosen_database_is_green(tower: Tower) -> None:
    """AWX gives each part only its share of the hosts; the template says how they are all called."""
    share = {"scannerdb_slices": 2, "scannerdb_slice_names": ["db", "db2", "scannerdb"]}
    job = tower.job("check")
    job.answers = {**job.answers, **share, "scannerdb_hosts": "db2"}
    done = job.run().ok()
    assert "None of the chosen databases (db2) is in this part of the job" in done.prose and done.artifacts == {}
    job = tower.job("check")
    job.answers = {**job.answers, **share, "scannerdb_hosts": "db3"}
    refused = job.run()
    assert refused.status == "failed" and "No host of the inventory is in 'db3'" in refused.prose


def test_the_doctor_names_what_is_wrong(tower: Tower) -> None:
    done = tower.run("doctor")
    assert done.status == "failed"
    assert "There is none in" in done.prose and "Hint: Run playbooks/backup.yml." in done.prose
    assert tower.password not in done.everything


def test_a_wrong_answer_is_refused_with_a_sentence(tower: Tower) -> None:
    job = tower.job("vacuum")
    job.answers = {**job.answers, "scannerdb_vacuum_method": "wipe"}
    refused = job.run()
    assert refused.status == "failed"
    assert "value of scannerdb_vacuum_method must be one of" in refused.prose


def test_the_configuration_can_be_named_where_the_folder_is_open_to_everybody(tower: Tower, tmp_path: Path) -> None:
    """Ansible ignores an ansible.cfg in a folder that everybody may write to, unless ANSIBLE_CONFIG names it."""
    opened = tmp_path / "opened"
    shutil.copytree(tower.project, opened, symlinks=True)
    opened.chmod(0o777)
    tower.project = opened
    refused = tower.run("check", {"scannerdb_check_fail_on": "never"})
    assert refused.status == "failed"
    named = {"ANSIBLE_CONFIG": str(opened / "ansible.cfg")}
    tower.run("check", {"scannerdb_check_fail_on": "never"}, environment=named).ok()


# --- cancelled


def wait_for(database: Database, query: str, *parameters: Any) -> None:
    """Until the query's value is true."""
    deadline = time.monotonic() + 60
    while not database.value(query, *parameters):
        assert time.monotonic() < deadline, query
        time.sleep(0.05)


AT_WORK = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = %s AND application_name ~ %s"
SESSIONS = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


def cancel(tower: Tower, job: Job, holding: str, who: str) -> None:
    """Start a job that a lock holds up, wait until the session `who` is there, then cancel it as AWX does."""
    watcher = Database(tower.database.server, "postgres")
    with tower.database.connect(autocommit=False) as blocker:
        blocker.execute(holding.encode())
        process = job.start()
        try:
            wait_for(watcher, AT_WORK, tower.database.name, who)
        finally:
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=300)
            job.remove_container()
            blocker.rollback()
    assert job.outcome(process.returncode, output).status == "canceled", output
    wait_for(watcher, SESSIONS, tower.database.name)


def test_a_cancelled_backup_leaves_the_last_good_one(tower: Tower) -> None:
    good = tower.run("backup").ok().artifacts["scannerdb_backup_artifacts"]["db"]["name"]
    cancel(tower, tower.job("backup"), "LOCK TABLE models IN ACCESS EXCLUSIVE MODE", "^scannerdb backup")
    latest = tower.folder / "db" / "backups" / "latest.backup"
    assert latest.resolve().name == good
    tower.run("verify", {"scannerdb_verify_level": "read"}).ok()
    again = tower.run("backup").ok().artifacts["scannerdb_backup_artifacts"]["db"]["name"]
    assert [path.name for path in tower.backups] == [good, again]
    assert latest.resolve().name == again


def test_a_cancelled_fix_is_finished_by_the_next(tower: Tower) -> None:
    tower.run("backup").ok()
    chosen = {"scannerdb_fix_only": "data.*"}
    cancel(tower, tower.job("fix", chosen), "SELECT FROM endpoints FOR UPDATE", "^scannerdb fix")
    tower.run("fix", chosen).ok()
    assert not [name for name in findings(tower.database) if name.startswith("data.verified.link")]
    second = tower.run("fix", chosen).ok()
    assert second.changed == 0
