"""Comparing indexes, suppressing, planning: pure."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.checks.ignore import Ignore, split
from scannerdb.checks.indexes import Idle, IndexInfo, covers, duplicates, redundant, unused
from scannerdb.checks.registry import FAMILIES, KINDS, UNITS
from scannerdb.checks.report import as_markdown
from scannerdb.connection import SQL, Identifier, Literal, text_of
from scannerdb.finding import SEVERITIES, Finding, Fix, matches, ordered, summary
from scannerdb.finding_kinds import BY_FIX, BY_HAND
from scannerdb.fixes.batches import SMALLEST, next_size
from scannerdb.fixes.data import data_fixes, fix_text, orphan_fix
from scannerdb.fixes.policy import FixPolicy, make_plan, too_large
from scannerdb.fixes.ranges import NARROWEST, WIDEST, next_width
from scannerdb.joblock import lock_key
from scannerdb.jobs.check import judged

ROOT = Path(__file__).resolve().parents[2]
ORDER = {kind.id: kind.order for kind in KINDS.values() if kind.id.startswith("schema.") and kind.fixed_by == BY_FIX}
PLAIN = IndexInfo(
    "public",
    "t",
    "a",
    1,
    False,
    False,
    True,
    "btree",
    False,
    ("1",),
    (),
    ("10",),
    ("0",),
    ("0",),
    "",
    "",
    1,
    5,
    False,
)


def index(name: str, columns: str, **more: object) -> IndexInfo:
    keys = tuple(columns.split())
    base = dataclasses.replace(
        PLAIN,
        name=name,
        oid=sum(map(ord, name)),
        columns=keys,
        classes=("10",) * len(keys),
        collations=("0",) * len(keys),
        options=("0",) * len(keys),
    )
    return dataclasses.replace(base, **more)  # type: ignore[arg-type]


def test_of_two_equal_indexes_the_constraint_stays() -> None:
    loser, keeper = index("plain", "1"), index("key", "1", unique=True, constraint=True)
    assert duplicates([loser, keeper]) == [(loser, keeper)]


def test_of_three_equal_indexes_one_stays() -> None:
    three = [index("a", "1"), index("b", "1"), index("c", "1")]
    assert len(duplicates(three)) == 2


@pytest.mark.parametrize(
    "more",
    [
        {"predicate": "x > 0"},
        {"options": ("1",)},
        {"classes": ("11",)},
        {"collations": ("950",)},
        {"included": ("3",)},
        {"method": "hash"},
        {"table": "other"},
    ],
)
def test_what_differs_is_no_duplicate(more: dict[str, object]) -> None:
    assert duplicates([index("a", "1"), index("b", "1", **more)]) == []


@given(st.lists(st.sampled_from(["1", "1 2", "1 2 3", "2", "2 1"]), min_size=2, max_size=6))
def test_dropping_every_redundant_and_duplicate_index_leaves_each_prefix_served(shapes: list[str]) -> None:
    indexes = [index(f"i{n}", shape) for n, shape in enumerate(shapes)]
    twins = {loser.name for loser, _ in duplicates(indexes)}
    rest = [i for i in indexes if i.name not in twins]
    short = {shorter.name for shorter, _ in redundant(rest)}
    left = [i for i in rest if i.name not in short]
    for gone in indexes:
        assert any(i.keys == gone.keys or covers(i, gone) for i in left)


def test_unique_and_demanded_indexes_are_not_redundant() -> None:
    longer = index("long", "1 2")
    assert redundant([index("u", "1", unique=True), longer]) == []
    assert redundant([index("d", "1"), longer], frozenset({"d"})) == []
    assert [s.name for s, _ in redundant([index("r", "1"), longer])] == ["r"]


def test_unused_leaves_out_what_somebody_needs() -> None:
    idle = [Idle("public", "t", name, 1) for name in "abc"]
    assert [i.name for i in unused(idle, frozenset({"b"}), frozenset({("public", "c"), ("other", "a")}))] == ["a"]


def finding(finding_id: str = "schema.index.missing", severity: str = "warning", **more: object) -> Finding:
    fix = Fix(finding_id, (f"-- {finding_id}",), 5, "none")
    return Finding(finding_id, severity, "endpoints.port", "Something.", {}, **{"fix": fix, **more})  # type: ignore[arg-type]


def test_suppressions_end() -> None:
    ignore = Ignore("schema.*", "endpoints.*", "why", datetime.date(2026, 1, 1))
    kept, suppressed = split([finding()], [ignore], datetime.date(2026, 1, 1))
    assert (kept, suppressed[0]["until"]) == ([], "2026-01-01")
    kept, suppressed = split([finding()], [ignore], datetime.date(2026, 1, 2))
    assert (len(kept), suppressed) == (1, [])


@given(st.lists(st.sampled_from(SEVERITIES), max_size=8), st.sampled_from([*SEVERITIES, "never"]))
def test_judging(severities: list[str], fail_on: str) -> None:
    findings = [finding(severity=s) for s in severities]
    result = {"summary": summary(findings), "msg": "", "report": {}}
    worst = min((SEVERITIES.index(s) for s in severities), default=9)
    expected = fail_on != "never" and worst <= SEVERITIES.index(fail_on)
    assert judged(result, fail_on)["failed"] is expected


def test_the_gravest_come_first() -> None:
    mixed = [finding(severity=s) for s in ("info", "critical", "warning")]
    assert [f.severity for f in ordered(mixed)] == list(SEVERITIES)


@pytest.mark.parametrize(
    ("policy", "item", "why"),
    [
        (FixPolicy(only=("data.*",)), finding(), "not selected by scannerdb_fix_only"),
        (FixPolicy(skip=("schema.*",)), finding(), "left out by scannerdb_fix_skip"),
        (FixPolicy(inactive="report"), finding("data.verified.inactive"), "scannerdb_fix_inactive is report"),
        (FixPolicy(honeypots="report"), finding("data.verified.honeypot"), "scannerdb_fix_honeypots is report"),
        (FixPolicy(), finding(fix=None, why_no_fix="Because."), "Because."),
        (FixPolicy(), finding(fix=Fix("x", job="vacuum.yml repairs it")), "vacuum.yml repairs it"),
        (FixPolicy(), finding(fix=Fix("x", consent="scannerdb_fix_y")), "it needs consent: scannerdb_fix_y=true"),
    ],
)
def test_what_is_left_has_a_reason(policy: FixPolicy, item: Finding, why: str) -> None:
    plan = make_plan([item], policy)
    assert plan.steps == []
    assert [s["why"] for s in plan.skipped] == [why]


@given(st.permutations(sorted(ORDER)))
def test_the_plan_is_in_dependency_order_and_complete(ids: list[str]) -> None:
    findings = [Finding(i, "warning", "o", "m", fix=Fix(i, (i,), order=ORDER[i])) for i in ids]
    plan = make_plan(findings, FixPolicy())
    assert sorted(s.finding.id for s in plan.steps) == sorted(ids)
    orders = [s.fix.order for s in plan.steps]
    assert orders == sorted(orders)


def test_one_cause_one_cure() -> None:
    hint = Fix("x", ("REINDEX",))
    plan = make_plan([finding("index.invalid", fix=hint), finding(fix=hint)], FixPolicy())
    assert len(plan.steps) == 1


def test_too_large() -> None:
    plan = make_plan([finding()], FixPolicy())
    rows = {"endpoints": 100}
    assert too_large(plan.steps, rows, FixPolicy(max_share=0.05, large_rows=1)) == []
    assert "would touch 5 rows" in too_large(plan.steps, rows, FixPolicy(max_share=0.04, large_rows=1))[0]
    assert too_large(plan.steps, rows, FixPolicy(max_share=0.04)) == []  # five rows are no catastrophe
    gaps = make_plan([finding("data.endpoints.last_check_date_null")], FixPolicy())
    assert too_large(gaps.steps, rows, FixPolicy(max_share=0.04, large_rows=1)) == []


def test_the_plan_guesses_how_long_it_takes() -> None:
    few = make_plan([finding()], FixPolicy(), {"endpoints": 100}).steps[0].expected_s
    many = make_plan([finding()], FixPolicy(), {"endpoints": 100_000_000}).steps[0].expected_s
    assert 0 < few < many


@given(st.integers(SMALLEST, 100_000), st.floats(0, 100), st.integers(1, 100_000))
def test_batches_stay_within_limits(size: int, elapsed: float, largest: int) -> None:
    following = next_size(size, size, elapsed, largest)
    assert SMALLEST <= following <= max(largest, SMALLEST)
    assert following <= size * 2


@given(st.integers(NARROWEST, WIDEST), st.integers(0, 100_000), st.floats(0, 100), st.integers(NARROWEST, 100_000))
def test_ranges_stay_within_limits(width: int, rows: int, elapsed: float, largest: int) -> None:
    following = next_width(width, rows, elapsed, largest)
    assert NARROWEST <= following <= min(WIDEST, 2 * width)
    if rows > largest:  # as dense as the last one, the next range has no more rows than allowed
        assert following <= max(NARROWEST, width * largest / rows)


def test_honeypots_come_first_and_links_before_dates() -> None:
    order = [fix.id.rsplit(".", 1)[-1] for fix in data_fixes(FixPolicy())]
    assert order.index("honeypot") < order.index("link_stale") < order.index("link_missing")
    assert order.index("link_missing") < order.index("verification_date_null")


def test_the_text_of_a_data_fix_is_one_statement_for_each_write() -> None:
    fix = fix_text(
        [orphan_fix("models", "endpoint_id", "endpoints", "id", [("benchmark_results", "model_id")])], "p", 3
    )
    assert len(fix.sql) == 2
    assert fix.sql[0].startswith('DELETE FROM "p"."benchmark_results" WHERE "model_id" IN')
    assert fix.rows == 3


def test_what_fix_repairs_is_repaired_in_a_test_and_the_other_way_round() -> None:
    named = {kind.id for kind in KINDS.values() if kind.fixed_by == BY_FIX}
    assert {fix.id for fix in data_fixes(FixPolicy())} <= named
    texts = [path.read_text() for path in (ROOT / "tests" / "integration").rglob("test_*.py")]
    assert {kind for kind in named if not any(f'"{kind}"' in text for text in texts)} == set()


def test_the_lock_key_is_the_documented_hash() -> None:
    assert lock_key("ollama_scanner") == -4220125388211641220  # anybody can compute it: docs/concepts.md
    assert lock_key("a") != lock_key("b")


def test_globs() -> None:
    assert matches("data.orphan", ["data.*"])
    assert not matches("data.orphan", ["schema.*"])


@given(st.text(max_size=30))
def test_names_stay_text_in_markdown(name: str) -> None:
    item = Finding("index.unused", "info", name, f"About {name}.")
    server = {"database": name, "version": "17"}
    document = {"server": server, "summary": summary([item]), "suppressed": [], "checked_at": "now"}
    text = as_markdown([item], document)
    assert text.count("## Informational (1)") == 1
    assert "\n| <" not in text


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (SQL("a {}").format(Identifier('x"y', "z")), 'a "x""y"."z"'),
        (SQL("{} {} {}").format(Literal("it's"), Literal(5), Literal(True)), "'it''s' 5 true"),
        (SQL("{}").format(Literal([1, 2])), "ARRAY[1, 2]"),
        ("plain", "plain"),
    ],
)
def test_queries_read_as_sql(query: object, text: str) -> None:
    assert text_of(query) == text  # type: ignore[arg-type]


NOT_TO_BE_HAD = {"capacity.disk.no_copy", "server.version.unsupported", "server.version.ending"}


def test_every_finding_is_met_on_a_real_server() -> None:
    """But for those that need a small disk or a server out of support: these are judged by pure functions."""
    texts = [path.read_text() for path in (ROOT / "tests" / "integration").rglob("test_*.py")]
    texts.append((ROOT / "demo" / "damage.py").read_text())
    met = {finding_id for finding_id in KINDS if any(f'"{finding_id}"' in text for text in texts)}
    assert set(KINDS) - met == NOT_TO_BE_HAD


def test_every_file_of_checks_is_in_the_registry() -> None:
    files = {
        path.stem for path in (ROOT / "module_utils/scannerdb/checks").glob("*.py") if "@check(" in path.read_text()
    }
    assert files == {family.__name__.rpartition(".")[2] for family in FAMILIES}
    names = [unit.name for unit in UNITS]
    assert len(names) == len(set(names))


def test_what_the_bundle_mends_says_its_lock() -> None:
    assert [e.id for e in KINDS.values() if e.fixed_by != BY_HAND and not e.lock] == []
