"""The check job: look, report, judge. Reads only; works on a standby and beside every other job."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checks import report
from ..checks.history import read_history
from ..checks.ignore import parse_ignores, split
from ..checks.thresholds import parse_thresholds
from ..connection import Options, Server, connect, server_of
from ..contract.overlay import contract_with
from ..errors import InvalidInput
from ..files import ensure_folder, write_atomic
from ..finding import SEVERITIES, Finding, summary
from ..runs import Run, utc_now
from .inspect import Deep, inspect

FAIL_ON = (*SEVERITIES, "never")


def check(
    options: Options,
    *,
    overlay: Mapping[str, Any] | None = None,
    ignore: Sequence[Mapping[str, Any]] = (),
    fail_on: str = "never",
    report_dir: str = "",
    log_path: str = "",
    state_dir: str = "",
    thresholds: Mapping[str, Any] | None = None,
    cross_table: bool = False,
    statement_timeout_s: int = 300,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Check a database against its contract and the data's own rules.

    Returns findings, summary, server, suppressed, report (paths), and `failed` where a finding is as grave as `fail_on`
    or graver. The report is written first. In check mode no file is written.
    """
    if fail_on not in FAIL_ON:
        raise InvalidInput(f"fail_on is {fail_on!r}.", f"It is one of {', '.join(FAIL_ON)}.")
    contract = contract_with(overlay)
    ignores = parse_ignores(ignore)
    deep = Deep(parse_thresholds(thresholds), cross_table, read_history(state_dir, options.db))
    run = Run("check", options.db, state_dir="" if check_mode else state_dir, log_path="" if check_mode else log_path)
    run.progress("looking")
    with connect(
        options, purpose=f"check {run.run_id}", statement_timeout_s=statement_timeout_s, allow_standby=True
    ) as conn:
        conn.execute("SET default_transaction_read_only = on")
        server = server_of(conn)
        inspection = inspect(conn, contract, deep=deep)
    now = utc_now()
    findings, suppressed = split(inspection.findings, ignores, now.date())
    result = _result(findings, suppressed, server, now)
    if report_dir and not check_mode:
        result["report"] = _write(report_dir, result, findings, suppressed)
    run.log(result["msg"])
    for finding in findings:
        run.log(f"{finding.severity} {finding.id} {finding.object}: {finding.message}")
    run.progress("done", 1, 1)
    return judged(result, fail_on)


def _result(
    findings: Sequence[Finding], suppressed: list[dict[str, str]], server: Server, now: datetime.datetime
) -> dict[str, Any]:
    counts = summary(findings)
    said = ", ".join(f"{counts[s]} {s}" for s in SEVERITIES)
    return {
        "changed": False,
        "msg": f"{server.database}: {said}.",
        "findings": [finding.public() for finding in findings],
        "summary": counts,
        "suppressed": suppressed,
        "server": {
            "version": server.version,
            "version_num": server.version_num,
            "in_recovery": server.in_recovery,
            "database": server.database,
            "encoding": server.encoding,
            "user": server.user,
        },
        "checked_at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "report": {},
    }


def _write(
    report_dir: str, result: Mapping[str, Any], findings: Sequence[Finding], suppressed: Sequence[Mapping[str, str]]
) -> dict[str, str]:
    folder = ensure_folder(Path(report_dir))
    markdown, as_json = folder / report.MARKDOWN, folder / report.JSON
    text = report.as_markdown(findings, result["summary"], result["server"], result["checked_at"], suppressed)
    write_atomic(markdown, text)
    kept = {k: v for k, v in result.items() if k not in ("changed", "msg", "report")}
    write_atomic(as_json, report.as_json(kept))
    return {"markdown": str(markdown), "json": str(as_json)}


def judged(result: dict[str, Any], fail_on: str) -> dict[str, Any]:
    """The result with `failed` set where a finding is as grave as `fail_on` or graver. Pure."""
    grave = SEVERITIES[: SEVERITIES.index(fail_on) + 1] if fail_on != "never" else ()
    count = sum(result["summary"][severity] for severity in grave)
    failed = count > 0
    message = result["msg"]
    if failed:
        where = result["report"].get("markdown")
        message += f" {count} are {' or '.join(grave)}, on which this check fails (scannerdb_check_fail_on)."
        message += f" Read {where}." if where else ""
    return {**result, "failed": failed, "msg": message}
