"""What the jobs fix, undo and schema can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..argspec import BudgetOptions, OverlayOptions, RunOptions, TrustOptions, WindowOptions
from ..option import PathText, option
from ..sets.verification_log import PROOFS
from ..standbylag import MOST_BEHIND

DATES = ("evidence", "now", "report")
HONEYPOTS = ("unverify", "report")
INACTIVE = ("unverify", "report")
TYPES = ("leave", "convert")
REPLACES_FOREIGN = (
    "Replace what is somebody else's, which is INSTEAD OF triggers on C(servers), its definition, and the rules of a "
    "foreign key beside ON DELETE."
)


@dataclass(frozen=True)
class FixOptions(OverlayOptions, RunOptions, BudgetOptions, WindowOptions, TrustOptions):
    """Fix what the checks find in the Ollama Scanner database, online and with a journal."""

    PREFIX = "scannerdb_fix_"
    GIVEN: ClassVar = {"log_path": "{{ scannerdb_log_dir }}/db_maintenance_fix.log"}
    state: str = option(
        "applied",
        "V(applied) fixes; V(undone) takes back the run O(run_id).",
        choices=("applied", "undone"),
        variable="",
    )
    run_id: str = option("", "The run to take back, for O(state=undone).", variable="")
    unsealed: bool = option(
        False,
        "For O(state=undone), take back also entries of the journal that have no seal of this host (those of an "
        "earlier release, of another host, or of runs without O(state_dir)). Somebody else may have written them.",
        variable="",
    )
    only: list[str] = option(
        [], "Ids or globs of the findings to fix; all where it is empty. For O(state=undone), of the fixes to undo."
    )
    skip: list[str] = option([], "Ids or globs of the findings to leave alone.")
    dates: str = option(
        "evidence",
        "What an empty date becomes. V(evidence) takes the best date the row and its link have, V(now) the "
        "clock's, V(report) leaves it.",
        choices=DATES,
    )
    honeypots: str = option("unverify", "What happens to honeypots that count as verified.", choices=HONEYPOTS)
    inactive: str = option("unverify", "What happens to inactive endpoints that count as verified.", choices=INACTIVE)
    types: str = option(
        "leave",
        "What happens to columns that hold dates as text, booleans as integers, or timestamps without a time zone. "
        "V(convert) gives them the contract's types, online; the old values stay in columns beside, for an undo.",
        choices=TYPES,
    )
    types_zone: str = option(
        "",
        "The time zone that converted dates are meant in where they name none. Empty for the TimeZone that the "
        "application has in the database.",
    )
    replace_foreign: bool = option(False, REPLACES_FOREIGN)
    drop_indexes: bool = option(False, "Drop an index that is the same as another one.")
    counters: bool = option(
        False, "Set the counters in C(metadata) that are wrong to what they count, by a statement that counts."
    )
    max_share: float = option(
        0.5,
        "A fix of a thousand rows or more that would touch more than this share of a table (0 to 1) stops the run "
        "before any change. Filling empty dates does not count.",
    )
    batch_rows: int = option(
        5000,
        "Rows of the largest batch. The first has a tenth of it; later ones are sized to take about 50 ms.",
        variable="scannerdb_batch_rows",
    )
    journal: bool = option(
        True, "Keep the images of every changed row, so that the run can be undone. Off, the run is faster."
    )
    journal_days: int = option(
        90, "Journal entries older than this many days are removed after a run; 0 keeps them all."
    )
    max_lag_mb: int = option(MOST_BEHIND >> 20, "Pause while a standby is more than this many MB behind; 0 never does.")
    require_backup: bool = option(True, "Refuse to change anything without a fresh, verified backup.")
    backup_dir: PathText = option("", "Folder of the backup sets.", given="{{ scannerdb_backup_dir }}")
    backup_max_age_h: float = option(24, "How many hours old that backup may be.")
    backup_level: str = option("read", "How that backup must have been verified at least.", choices=PROOFS)


@dataclass(frozen=True)
class SchemaOptions(OverlayOptions, RunOptions, BudgetOptions):
    """Bring the Ollama Scanner database up to its contract."""

    only: list[str] = option([], "Ids or globs of the findings to repair; all where it is empty.")
    skip: list[str] = option([], "Ids or globs of the findings to leave alone.")
    replace_foreign: bool = option(False, REPLACES_FOREIGN)
    probe: bool = option(True, "Make the write probe.")
