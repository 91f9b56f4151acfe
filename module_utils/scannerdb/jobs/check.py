"""The check job: look, report, judge. Reads only; works on a standby and beside every other job."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import gc
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checks import exports, html, report, slow
from ..checks.context import place
from ..checks.history import read_history, remember
from ..checks.ignore import Ignore, parse_ignores, split, unknown_ids
from ..checks.options import FAIL_ON, FILES, CheckOptions
from ..checks.registry import KINDS, THRESHOLDS
from ..checks.since import difference, keep, read_last
from ..checks.thresholds import parse_thresholds
from ..connection import Options, ServerInfo, connect, job_entry, server_of, survived
from ..contract.model import Contract
from ..contract.overlay import contract_with
from ..errors import FileProblem, InvalidInput
from ..files import ensure_folder, write_atomic
from ..finding import SEVERITIES, Finding, ordered, summary
from ..restore.heal import marked_databases
from ..runs import STAMP, Run, utc_now
from ..vacuum.measure import TableMeasure
from ..vacuum.memory import TOTALS as VACUUM_TOTALS
from ..vacuum.memory import read_memory
from .check_backups import backups_of, physical_findings, physical_words
from .inspect import Deep, Inspection, inspect
from .standbys import index_use, place_of

LOCK_TIMEOUT_MS = 10_000  # behind somebody's strong lock a check gives up, and says so; it blocks nobody meanwhile
TABLES = 50  # the largest ones are in the report


@job_entry("The check")
def check(options: Options, asked: CheckOptions | None = None, *, check_mode: bool = False) -> dict[str, Any]:
    """Check a database against its contract and the data's own rules.

    Returns findings, summary, server, suppressed, tables, report (paths), and `failed` where a finding is as severe as
    `fail_on` or more. The report is written first. In check mode no file is written.
    """
    asked = asked or CheckOptions()
    _refuse_unknown("fail_on", [asked.fail_on], FAIL_ON)
    _refuse_unknown("formats", asked.formats, FILES)
    contract = contract_with(asked.contract_overlay)
    ignores = parse_ignores(asked.ignore)
    warnings = _unknown_ignores(ignores, asked.strict)
    past = read_history(asked.state_dir, options.db)
    deep = Deep(parse_thresholds(asked.thresholds, THRESHOLDS), asked.cross_table, past)
    for name in asked.standbys:
        place_of(name, options)
    files = ("", "") if check_mode else (asked.state_dir, asked.log_path)
    run = Run("check", options.db, state_dir=files[0], log_path=files[1])
    run.progress("looking")
    with run.failure_told():
        seen = survived("The check", lambda: _look(options, run.run_id, contract, deep, asked), run.log)
    found = [*seen.inspection.findings, *physical_findings(asked.physical)]
    findings, suppressed = split(ordered(found), ignores, utc_now().date())
    result = _result(findings, suppressed, seen.server, seen.inspection, utc_now())
    _add_surroundings(result, seen, asked, findings)
    now = {**_snapshot(result, seen.inspection), "statements": seen.costs}
    if asked.report_dir and not check_mode:
        try:
            result["report"] = _write(asked, result, findings, [*past, now])
        except FileProblem as error:  # what was found is not lost for that, and a hint may be waiting for it
            warnings.append(f"There is no report: {error}")
    result["warnings"] = warnings
    _log(run, result, findings)
    _remember(run, result, now, findings)
    run.progress("done", 1, 1)
    return judged(result, asked.fail_on)


def _add_surroundings(
    result: dict[str, Any], seen: WhatWasSeen, asked: CheckOptions, findings: Sequence[Finding]
) -> None:
    """Add to a result what is no finding: gauges, statements, backups, and what is new since the last check."""
    database = seen.server.database
    result["server"]["left_by_restores"] = seen.left_by_restores
    result["slow_statements"] = seen.slow
    result["host"] = asked.host or socket.gethostname()
    result["gauges"] = seen.inspection.seen.get("gauges", [])
    result["since"] = difference(read_last(asked.state_dir, database), findings)
    result["backups"] = _backups(asked, database)


def _backups(asked: CheckOptions, database: str) -> dict[str, Any]:
    """The backups for the report; nothing where no folder was named."""
    found = backups_of(asked.backup_dir, database, asked.state_dir, asked.trusted_signers)
    if found:
        found["physical"] = physical_words(asked.physical)
    return found


def _remember(run: Run, result: Mapping[str, Any], now: Mapping[str, Any], findings: Sequence[Finding]) -> None:
    """Leave this run for the next one to compare with; that it could not be left fails nothing."""
    database = result["server"]["database"]
    trouble = remember(run.state_dir, now) or keep(run.state_dir, database, result["checked_at"], findings)
    if trouble:
        run.log(f"this run is not in the history: {trouble}")


def _unknown_ignores(ignores: Sequence[Ignore], strict: bool) -> list[str]:
    """Warnings about ids to ignore that no finding has; raises `InvalidInput` instead where that is not to pass."""
    said = unknown_ids(ignores, KINDS)
    if said and strict:
        raise InvalidInput(" ".join(said), "Correct it (docs/checks.md has the ids), or set scannerdb_strict to false.")
    return said


@dataclasses.dataclass(frozen=True)
class WhatWasSeen:
    """What one look finds: the inspection, what restores left, and the slow statements with all their `costs`."""

    server: ServerInfo
    inspection: Inspection
    left_by_restores: list[str]
    slow: dict[str, Any]
    costs: dict[str, list[float]]


def _look(options: Options, run_id: str, contract: Contract, deep: Deep, asked: CheckOptions) -> WhatWasSeen:
    """Inspect the database on one read-only connection."""
    limit = asked.statement_timeout_s
    session = connect(options, purpose=f"check {run_id}", statement_timeout_s=limit, allow_standby=True)
    with uncollected(), session as conn:
        conn.execute("SET default_transaction_read_only = on")
        conn.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
        server = server_of(conn)
        deep = dataclasses.replace(deep, standbys=index_use(conn, options, asked.standbys))
        inspection = inspect(conn, contract, deep=deep)
        return WhatWasSeen(server, inspection, marked_databases(conn, server.database), *slow.collect(conn, deep.past))


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """No search for cyclic garbage during the block.

    A look at thousands of tables makes objects by the ten thousand, none of them in a cycle; walking through them again
    and again took half of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _refuse_unknown(option: str, given: Sequence[str], known: Any) -> None:
    for value in given:
        if value not in known:
            raise InvalidInput(f"{option} is {value!r}.", f"It is one of {', '.join(known)}.")


def _log(run: Run, result: Mapping[str, Any], findings: Sequence[Finding]) -> None:
    run.log(result["msg"])
    for finding in findings:
        run.log(f"{finding.severity} {finding.id} {finding.object}: {finding.message}")


def _result(
    findings: Sequence[Finding],
    suppressed: list[dict[str, str]],
    server: ServerInfo,
    inspection: Inspection,
    now: datetime.datetime,
) -> dict[str, Any]:
    counts = summary(findings)
    said = ", ".join(f"{counts[s]} {s}" for s in SEVERITIES)
    largest = sorted(inspection.measures, key=lambda m: (-m.bytes, m.qualified))[:TABLES]
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
        "database_bytes": inspection.seen.get("bytes"),
        "tables": [_size(measure) for measure in largest],
        "checked_at": now.strftime(STAMP),
        "report": {},
    }


def _size(m: TableMeasure) -> dict[str, Any]:
    sizes = {"bytes": m.bytes, "index_bytes": m.index_bytes, "rows": m.live, "dead_rows": m.dead}
    return {"name": place(m.schema, m.name), **sizes}


def _snapshot(result: Mapping[str, Any], inspection: Inspection) -> dict[str, Any]:
    """What this run leaves for the next ones."""
    return {
        "at": result["checked_at"],
        "database": result["server"]["database"],
        "summary": result["summary"],
        "bytes": result["database_bytes"] or 0,
        "tables": {table["name"]: table["bytes"] for table in result["tables"]},
        "sequences": inspection.seen.get("sequences", {}),
    }


def _write(
    asked: CheckOptions,
    result: Mapping[str, Any],
    findings: Sequence[Finding],
    runs: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    """Write the report in each format; returns the paths."""
    document = {k: v for k, v in result.items() if k not in ("changed", "msg", "report")}
    document["vacuum"] = [{k: run[k] for k in ("at", *VACUUM_TOTALS)} for run in read_memory(asked.state_dir).runs]
    document["trend"] = [{k: run[k] for k in ("at", "summary", "bytes")} for run in runs]
    rendered = {
        "markdown": lambda: report.as_markdown(findings, document),
        "html": lambda: html.as_html(findings, document, runs),
        "json": lambda: report.as_json(document),
        "junit": lambda: exports.as_junit(findings, document),
        "sarif": lambda: exports.as_sarif(findings, document),
    }
    folder, paths = ensure_folder(Path(asked.report_dir)), {}
    for name in asked.formats:
        write_atomic(folder / FILES[name], rendered[name]())
        paths[name] = str(folder / FILES[name])
    return paths


def judged(result: dict[str, Any], fail_on: str) -> dict[str, Any]:
    """The result with `failed` set where a finding is as severe as `fail_on` or more severe. Pure."""
    severe = SEVERITIES[: SEVERITIES.index(fail_on) + 1] if fail_on != "never" else ()
    count = sum(result["summary"][severity] for severity in severe)
    failed = count > 0
    message = result["msg"]
    if failed:
        where = result["report"].get("markdown") or next(iter(result["report"].values()), "")
        message += f" {count} are {' or '.join(severe)}, on which this check fails (scannerdb_check_fail_on)."
        message += f" Read {where}." if where else ""
    return {**result, "failed": failed, "msg": message}
