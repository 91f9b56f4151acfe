"""Counting rows in what pg_restore prints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scannerdb.sets.manifest import TableCount
from scannerdb.sets.row_counts import CopyCounter, differences, table_of

HEAD = b"--\n-- Data for Name: a; Type: TABLE DATA\n--\n\n"
ONE = HEAD + b"COPY public.a (i, t) FROM stdin;\n1\tx\n2\ty\\n\n3\t\\\\.\n\\.\n\n\n"
EMPTY = HEAD + b"COPY public.e  FROM stdin;\n\\.\n\n\n"
ODD = HEAD + b'COPY "we""ird; x"."a\nb FROM stdin;\n" ("c FROM stdin;") FROM stdin;\n5\n\\.\n\n\n'
TAIL = b"SELECT pg_catalog.setval('public.a_id_seq', 9, true);\n"


def counted(*pieces: bytes) -> CopyCounter:
    counter = CopyCounter()
    for piece in pieces:
        counter.feed(piece)
    return counter


def test_rows_of_each_block() -> None:
    counter = counted(ONE + EMPTY + ODD + TAIL)
    assert [(table_of(header), rows) for header, rows in counter.blocks] == [
        (("public", "a"), 3),
        (("public", "e"), 0),
        (('we"ird; x', "a\nb FROM stdin;\n"), 1),
    ]
    assert not counter.unfinished


@given(st.lists(st.integers(1, 40), max_size=60))
def test_how_the_output_is_cut_into_pieces_makes_no_difference(sizes: list[int]) -> None:
    whole = ONE + EMPTY + ODD + EMPTY + TAIL
    pieces, rest = [], whole
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    assert counted(*pieces, rest).blocks == counted(whole).blocks
    assert counted(*(bytes([byte]) for byte in whole)).blocks == counted(whole).blocks


@pytest.mark.parametrize("missing", range(1, 40))
def test_output_that_breaks_off_shows(missing: int) -> None:
    expected = [TableCount("public", "e", 0), TableCount("public", "a", 3)]
    text = EMPTY + ONE.rstrip(b"\n") + b"\n"
    assert differences(counted(text), expected) == []
    assert differences(counted(text[:-missing]), expected) != []


def test_a_block_without_its_end_runs_into_the_next_and_shows() -> None:
    broken = ONE.replace(b"3\t\\\\.\n\\.\n", b"3\t\\\\") + EMPTY + TAIL
    assert differences(counted(broken), [TableCount("public", "a", 3), TableCount("public", "e", 0)])


def test_missing_and_surplus_rows_are_told() -> None:
    problems = differences(counted(ONE), [TableCount("public", "a", 4), TableCount("public", "gone", 1)])
    assert problems == [
        "The dump holds 3 rows of public.a; the snapshot had 4.",
        "The dump holds 0 rows of public.gone; the snapshot had 1.",
    ]


def test_a_table_that_is_not_in_the_dump_shows_even_when_it_was_empty() -> None:
    assert differences(counted(ONE), [TableCount("public", "e", 0)])


def test_names_in_another_encoding_are_compared_by_their_counts() -> None:
    latin = HEAD + "COPY public.fü (i) FROM stdin;\n1\n\\.\n".encode("latin-1")
    assert differences(counted(latin), [TableCount("public", "fü", 1)]) == []
    assert differences(counted(latin), [TableCount("public", "fü", 2)])


def test_blocks_the_manifest_does_not_know_are_passed_over() -> None:
    assert differences(counted(ONE + EMPTY), [TableCount("public", "a", 3)]) == []
