"""Physical backups on a real cluster with the real pgBackRest: made as they are due, and what is wrong is found."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scannerdb.errors import BackupUnseen, FileProblem, PhysicalRefused, ToolFailed
from scannerdb.jobs.physical_backup import physical_backup
from scannerdb.jobs.physical_drill import physical_drill
from scannerdb.jobs.physical_info import physical_info
from scannerdb.physical.archive import segment_name
from scannerdb.physical.options import PhysicalBackupOptions, PhysicalDrillOptions, PhysicalInfoOptions

from demo import user
from tests.integration.physical.physical_support import STANZA, PhysicalCluster, physical_cluster
from tests.integration.support import options, processes, wait_until
from tests.needs import needs
from tests.servers import Database, Databases, make_home
from tests.system.needs import faketime_library

# The archive is of a cluster of their own; the databases beside it may be of any version.
pytestmark = [needs("pgbackrest", "postgresql-15", "faketime"), pytest.mark.pg(17)]
METHOD = ["pgbackrest"]


def asked(cluster: PhysicalCluster, **more: Any) -> dict[str, Any]:
    """The options of both modules for this cluster."""
    return {"backup_method": METHOD, "stanza": STANZA, "pgbackrest_config": str(cluster.config), **more}


def back_up(cluster: PhysicalCluster, *, check_mode: bool = False, **more: Any) -> dict[str, Any]:
    wanted = PhysicalBackupOptions(**asked(cluster, **more))
    return physical_backup(options(cluster.database), wanted, check_mode=check_mode)


def seen(cluster: PhysicalCluster, database: Database | None = None, **more: Any) -> dict[str, Any]:
    wanted = PhysicalInfoOptions(**asked(cluster, **more))
    found: dict[str, Any] = physical_info(options(database or cluster.database), wanted)["physical"]
    return found


def wrong(cluster: PhysicalCluster, database: Database | None = None, **more: Any) -> set[str]:
    """The ids of what is wrong; each has a hint."""
    found = seen(cluster, database, **more)
    assert found["why"] == "" and all(problem["hint"] for problem in found["problems"])
    return {problem["id"] for problem in found["problems"]}


def test_backups_are_made_as_they_are_due(stanza: PhysicalCluster, tmp_path: Path) -> None:
    planned = back_up(stanza, check_mode=True, state_dir=str(tmp_path / "no"))
    assert planned["backup"]["kind"] == "incr" and len(planned["physical"]["backups"]) == 1
    assert not (tmp_path / "no").exists()
    made = back_up(stanza, state_dir=str(tmp_path), log_path=str(tmp_path / "log"))
    assert made["changed"] and made["backup"]["kind"] == "incr" and made["backup"]["sound"]
    assert made["physical"]["window"]["gaps"] == [] and "no gaps" in made["msg"]
    assert made["physical"]["window"]["first_backup"] == made["physical"]["backups"][0]["label"]
    assert made["backup"]["label"] in (tmp_path / "log").read_text()
    second = back_up(stanza, kind="full")
    assert second["removed"] == []
    assert any("the window then begins at" in warning for warning in second["warnings"])
    third = back_up(stanza, kind="full")  # the repository keeps two
    gone = {backup["label"] for backup in made["physical"]["backups"]}
    assert set(third["removed"]) == gone
    assert third["physical"]["window"]["first_backup"] == second["backup"]["label"]
    assert seen(stanza)["problems"] == []


def test_what_speaks_against_a_backup_stops_it(stanza: PhysicalCluster, make_database: Databases) -> None:
    with pytest.raises(PhysicalRefused, match="no stanza"):
        back_up(stanza, stanza="other")
    with pytest.raises(PhysicalRefused, match="archives nothing"):
        physical_backup(options(make_database()), PhysicalBackupOptions(**asked(stanza)))
    with pytest.raises(PhysicalRefused, match="cannot be looked at"):
        back_up(stanza, pgbackrest_config=str(stanza.home / "none.conf"), stanza="st anza")


def test_each_repository_gets_its_backup_and_one_that_does_not_is_named() -> None:
    with physical_cluster() as cluster:
        second = cluster.home / "second"
        second.mkdir()
        user.give_away(second)
        cluster.configure(extra=f"repo2-path={second}\nrepo2-retention-full=1")
        planned = back_up(cluster, check_mode=True)
        assert [b["repository"] for b in planned["backups"]] == [1] and "Repository 2 would get no backup" in planned[
            "msg"
        ]
        cluster.run("stanza-create")
        assert [b["repository"] for b in back_up(cluster, check_mode=True)["backups"]] == [1, 2]
        made = back_up(cluster)
        assert [(b["repository"], b["kind"], b["sound"]) for b in made["backups"]] == [
            (1, "full", True),
            (2, "full", True),
        ]
        assert {w["repository"] for w in made["physical"]["windows"]} == {1, 2} and "in repository 2" in made["msg"]
        assert cluster.engine().verify().ok
        again = back_up(cluster, kind="full")
        assert again["removed"] == [made["backups"][1]["label"]]  # each has a retention of its own
        (second / "backup" / STANZA).chmod(0o500)
        partly = back_up(cluster)
        assert [b["repository"] for b in partly["backups"]] == [1] and partly["changed"]
        assert len(partly["failures"]) == 1 and partly["failures"][0].startswith(
            "Repository 2 got no backup: pgbackrest"
        )
        # Expiry ends half-way: the backup is gone by then, its WAL is not.
        cluster.engine().make("full", 1)
        oldest = cluster.engine().list()[0].backups[0].label
        for folder in (cluster.repository / "archive" / STANZA).glob("*/*"):
            folder.chmod(0o500)
        half = cluster.engine().expire(1)
        assert oldest in half.removed and "pgbackrest expire failed" in half.why


def test_a_backup_that_cannot_be_listed_is_told(stanza: PhysicalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = stanza.home / "programs"  # a folder of root's would be closed to the server's user
    programs.mkdir()
    real, program = shutil.which("pgbackrest"), programs / "pgbackrest"
    program.write_text(f"""#!/bin/sh
test "$1" = info && test -e {stanza.home}/log/made && exit 50
{real} "$@" || exit
test "$1" != backup || touch {stanza.home}/log/made
""")
    for path in (program, programs):
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(BackupUnseen, match="could not be listed") as told:
        back_up(stanza)
    assert told.value.done["changed"] and "physical backup was made" in told.value.done["msg"]
    (stanza.home / "log" / "made").unlink()


def drill(cluster: PhysicalCluster, pg_bin_dir: str = "", *, check_mode: bool = False, **more: Any) -> dict[str, Any]:
    folder = make_home("scannerdb-copies-")
    os.chown(folder, os.geteuid(), os.getegid())
    folder.chmod(0o755)
    try:
        where = options(cluster.database)
        where = dataclasses.replace(where, pg_bin_dir=pg_bin_dir) if pg_bin_dir else where
        wanted = PhysicalDrillOptions(**asked(cluster, copy_dir=str(folder), **more))
        done = physical_drill(where, wanted, check_mode=check_mode)
        assert list(folder.iterdir()) == [] and processes(str(folder)) == {}
        return done
    finally:
        shutil.rmtree(folder)


def test_a_drill_proves_the_newest_backup(stanza: PhysicalCluster, tmp_path: Path) -> None:
    time.sleep(1.5)  # a backup's times are whole seconds: it can be restored from the next one on
    done = drill(stanza, log_path=str(tmp_path / "log"))
    newest = seen(stanza)["backups"][-1]["label"]
    assert done["failures"] == [] and done["drill"]["outcome"] == "passed" and done["drill"]["label"] == newest
    assert done["drill"]["rto_s"] > 0 and done["drill"]["rpo_s"] is not None and "RTO" in done["msg"]
    assert done["drill"]["unseen"] == "" and not any("Pages were not looked at" in note for note in done["warnings"])
    assert "passed" in (tmp_path / "log").read_text()
    planned = drill(stanza, check_mode=True)
    assert newest in planned["msg"] and planned["drill"] == {}
    with pytest.raises(FileProblem):  # it could not be tried, which says nothing against the backup
        physical_drill(options(stanza.database), PhysicalDrillOptions(**asked(stanza, copy_dir="/proc/nowhere")))


def test_a_drill_that_could_not_look_refutes_and_proves_nothing(stanza: PhysicalCluster, tmp_path: Path) -> None:
    programs = stanza.home / "bin"
    programs.mkdir()
    for path in stanza.database.server.bin_dir.iterdir():
        if path.name != "pg_amcheck":
            (programs / path.name).symlink_to(path)
    done = drill(stanza, pg_bin_dir=str(programs))
    assert done["drill"]["outcome"] == "incomplete" and done["failures"] == []
    assert "pg_amcheck cannot be run" in done["drill"]["unseen"] and "is whole" not in done["msg"]
    assert any("Pages were not looked at" in note for note in done["warnings"])
    # Its server is killed, as where memory ends.
    script = programs / "postgres"
    script.unlink()
    script.write_text(f"""#!/bin/sh
case "$1" in -D) kill -9 $$;; esac
exec {stanza.database.server.bin_dir}/postgres "$@"
""")
    script.chmod(0o755)
    with pytest.raises(ToolFailed, match=r"ended by signal 9.*says nothing about the backup"):
        drill(stanza, pg_bin_dir=str(programs))


@pytest.fixture(scope="module")
def doomed() -> Iterator[PhysicalCluster]:
    """A cluster that checksums its pages, for faults to be planted in."""
    with physical_cluster() as cluster:
        server = cluster.database.server
        server.stop()
        command = [server.bin_dir / "pg_checksums", "--enable", "--no-sync", "-D", server.data]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **user.drop_args())
        server.start()
        cluster.configure()  # the port may be another one
        cluster.engine().make("full")
        yield cluster


def test_ten_planted_faults_are_found(doomed: PhysicalCluster, make_database: Databases) -> None:
    assert wrong(doomed) == set()
    # 1: a hole, which pgBackRest's own info, check and verify pass over; a backup closes it.
    doomed.file_of([doomed.archive() for _ in range(3)][1]).unlink()
    assert wrong(doomed) == {"archive.gap.open"}
    assert doomed.engine().verify().ok
    assert back_up(doomed)["backup"]["sound"]
    assert wrong(doomed) == {"archive.gap.closed"}
    # 2: archiving fails.
    failing(doomed)
    # 3, 4, 5: a foreign cluster, a missing stanza, another repository than the one that the server archives to.
    assert wrong(doomed, make_database()) == {"physical.stanza.foreign", "archive.mode.off"}
    assert wrong(doomed, stanza="other") == {"physical.stanza.missing"}
    elsewhere(doomed)
    # 6: the key is lost; or the repository is another user's.
    shut = doomed.home / "shut"
    shut.mkdir(mode=0o700)
    if user.is_root():
        path = str(doomed.configure("shut.conf", repository="shut"))
        assert wrong(doomed, pgbackrest_config=path) == {"physical.repository.unreadable"}
    lost = doomed.configure("lost.conf", key="another one")
    assert wrong(doomed, pgbackrest_config=str(lost)) == {"physical.key.wrong"}
    # 7, 8: the newest backup is stale; nothing was archived for a while.
    closed = "archive.gap.closed"
    assert wrong(doomed, backup_max_age_h=0.00001) == {"physical.backup.stale", closed}
    assert wrong(doomed, archive_max_age_s=0) == {"archive.wal.quiet", closed}
    # Two clusters write to one stanza; a backup lacks the WAL that makes it consistent.
    twice(doomed)
    # 9: this host's clock is wrong.
    late(doomed)
    # 10: pages that the disk damaged, in a backup that pgBackRest calls a success; nothing is removed for it.
    damaged(doomed)


def twice(cluster: PhysicalCluster) -> None:
    segment = cluster.file_of(cluster.archive())
    name, _, rest = segment.name.partition("-")
    other = segment.with_name(f"{name}-{'0' * 40}{rest[40:]}")
    shutil.copy(segment, other)
    assert wrong(cluster) == {"archive.segment.duplicate", "archive.gap.closed"}
    other.unlink()
    last = back_up(cluster, kind="incr")["physical"]["backups"][-1]
    made = next(b for b in cluster.engine().list()[0].backups if b.label == last["label"])
    needed = cluster.file_of(segment_name(made.timeline, made.start_segment))
    kept = needed.read_bytes()
    needed.unlink()
    assert "physical.backup.broken" in wrong(cluster)
    needed.write_bytes(kept)
    user.give_away(needed)
    assert wrong(cluster) == {"archive.gap.closed"}


LATE = """
import json, sys
from scannerdb.connection import Options
from scannerdb.jobs.physical_info import physical_info
from scannerdb.physical.options import PhysicalInfoOptions
values, asked = json.loads(sys.argv[1])
told = physical_info(Options(**values), PhysicalInfoOptions(**asked))
print(json.dumps([p["id"] for p in told["physical"]["problems"]]))
"""


def late(cluster: PhysicalCluster) -> None:
    """A look from a machine whose clock goes a day ahead."""
    values = json.dumps([dataclasses.asdict(options(cluster.database)), asked(cluster)])
    lie = {"LD_PRELOAD": str(faketime_library()), "FAKETIME": "+86400s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    where = {**os.environ, **lie, "PYTHONPATH": str(Path(__file__).resolve().parents[3] / "module_utils")}
    command = [sys.executable, "-c", LATE, values]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=where).stdout
    assert "physical.clock.differs" in json.loads(told)


def failing(cluster: PhysicalCluster) -> None:
    sql = cluster.database.sql
    sql("ALTER SYSTEM SET archive_command = 'false'")
    sql("SELECT pg_reload_conf()")
    sql("SELECT pg_current_xact_id()")  # its commit is what there is to switch
    sql("SELECT pg_switch_wal()")
    wait_until(lambda: sql("SELECT 1 FROM pg_stat_archiver WHERE last_failed_time > last_archived_time"))
    found = [p for p in seen(cluster)["problems"] if p["id"] == "archive.wal.failing"]
    assert len(found) == 1 and "1 segments wait" in found[0]["message"] and "MB are free" in found[0]["message"]
    sql("ALTER SYSTEM RESET archive_command")
    sql("SELECT pg_reload_conf()")
    cluster.archive()
    assert "archive.wal.failing" not in wrong(cluster)


def elsewhere(cluster: PhysicalCluster) -> None:
    (cluster.home / "elsewhere").mkdir()
    user.give_away(cluster.home / "elsewhere")
    path = str(cluster.configure("elsewhere.conf", repository="elsewhere"))
    assert wrong(cluster, pgbackrest_config=path) == {"physical.stanza.missing"}
    cluster.engine(config=path)._run("stanza-create")
    assert wrong(cluster, pgbackrest_config=path) == {"archive.segment.absent", "physical.backup.missing"}


def damaged(cluster: PhysicalCluster) -> None:
    database = cluster.database
    database.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    database.sql("CHECKPOINT")
    path = database.server.data / database.value("SELECT pg_relation_filepath('t')")
    with path.open("r+b") as stream:
        stream.seek(4000)
        stream.write(b"damaged")
    before = [backup["label"] for backup in seen(cluster)["backups"]]
    for _ in range(2):  # retention would remove the first full one by now
        made = back_up(cluster, kind="full")
        assert made["backup"]["page_errors"] and not made["backup"]["sound"] and made["removed"] == []
        assert any("No older physical backup was removed" in warning for warning in made["warnings"])
    labels = [backup["label"] for backup in seen(cluster)["backups"]]
    assert labels[: len(before)] == before and len(labels) == len(before) + 2
    assert "physical.backup.page_errors" in wrong(cluster)
    refuted = drill(cluster)
    assert refuted["drill"]["outcome"] == "failed" and any("pg_amcheck" in line for line in refuted["failures"])
