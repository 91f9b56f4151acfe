"""A run of some steps: --tags and --skip-tags do what they say, and a tag that is nowhere fails."""

from __future__ import annotations

import re

from tests.integration.playbooks import Site, site
from tests.servers import Database

__all__ = ["site"]
STEPS = {
    "check": "scannerdb_check : Check the database",
    "backup": "scannerdb_backup : Back up the database",
    "fix": "scannerdb_fix : Fix what the checks find",
    "vacuum": "scannerdb_vacuum : Vacuum what needs it",
}


def steps_of(output: str) -> set[str]:
    """The steps whose own task did its work (it was ok or changed)."""
    tasks = re.split(r"^TASK \[", output, flags=re.MULTILINE)
    done = {task.partition("]")[0] for task in tasks if re.search(r"^(ok|changed): ", task, re.MULTILINE)}
    return {step for step, name in STEPS.items() if name in done}


def test_each_step_has_its_tag(site: Site, field_once: Database) -> None:
    site.add("one", field_once)
    plain = {"environment": {"ANSIBLE_STDOUT_CALLBACK": "default"}}
    for step in ("backup", "check", "fix", "vacuum"):
        done = site.run("maintain.yml", "--tags", step, scannerdb_check_fail_on="never", **plain).ok()
        assert steps_of(done.output) == {step}
    assert len(site.backups("one")) == 1
    skipped = "molecule-notest,notest,molecule-idempotence-notest,fix,vacuum"  # the first three, as Molecule does
    left_out = site.run("maintain.yml", "--check", "--skip-tags", skipped, **plain).ok()
    assert steps_of(left_out.output) == {"check", "backup"} and "Not done" not in left_out.output


def test_a_tag_that_is_nowhere_fails(site: Site) -> None:
    site.hosts = {"one": {}}
    site.run("maintain.yml", "--tags", "backups").failed(
        "There is no tag 'backups' here. The steps are check, backup, sweep, fix, vacuum."
    )
    site.run("playbooks/fix.yml", "--skip-tags", "backup").failed("This playbook has no tags")
    site.run("maintain.yml", "--tags", "fix", scannerdb_profile="daily").failed("daily is a backup and nothing else")
