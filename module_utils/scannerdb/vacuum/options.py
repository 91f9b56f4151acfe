"""What the vacuum job can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..argspec import PROFILES, BudgetOptions, RunOptions, WindowOptions
from ..option import option

METHODS = ("auto", "vacuum", "full", "reindex", "repack", "compact")
OTHER_NAMES = {"vacuum_full": "full"}


@dataclass(frozen=True)
class VacuumOptions(RunOptions, BudgetOptions, WindowOptions):
    """Vacuum what needs it in the Ollama Scanner database."""

    PREFIX = "scannerdb_vacuum_"
    GIVEN: ClassVar = {"log_path": "{{ scannerdb_log_dir }}/db_maintenance_fix.log"}
    method: str = option(
        "auto",
        "V(auto) does what each table needs. In the monthly O(profile) that includes compaction.",
        "V(compact) is V(auto) with compaction, whatever the profile.",
        "V(vacuum), V(full) and V(reindex) do to the chosen tables what their name says, whether they need it or not.",
        "V(full) is C(VACUUM FULL). It locks each table against everybody while it is copied, and needs "
        "O(allow_exclusive=true). V(vacuum_full) is another name for it.",
        "V(reindex) rebuilds every index with C(REINDEX CONCURRENTLY).",
        "V(repack) rewrites the chosen tables beside their users, with REPACK CONCURRENTLY of PostgreSQL 19 and newer, "
        "else with pg_repack, else as V(full) where O(allow_exclusive=true). pg_repack works as a superuser, and a "
        "table's owner could make it run code of his: V(auto) leaves tables of lesser roles out, this does not.",
        choices=(*METHODS, *OTHER_NAMES),
    )
    profile: str = option(
        "weekly",
        "With O(method=auto), V(monthly) compacts too. V(daily) is as V(weekly).",
        choices=PROFILES,
        given="{{ scannerdb_profile }}",
    )
    tables: list[str] = option(
        [],
        "Tables to look at, as V(endpoints) or V(public.endpoints). Empty for all.",
        "A partitioned table stands for its partitions.",
    )
    allow_exclusive: bool = option(
        False,
        "Whether C(VACUUM FULL) may be used, where a table cannot be rewritten beside its users and the lock is "
        "expected to end before the O(window) does. Without it, compaction then rebuilds bloated indexes and "
        "reports the rest.",
        "A rewrite that is refused when its turn comes is replaced by that too.",
    )
    free_gb: float = option(
        0,
        "How many gigabytes the server's disk has free, where that cannot be looked at (the server is another "
        "machine, or the role may not see where its files are). 0 for unknown; a table is then rewritten only "
        "when asked for by name.",
    )
    run_id: str = option("", "Name of the run in logs and progress files; made up where it is empty.", variable="")
    SAYS: ClassVar = {
        "login_user": (
            "Role to log in as; empty for the system user's name. It has to own the tables, or on PostgreSQL 17 "
            "and newer be a member of C(pg_maintain).",
        ),
        "pg_bin_dir": (
            "Folder of pg_repack; where it is empty, it is searched for. The module needs no other program.",
        ),
        "state_dir": (
            "Folder for progress files, and for what rebuilds have reached, so that a wrong estimate does not "
            "repeat them.",
        ),
    }
