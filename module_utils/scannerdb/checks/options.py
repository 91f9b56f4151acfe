"""What the check job can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..argspec import OverlayOptions, TrustOptions
from ..finding import SEVERITIES
from ..option import PathText, option
from . import report

FILES = {
    "markdown": report.MARKDOWN,
    "html": "db_schema_issues_report.html",
    "json": report.JSON,
    "junit": "db_schema_issues_report.xml",
    "sarif": "db_schema_issues_report.sarif",
}
FORMATS = ("markdown", "html", "json")
FAIL_ON = (*SEVERITIES, "never")


@dataclass(frozen=True)
class CheckOptions(OverlayOptions, TrustOptions):
    """Check the Ollama Scanner database against its contract and the data's own rules."""

    PREFIX = "scannerdb_check_"
    ignore: list[dict[str, Any]] = option(
        [],
        "Findings not to report. Each entry has an C(id) and a C(reason), and may have an C(object) (both globs) "
        "and C(until), a date after which the finding counts again.",
        as_yaml=True,
    )
    strict: bool = option(
        True,
        "Whether an entry of O(ignore) with an id that no finding has is an error; else it is a warning.",
        given="{{ scannerdb_strict }}",
    )
    fail_on: str = option(
        "never",
        "The module fails, after writing its report, where a finding is as severe as this, or more.",
        choices=FAIL_ON,
        default_in_playbooks="critical",
    )
    formats: list[str] = option(
        list(FORMATS),
        "What the report is written as. C(markdown), C(html) and C(json) are for people and programs, C(junit) "
        "and C(sarif) for pipelines.",
        choices=tuple(FILES),
    )
    thresholds: dict[str, Any] = option(
        {},
        "From where on something is a finding, by name, for example C(disk_free_percent=15). docs/checks.md has the "
        "list.",
        as_yaml=True,
    )
    cross_table: bool = option(
        False,
        "Also look for benchmark results whose model belongs to another endpoint, which joins the two largest tables.",
        default_in_playbooks="{{ scannerdb_profile == 'monthly' }}",
        note="By default only in the monthly profile.",
    )
    standbys: list[str] = option(
        [],
        "Standbys whose use of indexes counts and whose settings are compared, as V(db2), V(db2:5433), "
        "V([2001:db8::2]:5432) or V(/socket/folder:5433), with the same login. Those that stream from the server "
        "now are found by themselves, where they listen on the same port.",
    )
    report_dir: PathText = option(
        "",
        "Folder for C(db_schema_issues_report.md) and its siblings C(.html) and C(.json); none where it is empty.",
        given="{{ scannerdb_report_dir }}",
    )
    log_path: PathText = option(
        "",
        "File to which the run adds its log lines; none where it is empty.",
        given="{{ scannerdb_log_dir }}/db_schema_check.log",
    )
    state_dir: PathText = option(
        "",
        "Folder in whose C(progress/) the run tells how far it is, and whose C(check_history.jsonl) remembers earlier "
        "runs for trends and forecasts; nowhere where it is empty.",
        given="{{ scannerdb_state_dir }}",
    )
    host: str = option(
        "",
        "The database's name in the inventory, for the report; empty for the machine's name.",
        given="{{ inventory_hostname }}",
    )
    backup_dir: PathText = option(
        "",
        "The folder with the backup sets, for the report; none where it is empty.",
        given="{{ scannerdb_backup_dir }}",
    )
    physical: dict[str, Any] = option(
        {},
        "What M(scannerdb_physical_info) saw of the physical backups; its problems become findings.",
        given="{{ __scannerdb_physical_seen }}",
    )
    statement_timeout_s: int = option(300, "A check's statement is cancelled after so many seconds; 0 for never.")
