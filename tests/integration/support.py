"""Short words for the tests that call jobs on a real database."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scannerdb.backup.options import BackupOptions
from scannerdb.checks.options import CheckOptions
from scannerdb.connection import Options
from scannerdb.drill.options import DrillOptions
from scannerdb.jobs.backup import backup
from scannerdb.jobs.check import check
from scannerdb.jobs.fix import Safety, fix
from scannerdb.jobs.restore import restore
from scannerdb.jobs.restore_sweep import sweep
from scannerdb.jobs.vacuum import DEFAULT_THRESHOLDS, vacuum
from scannerdb.jobs.verify import verify
from scannerdb.restore.options import RestoreOptions
from scannerdb.tools import Tools, find_tools
from scannerdb.vacuum.options import VacuumOptions
from scannerdb.vacuum.thresholds import VacuumThresholds

from tests.servers import Database

NO_BACKUP = Safety(require_backup=False)
INVARIANTS = """
SELECT count(*) FILTER (WHERE verified = 1 AND NOT linked AND is_honeypot IS NOT TRUE),
       count(*) FILTER (WHERE linked AND coalesce(verified, 0) IN (0, 2)),
       count(*) FILTER (WHERE verified = 1 AND is_honeypot IS TRUE),
       count(*) FILTER (WHERE verified = 1 AND verification_date IS NULL),
       count(*) FILTER (WHERE last_check_date IS NULL)
  FROM (SELECT e.*, EXISTS (SELECT FROM verified_endpoints v WHERE v.endpoint_id = e.id) AS linked FROM endpoints e) e
"""


def options(database: Database, **more: Any) -> Options:
    """The connection options of a test's database."""
    login = database.login
    words = {
        "unix_socket": login["login_unix_socket"],
        "port": login["login_port"],
        "user": database.superuser,
        "db": database.name,
        "pg_bin_dir": login["pg_bin_dir"],
    }
    return Options(**{**words, **more})


def tools_of(database: Database) -> Tools:
    """PostgreSQL's programs of the version that a test's server has."""
    return find_tools(str(database.server.bin_dir), 0)


def wait_until(true: Callable[[], Any], seconds: float = 240) -> None:
    """Wait for a condition; the time is only there to end a test that would hang."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def processes(*words: str) -> dict[int, str]:
    """The processes that have all these words in their command line, which comes with them."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended since
            found[int(path.parent.name)] = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return {pid: text for pid, text in found.items() if all(word in text for word in words)}


def findings(database: Database, overlay: dict[str, Any] | None = None, **more: Any) -> dict[str, list[dict[str, Any]]]:
    """What a check finds, by id."""
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in check(options(database), CheckOptions(contract_overlay=overlay or {}, **more))["findings"]:
        found.setdefault(finding["id"], []).append(finding)
    return found


def schema_damage(database: Database) -> list[str]:
    """The ids of what the contract misses, without what is only good to know."""
    found = [f for group in findings(database).values() for f in group]
    return [f["id"] for f in found if f["id"].startswith("schema.") and f["severity"] != "info"]


def rows_of(found: dict[str, list[dict[str, Any]]], finding_id: str) -> int:
    """How many rows the findings of an id speak of."""
    return sum(f["evidence"]["rows"] for f in found.get(finding_id, []))


def run_fix(database: Database, **more: Any) -> dict[str, Any]:
    """A fix run without the demand for a backup."""
    return fix(options(database), **{"safety": NO_BACKUP, **more})


def run_vacuum(
    login: Options, *, thresholds: VacuumThresholds = DEFAULT_THRESHOLDS, check_mode: bool = False, **asked: Any
) -> dict[str, Any]:
    """A vacuum with options by name."""
    return vacuum(login, VacuumOptions(**asked), thresholds=thresholds, check_mode=check_mode)


def run_backup(login: Options, *, check_mode: bool = False, **asked: Any) -> dict[str, Any]:
    """A backup with options by name."""
    return backup(login, BackupOptions(**asked), check_mode=check_mode)


def run_verify(login: Options, *, check_mode: bool = False, **asked: Any) -> dict[str, Any]:
    """A verification or drill with options by name."""
    return verify(login, DrillOptions(**asked), check_mode=check_mode)


def run_restore(login: Options, *, check_mode: bool = False, **asked: Any) -> dict[str, Any]:
    """A restore with options by name; what it replaced is kept for good."""
    return restore(login, RestoreOptions(**{"keep_hours": 0, **asked}), check_mode=check_mode)


def run_sweep(login: Options, *, check_mode: bool = False, **asked: Any) -> dict[str, Any]:
    """Dropping what restores have replaced, with options by name."""
    return sweep(login, RestoreOptions(**asked), check_mode=check_mode)


def run_offered(database: Database, finding: dict[str, Any]) -> None:
    """Run the SQL that a report offers, pasted as a whole, as people do."""
    with database.connect() as conn:
        conn.execute(";\n".join(finding["fix"]["sql"]).encode())


def content(database: Database) -> dict[str, str]:
    """An order-independent fingerprint of every table of the schema public."""
    tables = database.sql("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'public'")
    query = "SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), 'empty') FROM {} t"
    return {name: database.value(query.format(name)) for (name,) in tables}


def ids(database: Database, kind: str) -> list[int]:
    assert database.damage is not None
    return list(database.damage.ids(kind))
