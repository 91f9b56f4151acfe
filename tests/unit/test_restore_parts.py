"""The pure parts of a restore: names and comments, sources, lists, statements, and what counts as an error."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scannerdb.connection import Options, text_of
from scannerdb.errors import BackupInvalid, InvalidInput, PrivilegeMissing, RestoreRefused, ValidationFailed
from scannerdb.load.contents import Contents, parse_list, structure_lines, wanted_lines, without_roles
from scannerdb.load.failures import Failure, failures_in
from scannerdb.load.leave_out import item_of, named
from scannerdb.load.pg_restore import NEWER_SETTINGS, command, conninfo, interrupted
from scannerdb.load.preflight import check_superuser_objects
from scannerdb.load.role_mapping import RoleRules
from scannerdb.load.target import Target, create_statement, property_statements, split_list, target_from_script
from scannerdb.load.validation import check_counts, new_losses
from scannerdb.process import Finished
from scannerdb.restore.cutover import Switch, block
from scannerdb.restore.downtime_probe import gap_ms
from scannerdb.restore.heal import Found, diagnose, kept_databases
from scannerdb.restore.marks import LONGEST, DatabaseMark, kept_name, looks_like_side, parse_mark, side_name
from scannerdb.restore.plan import check_roles, drilled_rate
from scannerdb.restore.request import RestoreRequest, check_request
from scannerdb.sets.archive import Header, detect, parse_header
from scannerdb.sets.locate import locate, parse_moment
from scannerdb.tools import Tools

RUN = "20250418T031500Z-0a1b2c3d"
NAMES = ["ollama_scanner", 'we"ird; drop', "a=b", "x" * 63, "ü" * 31 + "x", "日" * 21]


@pytest.mark.parametrize("name", NAMES)
def test_generated_names_fit_and_stay_apart(name: str) -> None:
    made = {side_name(name, RUN), kept_name(name, RUN), side_name(name, RUN[:-1] + "e"), name}
    assert len(made) == 4
    assert all(len(text.encode()) <= LONGEST for text in made)
    assert looks_like_side(side_name(name, RUN), name)
    assert not looks_like_side(kept_name(name, RUN), name)
    assert not looks_like_side(side_name(name, RUN), name + "2")


def test_names_that_are_cut_alike_stay_apart() -> None:
    one, two = "x" * 62 + "a", "x" * 62 + "b"
    assert side_name(one, RUN) != side_name(two, RUN)
    assert not looks_like_side(side_name(one, RUN), two)


def test_a_short_name_is_readable() -> None:
    assert side_name("ollama_scanner", RUN) == "ollama_scanner__restore_0a1b2c3d"
    assert kept_name("ollama_scanner", RUN) == "ollama_scanner__before_0a1b2c3d"


@pytest.mark.parametrize("kind", ["side", "kept"])
def test_a_mark_comes_back(kind: str) -> None:
    mark = DatabaseMark(kind, 'we"ird', RUN, "2025-04-18T03:15:00Z", "/a/b", switching=True, comment="it's {mine}")
    assert parse_mark(mark.text()) == mark


@pytest.mark.parametrize(
    "text", [None, "", "hello", "{", "{}", '{"scannerdb": 1}', '{"scannerdb": "odd", "database": "x"}', "[]"]
)
def test_other_comments_are_no_marks(text: str | None) -> None:
    assert parse_mark(text) is None


def _number(value: int) -> bytes:
    return bytes([value < 0]) + abs(value).to_bytes(4, "little")


def _string(text: str) -> bytes:
    return _number(len(text.encode())) + text.encode()


@pytest.mark.parametrize(("minor", "compression"), [(14, _number(-1)), (15, b"\x01"), (16, b"\x03")])
def test_the_head_of_an_archive(minor: int, compression: bytes) -> None:
    head = b"PGDMP" + bytes([1, minor, 0, 4, 8, 1]) + compression + _number(0) * 7
    data = head + _string('we"ird') + _string("15.18 (Debian 15.18)") + _string("17.10") + b"rest"
    header = parse_header(data)
    assert header == Header('we"ird', "15.18 (Debian 15.18)", "17.10")
    assert (header.server_major, header.dump_major) == (15, 17)
    for length in range(len(data) - 4):
        with pytest.raises((ValueError, IndexError)):
            parse_header(data[:length])


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", BackupInvalid, "empty"),
        (b"\x1f\x8b\x08\x00", RestoreRefused, "gzip"),
        (b"\x28\xb5\x2f\xfd", RestoreRefused, "zstd"),
        (b"PGDUMP", BackupInvalid, "not an archive"),
        (b"\x00" * 600, BackupInvalid, "not an archive"),
    ],
)
def test_a_file_is_told_by_its_first_bytes(tmp_path: Path, content: bytes, error: type[Exception], words: str) -> None:
    path = tmp_path / "ollama_scanner_20250418_120000.backup"
    path.write_bytes(content)
    with pytest.raises(error, match=words):
        detect(path)


def test_archives_are_told_by_their_first_bytes(tmp_path: Path) -> None:
    custom, tar, folder = tmp_path / "a.sql", tmp_path / "b.txt", tmp_path / "c"
    custom.write_bytes(b"PGDMP\x01\x0e")
    tar.write_bytes(b"toc.dat".ljust(257, b"\0") + b"ustar\0")
    folder.mkdir()
    (folder / "toc.dat").write_bytes(b"PGDMP")
    assert [detect(path) for path in (custom, tar, folder)] == ["custom", "tar", "directory"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-04-18", "2025-04-18T23:59:59+00:00"),
        ("2025-04-18 12:00", "2025-04-18T12:00:00+00:00"),
        ("2025-04-18T12:00:30Z", "2025-04-18T12:00:30+00:00"),
        ("2025-04-18T12:00:30+02:00", "2025-04-18T12:00:30+02:00"),
        ("ollama_scanner_20250418_120000", None),
        ("latest", None),
    ],
)
def test_times(text: str, moment: str | None) -> None:
    assert parse_moment(text) == (datetime.datetime.fromisoformat(moment) if moment else None)


def test_the_estimate_is_the_last_drills() -> None:
    def one(seconds: float, size: int) -> Any:
        return SimpleNamespace(
            standing=SimpleNamespace(restore_s=seconds),
            manifest=SimpleNamespace(database=SimpleNamespace(size_bytes=size)),
        )

    assert drilled_rate([one(0, 100), one(4, 100), one(1, 100)]) == 25
    assert drilled_rate([one(0, 100)]) == drilled_rate([]) == 0


def test_a_date_that_does_not_exist() -> None:
    with pytest.raises(InvalidInput, match="not a time"):
        parse_moment("2025-02-30")


def test_the_newest_at_or_before(tmp_path: Path) -> None:
    for stamp in ("20250101_000000", "20250201_000000", "20250301_000000"):
        (tmp_path / f"x_{stamp}.backup").write_bytes(b"PGDMP")
    a_set = (datetime.datetime(2025, 2, 10, tzinfo=datetime.timezone.utc), tmp_path / "a set")
    assert locate("2025-02-05", tmp_path, [a_set]).name == "x_20250201_000000.backup"
    assert locate("2025-02-15", tmp_path, [a_set]).name == "a set"
    assert locate("2025-02-01T00:00:00Z", tmp_path).name == "x_20250201_000000.backup"
    with pytest.raises(BackupInvalid, match="the oldest is of 2025-01-01"):
        locate("2024-12-31", tmp_path)


LISTING = """;
; Archive created at 2025-04-18 12:00:00 UTC
;     dbname: ollama_scanner
2; 3079 16390 EXTENSION - pg_trgm .
4000; 0 0 COMMENT - EXTENSION pg_trgm .
3; 3079 12 EXTENSION - plpgsql .
215; 1259 16386 TABLE public endpoints scanner_owner
216; 1259 16387 TABLE public two words Gone, role
4001; 0 0 ACL public TABLE endpoints scanner_owner
4100; 0 16386 TABLE DATA public endpoints scanner_owner
4200; 826 1 DEFAULT ACL public DEFAULT PRIVILEGES FOR TABLES scanner_owner
4300; 6100 1 SUBSCRIPTION - sub postgres
""".replace(" .\n", " \n")  # no owner: the line ends in a blank


def test_the_table_of_contents() -> None:
    contents = Contents(parse_list(LISTING), frozenset({"Gone, role", "scanner_owner"}), frozenset({"ollama"}))
    assert contents.extensions == ["pg_trgm"]
    assert contents.tables == 2
    assert contents.roles == {"Gone, role", "scanner_owner", "ollama"}
    lines = wanted_lines(contents, superuser=False)
    assert not [line for line in lines if "plpgsql" in line or "SUBSCRIPTION" in line or "COMMENT" in line]
    assert [line for line in wanted_lines(contents, superuser=True) if "COMMENT" in line]
    assert len(lines) == 6
    assert not [line for line in structure_lines(contents) if "TABLE DATA" in line]
    assert len(structure_lines(contents)) == 6, "the comment on the extension is in, the rows are not"
    assert [line for line in lines if line not in without_roles(contents, lines)] == [
        "4001; 0 0 ACL public TABLE endpoints scanner_owner",
        "4200; 826 1 DEFAULT ACL public DEFAULT PRIVILEGES FOR TABLES scanner_owner",
    ]


def test_missing_roles_stop_unless_told() -> None:
    check_roles(["a"], "create")
    check_roles([], "stop")
    with pytest.raises(RestoreRefused, match="does not have: a, b"):
        check_roles(["a", "b"], "stop")


def _texts(target: Target, name: str = 'we"ird') -> list[str]:
    return [text_of(statement) for statement in property_statements(name, target)]


def test_create_database() -> None:
    target = Target(owner="o", encoding="UTF8", lc_collate="C", lc_ctype="C", locale_provider="icu", locale="de")
    text = text_of(create_statement('we"ird', target, 17))
    assert text == (
        "CREATE DATABASE \"we\"\"ird\" WITH TEMPLATE template0 OWNER \"o\" ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
        " LOCALE_PROVIDER 'icu' ICU_LOCALE 'de'"
    )
    assert "LOCALE_PROVIDER" not in text_of(create_statement("x", Target(locale_provider="libc"), 14))
    assert text_of(create_statement("x", Target(tablespace="pg_default"), 17)).endswith("template0")
    assert text_of(create_statement("x", Target(), 17, closed=True)).endswith("CONNECTION LIMIT 0")
    assert "BUILTIN_LOCALE 'C.UTF-8'" in text_of(
        create_statement("x", Target(locale_provider="builtin", locale="C.UTF-8"), 17)
    )


def test_settings_and_privileges() -> None:
    target = Target(
        owner="o",
        grants=(("", "TEMPORARY", False), ("o", "CONNECT", True), ("r", "CONNECT", True), ("r", "odd; DROP", False)),
        settings=(("", "search_path", '"$user", public, "a, ""b"'), ("r", "my.note", "it's"), ("", "work_mem", "1MB")),
        connection_limit=7,
    )
    assert _texts(target) == [
        'ALTER DATABASE "we""ird" SET "search_path" TO \'$user\', \'public\', \'a, "b\'',
        'ALTER ROLE "r" IN DATABASE "we""ird" SET "my"."note" TO \'it\'\'s\'',
        'ALTER DATABASE "we""ird" SET "work_mem" TO \'1MB\'',
        'REVOKE ALL ON DATABASE "we""ird" FROM PUBLIC',
        'REVOKE ALL ON DATABASE "we""ird" FROM "o"',
        'GRANT TEMPORARY ON DATABASE "we""ird" TO PUBLIC',
        'GRANT CONNECT ON DATABASE "we""ird" TO "o"',
        'GRANT CONNECT ON DATABASE "we""ird" TO "r" WITH GRANT OPTION',
        'ALTER DATABASE "we""ird" WITH CONNECTION LIMIT 7',
    ]
    assert _texts(Target(owner="o")) == ['ALTER DATABASE "we""ird" WITH CONNECTION LIMIT -1']
    assert _texts(target.under(RoleRules(ignored=frozenset({"r", "o"}))), "x") == [
        "ALTER DATABASE \"x\" SET \"search_path\" TO '$user', 'public', 'a, \"b'",
        'ALTER DATABASE "x" SET "work_mem" TO \'1MB\'',
        'REVOKE ALL ON DATABASE "x" FROM PUBLIC',
        'GRANT TEMPORARY ON DATABASE "x" TO PUBLIC',
        'ALTER DATABASE "x" WITH CONNECTION LIMIT 7',
    ]


def test_a_target_whose_roles_are_replaced() -> None:
    """What a role has itself goes before what it takes over; rights are added up."""
    target = Target(
        owner="a",
        grants=(("a", "CONNECT", True), ("b", "CONNECT", False), ("", "CONNECT", False)),
        settings=(("a", "work_mem", "1MB"), ("b", "work_mem", "2MB"), ("a", "my.note", "x")),
    )
    mapped = target.under(RoleRules({"a": "b"}))
    assert (mapped.owner, mapped.grants) == ("b", (("b", "CONNECT", True), ("", "CONNECT", False)))
    assert mapped.settings == (("b", "work_mem", "2MB"), ("b", "my.note", "x"))
    swapped = target.under(RoleRules({"a": "b", "b": "a"}))
    assert (swapped.owner, swapped.grants[:2]) == ("b", (("b", "CONNECT", True), ("a", "CONNECT", False)))


@pytest.mark.parametrize(
    ("value", "items"),
    [("", []), ('""', []), ("public", ["public"]), ('"$user", public', ["$user", "public"]), ('"a""b"', ['a"b'])],
)
def test_list_settings(value: str, items: list[str]) -> None:
    assert split_list(value) == items


def test_the_archives_own_create_database() -> None:
    script = (
        "CREATE DATABASE x WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'de_DE.utf8';\n"
        'ALTER DATABASE x OWNER TO "the ""owner";\n'
    )
    target = target_from_script(script)
    assert (target.owner, target.encoding, target.lc_collate, target.lc_ctype, target.locale_provider) == (
        'the "owner',
        "UTF8",
        "de_DE.utf8",
        "de_DE.utf8",
        "libc",
    )
    assert target_from_script("").owner == ""


ERRORS = """pg_restore: error: could not execute query: FEHLER: unbekannter Parameter »transaction_timeout«
Command was: SET transaction_timeout = 0;
pg_restore: error: could not execute query: ERROR:  role "gone" does not exist
Command was: ALTER TABLE public.x OWNER TO gone;

pg_restore: warning: errors ignored on restore: 2
"""


TOC = """
3; 1259 1 TABLE public x y owner
4; 0 1 TABLE DATA public x y owner
5; 0 2 TABLE DATA other x y owner
6; 1259 3 INDEX public i it's owner
7; 2606 4 FK CONSTRAINT public x some key the owner
"""
SCRIPT = """
-- TOC entry 6 (class 1259 OID 3)
-- Name: i it's; Type: INDEX

CREATE INDEX "i it's" ON public."x y" USING btree (public.f(a));

-- TOC entry 7 (class 2606 OID 4)

ALTER TABLE ONLY public.x
    ADD CONSTRAINT a;
"""


def failed_in(stderr: str) -> list[tuple[str, str, bool]]:
    contents = Contents(parse_list(TOC), frozenset({"owner", "the owner"}))
    found = failures_in(stderr, contents, re.compile(NEWER_SETTINGS), lambda: SCRIPT)
    return [(f.name(contents), f.said, f.guessed) for f in found]


def test_failures_and_their_entries() -> None:
    """By the number that pg_restore says, by the table of a COPY, or by the command, which it cuts off."""
    (strange,) = failed_in(ERRORS)
    assert strange[0] == "" and strange[1].startswith('ERROR: role "gone" does not exist Command was: ALTER TABLE')
    error = "pg_restore: error: could not execute query: ERROR:  no\nCommand was: "
    index = 'public."i it\'s"'
    assert failed_in(f"pg_restore: from TOC entry 6; 1259 3 INDEX i it's owner\n{error}x;") == [
        (index, "ERROR: no Command was: x;", False)
    ]
    assert [f[0] for f in failed_in(f'{error}CREATE INDEX "i it\'s" ON public."x y" USING bt...')] == [index]
    key = failed_in(f"{error}ALTER TABLE ONLY public.x\n    ADD CONSTRAINT a;\n")
    assert [f[0] for f in key] == ['public.x."some key"']
    told = failed_in('pg_restore: error: COPY failed for table "x y": ERROR:  no\nCONTEXT:  COPY x y, line 1')
    assert [(f[0], f[2]) for f in told] == [('public."x y"', True), ('other."x y"', True)]


def test_only_known_faults_are_the_sets() -> None:
    for state, faulty in (("23503", True), ("42P01", True), ("P0001", True), ("22P02", True), ("22023", False)):
        assert Failure(None, "", state).faulty == faulty
    for state in ("", "42501", "42704", "0A000", "58P01", "57P01", "53100", "XX000", "40001"):
        assert not Failure(None, "", state).faulty
    assert Failure(None, "", "", unreadable=True).faulty


def test_what_only_a_superuser_brings_back() -> None:
    weak = SimpleNamespace(superuser=False, user="maint")
    check_superuser_objects(weak, {"TABLE"}, ["GRANT SELECT ON TABLE a TO b;"])  # type: ignore[arg-type]
    for kinds, statements in (({"EVENT TRIGGER"}, []), (set(), ["\nSET SESSION AUTHORIZATION x;"])):
        with pytest.raises(PrivilegeMissing, match="cannot bring back"):
            check_superuser_objects(weak, kinds, statements)  # type: ignore[arg-type]


def test_names_of_what_is_left_out() -> None:
    contents = Contents(parse_list(TOC), frozenset({"owner", "the owner"}))
    by_kind = {entry.kind: entry for entry in contents.entries if entry.schema == "public"}
    names = named(['"i it\'s"', 'public.x."some key"'])
    assert names.entry(by_kind["INDEX"]) and names.entry(by_kind["FK CONSTRAINT"])
    assert not names.entry(by_kind["TABLE DATA"]) and not names.unknown(contents, "")
    assert named(['public."x y"']).entry(by_kind["TABLE DATA"]) and not named(['"x y"']).entry(by_kind["TABLE"])
    assert named(["gone", "c"]).unknown(contents, "CONSTRAINT c CHECK (true)") == ["gone"]
    assert named([item_of(by_kind["TABLE DATA"], contents.owners)]).entry(by_kind["TABLE DATA"])
    for wrong in ("", "a.b.c.d", '"', "a..b", ".a"):
        with pytest.raises(InvalidInput, match="no name"):
            named([wrong])


QUERY, COPY = "could not execute query: ", 'COPY failed for table "a": '


@pytest.mark.parametrize(
    "words",
    [
        QUERY + 'ERROR:  could not extend file "base/5/1": No space left on device\nHINT:  Check free disk space.',
        QUERY + 'ERROR:  could not write block 7 of temporary file "base/t": No space left on device\nCommand was: x',
        COPY + "ERROR:  out of memory\nDETAIL:  Failed on request of size 8.",
        QUERY + "FATAL:  terminating connection due to administrator command\nserver closed the connection",
        QUERY + "server closed the connection unexpectedly\n\tThis probably means",
        "error returned by PQputCopyData: server closed the connection unexpectedly",
        'connection to server on socket "/x/.s" failed: FATAL:  the database system is in recovery mode',
        "a worker process died unexpectedly",
        "out of memory",
    ],
)
def test_what_the_server_is_to_blame_for(words: str) -> None:
    harmless = "".join(ERRORS.splitlines(keepends=True)[:2])
    assert interrupted(Finished("", f"pg_restore: warning: x\npg_restore: error: {words}\n", 1))
    assert interrupted(Finished("", f"{harmless}pg_restore: error: {words}\n", 1))


@pytest.mark.parametrize(
    "name", ["signal", "out of memory", "ERROR:  out of memory", "a file: No space left on device"]
)
def test_names_do_not_blame_the_server(name: str) -> None:
    for words in (
        f'{QUERY}ERROR:  insert or update on table "{name}" violates foreign key constraint "{name}"',
        f'{QUERY}ERROR:  could not create unique index "{name}"\nDETAIL:  Key (a)=(out of memory) is duplicated.',
        f'COPY failed for table "{name}": ERROR:  invalid input syntax\nCONTEXT:  COPY {name}, line 1: "{name}"',
    ):
        after = "pg_restore: error: a worker process died unexpectedly\n"
        assert not interrupted(Finished("", f"pg_restore: error: {words}\n{after}", 1))
    assert interrupted(Finished("", "", -9))


def test_the_command_line() -> None:
    tools = Tools("/bin", "17.1")
    words = command(tools, Path("/a b"), "custom", "a=b", "/l", 4)
    assert words == ["/bin/pg_restore", "--dbname=dbname='a=b'", "--use-list=/l", "--jobs=4", "/a b"]
    assert "--jobs=4" not in command(tools, Path("/a"), "tar", "x", "/l", 4)
    assert conninfo("it's \\") == "dbname='it\\'s \\\\'"


def test_counts_and_losses() -> None:
    check_counts([("public", "a", 3)], {("public", "a"): 3})
    with pytest.raises(ValidationFailed, match=r"public.a has 2 instead of 3 rows; public.b has no table instead of 0"):
        check_counts([("public", "a", 3), ("public", "b", 0)], {("public", "a"): 2, ("public", "b"): -1})
    lost = ("schema.table.missing", "public.metadata")
    assert new_losses([lost, ("schema.view.trigger", "servers")], []) == [lost]
    assert new_losses([lost], [lost]) == []


def test_a_table_that_the_live_database_lacks_loses_nothing_more() -> None:
    live = [("schema.table.missing", "models")]
    parts = [("schema.column.missing", "models.size_mb"), ("schema.primary_key.missing", "models(id)")]
    other = ("schema.column.missing", "endpoints.port")
    assert new_losses([*parts, other], live) == [other]


def test_the_gap_a_client_sees() -> None:
    assert gap_ms([(0.0, 1), (0.5, 1), (0.5375, 2), (0.6, 2)]) == 37.5
    assert gap_ms([(0.0, 1), (1.0, 1)]) is None
    assert gap_ms([]) is None


def _found(name: str, kind: str = "", **more: object) -> Found:
    mark = DatabaseMark(kind, "db", RUN, str(more.pop("at", "2025")), switching=bool(more.pop("switching", False)))
    is_open = bool(more.pop("open", True))
    return Found(name, is_open, mark if kind else None, bool(kind) or bool(more.pop("commented", False)), 0)


def test_a_diagnosis() -> None:
    assert diagnose([_found("db"), _found("k", "kept")], "db") == []
    assert diagnose([_found("db", open=False)], "db") == []  # closed by hand
    told = diagnose([_found("db", open=False), _found("s", "side", switching=True)], "db")
    assert ["opened again" in told[0], "removed" in told[1]] == [True, True]
    assert len(diagnose([_found("db", open=False), _found("k", "kept", switching=True, open=False)], "db")) == 2


def test_the_newest_kept_database_comes_first() -> None:
    found = [_found("a", "kept", at="2025-01"), _found("b", "kept", at="2025-03"), _found("s", "side"), _found("db")]
    assert [item.name for item in kept_databases(found, "db")] == ["b", "a"]


@pytest.mark.parametrize("confirm", ["", "Db", "db ", "other"])
def test_the_name_has_to_be_spelled_out(confirm: str) -> None:
    with pytest.raises(RestoreRefused, match="spelled out"):
        check_request(Options(db="db"), RestoreRequest(Path("/b"), confirm=confirm))


def test_no_restore_from_inside() -> None:
    with pytest.raises(InvalidInput, match="from inside"):
        check_request(Options(db="postgres"), RestoreRequest(Path("/b"), confirm="postgres"))


def test_the_block_quotes_what_it_is_given() -> None:
    name = "'; DROP TABLE x; -- \\ $$ $body$"
    mark = DatabaseMark("side", name, RUN, "now")
    text = text_of(block(Switch(name, name, name, True, mark, mark, comment=name)))
    # Without a connection, libpq writes backslashes as the last one that there was would read them.
    text = text.replace("\\\\", "\\") if text.startswith("DO  E'") else text
    assert "live constant text := E''\\''; DROP" in text
    assert "comment constant text := NULL" in text_of(block(Switch("a", "b", "c", False, mark, mark)))


def test_latest_in_an_old_folder_is_its_newest_file(tmp_path: Path) -> None:
    """The old script's link is written from the project's folder, so it is always broken inside `backups/`."""
    for stamp in ("20250101_030000", "20250301_030000", "20250201_030000"):
        (tmp_path / f"ollama_scanner_{stamp}.backup").write_bytes(b"")
    (tmp_path / "latest.backup").symlink_to("backups/ollama_scanner_20250301_030000.backup")
    assert locate("latest", tmp_path).name == "ollama_scanner_20250301_030000.backup"
    with pytest.raises(BackupInvalid, match="leads to"):  # among sets of our own, a broken link is damage
        locate("latest", tmp_path, [(datetime.datetime.now(datetime.timezone.utc), tmp_path)])
    (tmp_path / "other_20250401_030000.backup").write_bytes(b"")
    with pytest.raises(BackupInvalid, match="old backups of ollama_scanner, other"):
        locate("latest", tmp_path)
