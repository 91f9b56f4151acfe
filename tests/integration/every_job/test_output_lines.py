"""What a run prints: a line for each step, each error once, and no dumps; -v and other callbacks as ever."""

from __future__ import annotations

import re
import shlex

from tests.integration.playbooks import Site, site
from tests.servers import Database

__all__ = ["site"]


def test_wrong_variables_are_a_sentence_each(site: Site) -> None:
    site.hosts = {"one": {}}
    wrong = {"scannerdb_fix_dates": "yesterday", "scannerdb_fix_max_lag_mb": "many"}
    said = site.run("playbooks/fix.yml", **wrong).failed("scannerdb_fix_max_lag_mb must be a whole number.")
    sentence = "value of scannerdb_fix_dates must be one of: evidence, now, report, got: yesterday"
    assert said.output.count(sentence) == 1 and len(said.output.splitlines()) < 25, said.output
    whole = site.run("playbooks/fix.yml", environment={"ANSIBLE_STDOUT_CALLBACK": "default"}, **wrong)
    assert "TASK [" in whole.output and len(whole.output.splitlines()) > 100


def test_a_failed_check_is_short_and_its_error_there_once(site: Site, field_once: Database) -> None:
    said = site.add("one", field_once).run("playbooks/check.yml").failed("on which this check fails")
    assert said.output.count("on which this check fails") == 1 and len(said.output.splitlines()) < 45, said.output
    assert re.search(r"^  FAILED   one: Check the database  \d+\.\d s$", said.output, re.MULTILINE)
    assert "evidence:" not in said.output
    wordy = site.run("playbooks/check.yml", "-v")
    assert re.search("evidence.?:", wordy.output), wordy.output
    assert "TASK [scannerdb_check : Check the database]" in wordy.output


def test_steps_have_their_result_time_and_diff(site: Site, field_once: Database) -> None:
    site.add("one", field_once)
    dry = site.run("maintain.yml", "--check", "--diff").ok()
    assert "(check mode: nothing is changed)" in dry.output and "+-- data.verified.honeypot" in dry.output
    backup = site.run("playbooks/backup.yml").ok()
    assert re.search(r"^  changed  one: Back up the database  \d+\.\d s$", backup.output, re.MULTILINE)
    assert re.search(r"[\d,]+ rows of \d+ tables, in [\d.]+ s; 1 kept", backup.prose)
    fixed = site.run("playbooks/fix.yml").ok()
    assert "honeypots count as verified. [data.verified.honeypot]" in fixed.prose
    waits = (
        r"A writer waited at most \d+ ms for a change of structure \(budget 50 ms for its lock\) and \d+ ms for rows"
    )
    assert re.search(waits, fixed.prose)
    undone = site.run("playbooks/undo.yml", scannerdb_run_id=re.findall(r"scannerdb_run_id=(\S+)", fixed.output)[0])
    assert "rows put back" in undone.ok().output and "Put back data.verified.honeypot" in undone.prose
    assert re.search(waits, undone.prose), undone.output
    made = site.run("playbooks/deploy.yml", scannerdb_deploy_roles=False).ok()
    assert re.search(waits, made.prose), made.output


def test_an_error_after_a_change_has_the_whole_way_back(site: Site, field_once: Database) -> None:
    """The command that it prints works as it stands: it names the inventory and the host."""
    field_once.sql(
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;"
        "CREATE TRIGGER stop BEFORE DELETE ON endpoints FOR EACH ROW EXECUTE FUNCTION stop()",
    )
    before = field_once.value("SELECT count(*) FROM endpoints WHERE verified = 1")
    site.add("one", field_once)
    failed = site.run("playbooks/fix.yml", scannerdb_fix_require_backup=False).failed("not today")
    assert field_once.value("SELECT count(*) FROM endpoints WHERE verified = 1") != before
    found = re.search(
        r"take back what was done: ansible-playbook (-i \S+) (playbooks/undo\.yml) (-l one -e \S+)", failed.prose
    )
    assert found, failed.output
    site.run(found[2], *shlex.split(f"{found[1]} {found[3]}")).ok()
    assert field_once.value("SELECT count(*) FROM endpoints WHERE verified = 1") == before


def test_a_restore_ends_with_rows_outage_and_the_way_back(site: Site, field_once: Database) -> None:
    site.add("one", field_once).run("playbooks/backup.yml").ok()
    source = {"scannerdb_restore_source": "latest", "scannerdb_restore_confirm": field_once.name}
    said = site.run("playbooks/restore.yml", **source).ok()
    for words in (
        r"Brought [\d,]+ rows of \d+ tables, in [\d.]+ s",
        r"Outage \d+ ms, as a client saw it",
        r"Before it backup /.*\.backup",
        rf"Undo ansible-playbook -i \S+ \S+/restore.yml -l one -e scannerdb_restore_undo=true .*={field_once.name}",
    ):
        assert re.search(words, said.prose), said.output
    tables = {**source, "scannerdb_restore_tables": "metadata", "scannerdb_restore_into_schema": "old"}
    brought = site.run("playbooks/restore.yml", **tables).ok()
    assert re.search(r"Brought \d+ rows of 1 tables.*Remove DROP SCHEMA \"old\" CASCADE;", brought.prose)


def test_each_item_of_a_loop_that_says_or_changes_something_is_told(site: Site) -> None:
    """A plan made of items would else be invisible."""
    book = site.folder / "book.yml"
    book.write_text("""
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Say it
      ansible.builtin.debug:
        msg: "{{ item }} to make"
      loop: [one, two]
    - name: Make it
      ansible.builtin.command: "{{ item }}"
      changed_when: item == 'true'
      loop: ['true', 'sleep 0']
""")
    site.hosts = {"one": {}}
    said = site.run(str(book)).ok().output
    assert "localhost: one to make" in said and "localhost: two to make" in said
    assert "changed  localhost: Make it (true)" in said and "sleep" not in said, said
