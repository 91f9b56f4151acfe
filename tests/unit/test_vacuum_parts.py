"""The smaller pure parts of vacuum: estimate, choice of tables, SQL, memory, result."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scannerdb.errors import InvalidInput
from scannerdb.vacuum import bloat, memory, pgrepack, report
from scannerdb.vacuum.bloat import ColumnWidth
from scannerdb.vacuum.measure import IndexMeasure, TableMeasure
from scannerdb.vacuum.plan import Action, TableDecision
from scannerdb.vacuum.result import ActionResult
from scannerdb.vacuum.select import select
from scannerdb.vacuum.statements import as_text, statements

INT4 = ColumnWidth(4, True, 4, 0.0, -1)
INT8 = ColumnWidth(8, True, 8, 0.0, -1)
BOOL = ColumnWidth(1, True, 1, 0.0, 2)
TEXT = ColumnWidth(4, False, 20, 0.0, -1)

columns = st.lists(
    st.builds(
        ColumnWidth,
        st.sampled_from([1, 2, 4, 8]),
        st.booleans(),
        st.integers(0, 500).map(float),
        st.floats(0, 1),
        st.floats(-1, 1e6),
    ),
    max_size=20,
)


def table(name: str = "t", schema: str = "public", **more: object) -> TableMeasure:
    sizes = {"live": 100, "dead": 50, "bytes": 9000, "index_bytes": 808, "heap_bytes": 8192}
    return TableMeasure(schema, name, **{**sizes, **more})  # type: ignore[arg-type]


def test_padding_follows_the_order_of_the_columns() -> None:
    assert bloat.data_width([INT4, INT8]) == 16
    assert bloat.data_width([INT8, INT4]) == 12
    assert bloat.data_width([BOOL, INT4, BOOL, INT8]) == 24
    assert bloat.data_width([TEXT, INT4]) == 25.5  # half of the alignment, on average
    assert bloat.heap_tuple_width([INT4]) == 32
    assert bloat.heap_tuple_width([ColumnWidth(4, True, 4, 0.5)] * 9) == 56  # the bitmap of nine needs eight bytes more


def test_known_sizes() -> None:
    # 10,000 rows of one integer: 226 a page in PostgreSQL's own books, 45 pages; its index 30 pages.
    assert bloat.heap_pages([INT4], 10_000, 8192, 100) == 45
    assert bloat.btree_pages([INT4], 10_000, 8192, 90, False) == 30


@given(columns, st.integers(0, 10**9), st.integers(0, 10**9))
def test_more_rows_never_need_fewer_pages(of: list[ColumnWidth], one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert bloat.heap_pages(of, few, 8192, 100) <= bloat.heap_pages(of, many, 8192, 100)
    assert bloat.btree_pages(of, few, 8192, 90, False) <= bloat.btree_pages(of, many, 8192, 90, False)


@given(columns.filter(bool), st.integers(1, 10**9))  # an index has a column
@example(
    [ColumnWidth(1, False, 0.0, 0.0, 321068.0)], 856187
)  # a list of three short keys is longer than they are alone
def test_deduplication_never_makes_an_index_larger(of: list[ColumnWidth], rows: int) -> None:
    assert bloat.btree_bytes_per_row(of, rows, True) <= bloat.btree_bytes_per_row(of, rows, False) + 1e-9


def test_tables_by_name() -> None:
    parts = [
        table("p1", parents=(("public", "whole"),)),
        table("p2", "other", parents=(("public", "whole"),)),
        table("a.b"),
        table("twice"),
        table("twice", "other"),
    ]
    assert select(parts, []) == parts
    assert select(parts, ["whole"]) == parts[:2] == select(parts, ["public.whole"])
    assert select(parts, ["public.twice", "a.b"]) == [parts[2], parts[3]]
    with pytest.raises(InvalidInput, match=r"several schemas.*other\.twice, public\.twice"):
        select(parts, ["twice"])
    with pytest.raises(InvalidInput, match=r"no table named 'nix'.*public\.p1"):
        select(parts, ["nix"])
    with pytest.raises(InvalidInput, match="none at all"):
        select([], ["nix"])


@pytest.mark.parametrize(
    ("action", "version", "parallel", "expected"),
    [
        (
            Action("vacuum", ()),
            150000,
            0,
            ['VACUUM (ANALYZE, SKIP_LOCKED, INDEX_CLEANUP AUTO) "s"."we""ird; drop";'],
        ),
        (
            Action("vacuum", (), freeze=True),
            170000,
            2,
            [
                "VACUUM (ANALYZE, SKIP_LOCKED, INDEX_CLEANUP AUTO, FREEZE, PARALLEL 2, BUFFER_USAGE_LIMIT '4MB') "
                '"s"."we""ird; drop";'
            ],
        ),
        (Action("analyze", ()), 150000, 0, ['ANALYZE (SKIP_LOCKED) "s"."we""ird; drop";']),
        (
            Action("analyze", ()),
            160000,
            0,
            ['ANALYZE (SKIP_LOCKED, BUFFER_USAGE_LIMIT \'4MB\') "s"."we""ird; drop";'],
        ),
        (
            Action("full", ()),
            140000,
            0,
            [
                'VACUUM (FULL) "s"."we""ird; drop";',
                'VACUUM (ANALYZE, SKIP_LOCKED, INDEX_CLEANUP AUTO) "s"."we""ird; drop";',
            ],
        ),
        (
            Action("repack", ()),
            190000,
            2,
            [
                'REPACK (CONCURRENTLY) "s"."we""ird; drop";',
                "VACUUM (ANALYZE, SKIP_LOCKED, INDEX_CLEANUP AUTO, PARALLEL 2, BUFFER_USAGE_LIMIT '4MB') "
                'ONLY "s"."we""ird; drop";',
            ],
        ),
        (
            Action("full", ()),
            180000,
            0,
            [
                'VACUUM (FULL) ONLY "s"."we""ird; drop";',
                "VACUUM (ANALYZE, SKIP_LOCKED, INDEX_CLEANUP AUTO, BUFFER_USAGE_LIMIT '4MB') "
                'ONLY "s"."we""ird; drop";',
            ],
        ),
        (Action("reindex", (), index='i"'), 140000, 0, ['REINDEX INDEX CONCURRENTLY "s"."i""";']),
        (Action("drop_index", (), index="i"), 140000, 0, ['DROP INDEX CONCURRENTLY IF EXISTS "s"."i";']),
    ],
)
def test_sql(action: Action, version: int, parallel: int, expected: list[str]) -> None:
    assert [as_text(query) for query in statements(action, "s", 'we"ird; drop', version, parallel)] == expected


def test_memory_learns_forgets_and_survives_rubbish() -> None:
    before = table(indexes=(IndexMeasure("public", "i", 500, 100.0),))

    def learnt(kind: str, known: dict[str, float], done: bool = True, lock_ms: float = 0.0) -> memory.Memory:
        outcome = ActionResult(TableDecision(before), Action(kind, (), index="i"), done=done)
        outcome.lock.max_lock_ms = lock_ms
        return memory.learn(memory.Memory(known), [outcome], {"public.t": before})

    assert learnt("reindex", {"public.gone": 3.0}).rebuilt == {"public.i": 5.0}
    for kind in ("full", "pg_repack", "repack"):
        assert learnt(kind, {}).rebuilt == {"public.i": 5.0, "public.t": 81.92}
    assert learnt("full", {}, done=False).rebuilt == {}
    assert learnt("full", {}, lock_ms=500.0).rate == 18_000  # 9000 bytes in half a second
    assert learnt("full", {}, lock_ms=1.0).rate == memory.Memory().rate == learnt("pg_repack", {}, lock_ms=500.0).rate
    kept = memory.with_run(learnt("full", {}, lock_ms=500.0), report.run_entry("r", "2026-01-01T00:00:00Z", []))
    assert memory.parse(memory.render(kept)) == kept
    for rubbish in ("", "[]", "{", "null", json.dumps({"rebuilt": {"a": "x"}}), json.dumps({"rebuilt": 3})):
        assert memory.parse(rubbish) == memory.Memory()
    half = json.dumps({"rebuilt": {}, "rate": 0, "runs": [3, {"at": "x"}, dict(kept.runs[0])]})
    assert memory.parse(half) == memory.Memory(runs=kept.runs)


def test_old_runs_are_forgotten() -> None:
    known = memory.Memory()
    for number in range(memory.RUNS_KEPT + 5):
        known = memory.with_run(known, report.run_entry(str(number), "2026-01-01T00:00:00Z", []))
    assert [run["run_id"] for run in known.runs] == [str(n) for n in range(5, memory.RUNS_KEPT + 5)]


def test_pg_repack_ends_nobody_and_waits_no_longer_than_we_do() -> None:
    words = pgrepack.command("/x/pg_repack", table('we"ird; drop', "s"), 90.5)
    assert words[0] == "/x/pg_repack" and words[-1] == '--table="s"."we""ird; drop"'
    assert {"--no-kill-backend", "--wait-timeout=90", "--no-password", "--no-order"} <= set(words)
    assert [as_text(query) for query in pgrepack.drops(table(oid=7))] == [
        'DROP TRIGGER IF EXISTS "repack_trigger" ON "public"."t";',
        'DROP TABLE IF EXISTS "repack"."log_7";',
        'DROP TABLE IF EXISTS "repack"."table_7";',
        'DROP TYPE IF EXISTS "repack"."pk_7";',
    ]


def test_a_vacuum_without_effect_is_no_change() -> None:
    before = table(mod_since_analyze=10)
    useless = ActionResult(TableDecision(before), Action("vacuum", ("dead",)), done=True)
    assert not report.had_effect(useless, before)
    assert report.had_effect(useless, table(dead=49, mod_since_analyze=10))
    assert report.had_effect(useless, table(mod_since_analyze=0))
    forced = ActionResult(TableDecision(before), Action("vacuum", ("asked for",), forced=True), done=True)
    assert report.had_effect(forced, before)
    assert not report.had_effect(ActionResult(TableDecision(before), Action("full", ())), None)


def test_the_sentence() -> None:
    vacuumed = [Action("vacuum", ()), Action("vacuum", ()), Action("analyze", ())]
    assert report.sentence(8, vacuumed, 3 << 20, [], False) == (
        "8 tables examined: 2 vacuumed, 1 analyzed; 3.0 MB given back."
    )
    assert report.sentence(1, vacuumed[:1], 0, [1], True) == ("1 table examined: would be 1 vacuumed; 1 left undone.")
    assert report.sentence(0, [], 0, [], False) == "0 tables examined: nothing to do."
