"""Text dates, integer booleans and timestamps without a zone become the contract's types, and go back exactly."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scannerdb.connection import SQL, Literal, connect, fetch
from scannerdb.contract.retypable import TIMESTAMP
from scannerdb.errors import InvalidInput
from scannerdb.fixes import convert
from scannerdb.fixes.policy import FixPolicy
from scannerdb.fixes.readings import reading
from scannerdb.fixes.views import held
from scannerdb.jobs.fix import Working
from scannerdb.jobs.undo import undo

from tests.integration.fix.types_support import BERLIN, CONVERT, DATES, KEPT, MADE, converted, made, meant, one_text
from tests.integration.support import content, findings, options, run_fix
from tests.servers import Database, Databases

VIEW = (
    "SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attname = 'scan_date' AND attrelid = %s::regclass"
)
DEFAULTS = """
SELECT a.attname, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
  JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
 WHERE d.adrelid IN ('endpoints'::regclass, 'verified_endpoints'::regclass) AND NOT a.attname LIKE 'scannerdb%'
 ORDER BY d.adrelid = 'verified_endpoints'::regclass
"""
INDEXES = """
SELECT c.relname, pg_get_indexdef(c.oid), obj_description(c.oid, 'pg_class'), i.indisclustered
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = 'verified_endpoints'::regclass ORDER BY 1
"""
ITS_TRIGGER = """
CREATE TRIGGER its_own INSTEAD OF UPDATE ON dates FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
"""
UTC = dt.timezone.utc


@pytest.mark.parametrize("shape", ["sqlite", pytest.param("mixed", marks=pytest.mark.pg(17))])
def test_the_types_become_the_contracts_and_go_back(make_database: Databases, shape: str) -> None:
    database = made(make_database, shape)
    database.sql("GRANT SELECT ON servers TO PUBLIC")
    database.sql("GRANT SELECT (scan_date) ON endpoints TO PUBLIC")
    database.sql("COMMENT ON COLUMN endpoints.scan_date IS 'when it was scanned'")
    database.sql("COMMENT ON COLUMN servers.scan_date IS 'as endpoints has it'")
    database.sql("CREATE VIEW newest WITH (security_barrier = true) AS SELECT ip, scan_date AS seen FROM servers")
    before, rows = content(database), database.sql(DATES)
    wrong = {f["object"] for f in findings(database)["schema.column.type"]}
    planned = run_fix(database, policy=CONVERT, check_mode=True)
    assert converted(planned) == wrong and content(database) == before
    assert "Europe/Berlin" in str(planned["fixed"])
    result = run_fix(database, policy=CONVERT)
    assert not result["failures"], result["failures"]
    assert converted(result) == wrong, result["left_undone"]
    assert "schema.column.type" not in findings(database) and database.value(MADE) == 0
    assert [(row[0], *map(meant, row[1:])) for row in rows] == database.sql(DATES)
    assert database.value("SELECT has_table_privilege('public', 'servers', 'SELECT')")
    assert database.value("SELECT has_column_privilege('public', 'endpoints', 'scan_date', 'SELECT')")
    assert [database.value(VIEW, name) for name in ("endpoints", "servers")] == [
        "when it was scanned",
        "as endpoints has it",
    ]
    assert database.value("SELECT reloptions FROM pg_class WHERE relname = 'newest'") == ["security_barrier=true"]
    assert database.value("SELECT count(seen) FROM newest") > 0
    assert not run_fix(database, policy=CONVERT)["changed"]
    goes_back(database, result["run_id"], rows)
    assert {f["object"] for f in findings(database)["schema.column.type"]} == wrong


def goes_back(database: Database, run_id: str, rows: list[tuple[Any, ...]]) -> None:
    """The undo: what nobody touched is as it was, what was written since is not lost."""
    with database.connect("ollama") as conn:
        conn.execute(
            "INSERT INTO endpoints (id, ip, port, scan_date) VALUES (0, 'new', 1, '2026-01-02 03:04:05.678+01')"
        )
        conn.execute("UPDATE endpoints SET last_check_date = '2026-05-06T07:08:09Z' WHERE id = 1")
    back = undo(options(database), unsealed=True, run_id=run_id)
    assert back["conflicts"] == []
    assert [row for row in database.sql(DATES) if row[0] > 1] == [row for row in rows if row[0] > 1]
    written = [
        *database.sql("SELECT scan_date FROM endpoints WHERE ip = 'new'"),
        *database.sql("SELECT last_check_date FROM endpoints WHERE id = 1"),
    ]
    assert [meant(one).astimezone(UTC) for (one,) in written] == [
        dt.datetime(2026, 1, 2, 2, 4, 5, 678000, UTC),
        dt.datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC),
    ]
    assert database.value(MADE) == database.value(KEPT) == 0
    assert not undo(options(database), unsealed=True, run_id=run_id)["changed"]


@pytest.mark.pg(18)
def test_the_rest_follows_in_the_same_run(make_database: Databases) -> None:
    """What builds on the types (defaults, triggers, the view's functions, the rows) is repaired with them."""
    database = made(make_database, "sqlite")
    database.sql(f"ALTER DATABASE {database.name} SET timezone = 'Asia/Kolkata'")
    scanned = dict(database.sql("SELECT id, scan_date FROM endpoints"))
    result = run_fix(database, policy=FixPolicy(types="convert"))
    assert not result["failures"], result["failures"]
    assert any(
        "Asia/Kolkata (the TimeZone that ollama has in this database)" in one["message"] for one in result["fixed"]
    )
    severe = [f for group in findings(database).values() for f in group if f["severity"] == "critical"]
    assert [f for f in severe if f["id"].startswith(("schema.", "data."))] == []
    some = next(number for number, text in scanned.items() if text and "T" in text)
    there = database.value("SELECT scan_date AT TIME ZONE 'Asia/Kolkata' FROM endpoints WHERE id = %s", some)
    assert there == dt.datetime.fromisoformat(scanned[some])
    with database.connect("ollama") as conn:
        conn.execute("INSERT INTO servers (ip) VALUES ('203.0.113.9')")
    kept = [
        f for f in findings(database)["schema.column.unexpected"] if f["object"] == "endpoints.scannerdb_was_scan_date"
    ]
    assert "undo.yml needs it" in kept[0]["message"] and "DROP COLUMN" in kept[0]["fix"]["sql"][0]


@pytest.mark.pg(15)
def test_what_cannot_be_read_is_listed_and_stops_it(make_database: Databases) -> None:
    database = made(make_database, "sqlite")
    database.sql("UPDATE endpoints SET scan_date = 'yesterday' WHERE id = 3")
    database.sql("UPDATE endpoints SET is_active = 7 WHERE id = 4")
    before = content(database)
    for check_mode in (True, False):
        result = run_fix(database, policy=CONVERT, check_mode=check_mode)
        left = {one["object"]: one["why"] for one in result["left_undone"] if one["id"] == "schema.column.type"}
        assert "1 values of endpoints.scan_date cannot be read (id 3 has 'yesterday')" in left["endpoints.scan_date"]
        assert "1 values of endpoints.is_active cannot be read (id 4 has '7')" in left["endpoints.last_check_date"]
        assert "verified_endpoints.verification_date" in converted(result)
    after = content(database)
    assert after["public.endpoints"] == before["public.endpoints"]
    with pytest.raises(InvalidInput, match="is no time zone of this server"):
        run_fix(database, policy=FixPolicy(types="convert", types_zone="Berlin"))


@pytest.mark.pg(17)
def test_what_hangs_on_a_column_stops_it_with_its_name(make_database: Databases) -> None:
    database = made(make_database, "sqlite")
    database.sql("ALTER TABLE endpoints ADD CONSTRAINT its_rule CHECK (is_honeypot IN (0, 1))")
    database.sql("CREATE VIEW longest AS SELECT max(length(verification_date)) FROM verified_endpoints")
    before = content(database)
    result = run_fix(database, policy=CONVERT)
    left = {one["object"]: one["why"] for one in result["left_undone"] if one["id"] == "schema.column.type"}
    assert "constraint its_rule on table public.endpoints" in left["endpoints.is_honeypot"]
    assert "length" in left["verified_endpoints.verification_date"] and len(result["failures"]) == 1
    after = content(database)
    unchanged = ("public.endpoints", "public.verified_endpoints")
    assert [after[name] for name in unchanged] == [before[name] for name in unchanged] and database.value(MADE) == 0


@pytest.mark.pg(15)
def test_without_a_journal_the_old_values_go(make_database: Databases) -> None:
    database = made(make_database, "mixed")
    result = run_fix(database, policy=CONVERT, working=Working(journal=False))
    assert converted(result) and database.value(KEPT) == 0


@pytest.mark.pg(18)
def test_names_that_need_quotes(make_database: Databases) -> None:
    database = made(make_database, "mixed", 'we"ird; types')
    name, column = 'so "so', "a {date}; drop '" + "x" * 40
    overlay = {"tables": {name: {"columns": {"key": {"type": "text"}, column: {"type": "timestamp with time zone"}}}}}
    quoted = "\"a {date}; drop '" + "x" * 40 + '"'
    with database.connect() as conn:
        conn.execute(f'CREATE TABLE "so ""so" (key text, {quoted} text NOT NULL)'.encode())
        conn.execute("INSERT INTO \"so \"\"so\" VALUES ('k''1', '2024-05-06')")
        conn.execute(f'CREATE INDEX "its ""index" ON "so ""so" ({quoted} DESC, key)'.encode())
        conn.execute(f'CREATE VIEW "its ""view" AS SELECT {quoted} AS "x ""y" FROM "so ""so"'.encode())
        conn.execute('ALTER TABLE "so ""so" OWNER TO ollama')
        conn.execute('ALTER VIEW "its ""view" OWNER TO ollama')
    result = run_fix(database, policy=CONVERT, overlay=overlay)
    assert f"{name}.{column}" in converted(result), result["left_undone"]
    assert database.sql('SELECT "x ""y" FROM "its ""view"') == [(dt.datetime(2024, 5, 6, tzinfo=BERLIN),)]
    assert database.value("SELECT indexdef LIKE '% DESC,%' FROM pg_indexes WHERE indexname = 'its \"index'")
    assert database.value(
        'SELECT attnotnull FROM pg_attribute WHERE attrelid = \'"so ""so"\'::regclass AND attname = %s', column
    )
    back = undo(options(database), unsealed=True, run_id=result["run_id"], overlay=overlay)
    assert back["conflicts"] == [] and database.sql('SELECT * FROM "so ""so"') == [("k'1", "2024-05-06")]


@pytest.mark.pg(15)
def test_a_default_of_the_sites_own_stays_or_stops_it(make_database: Databases) -> None:
    database = one_text(make_database)
    database.sql("ALTER TABLE verified_endpoints ALTER verification_date SET DEFAULT '2020-01-01'")
    database.sql(
        "ALTER TABLE endpoints ALTER last_check_date TYPE text, ALTER last_check_date SET DEFAULT now()::text,"
        " ALTER is_active DROP DEFAULT, ALTER is_active TYPE integer USING is_active::integer,"
        " ALTER is_active SET DEFAULT 0"
    )
    result = run_fix(database, policy=CONVERT)
    assert converted(result) == {"endpoints.last_check_date", "endpoints.is_active"}, result["msg"]
    assert dict(database.sql(DEFAULTS)).items() >= {
        ("last_check_date", "now()"),
        ("is_active", "false"),
        ("verification_date", "'2020-01-01'::text"),
    }
    assert "verification_date has the default" in str(result["left_undone"])


@pytest.mark.pg(17)
def test_an_index_comes_back_as_it_was_or_stops_it(make_database: Databases) -> None:
    database = one_text(make_database)
    database.sql("CREATE INDEX its_words ON verified_endpoints (verification_date text_pattern_ops)")
    database.sql(
        "CREATE INDEX its_dates ON verified_endpoints (verification_date DESC) INCLUDE (id) WITH (fillfactor=70)"
    )
    database.sql("COMMENT ON INDEX its_dates IS 'by date'")
    database.sql("ALTER TABLE verified_endpoints CLUSTER ON its_dates")
    before = database.sql(INDEXES)
    left = run_fix(database, policy=CONVERT)["left_undone"]
    assert "drop it first: index public.its_words" in str([one for one in left if one["id"] == "schema.column.type"])
    assert database.sql(INDEXES) == before
    database.sql("DROP INDEX its_words")
    assert converted(run_fix(database, policy=CONVERT))
    assert database.sql(INDEXES) == [row for row in before if row[0] != "its_words"]


@pytest.mark.pg(17)
def test_a_view_that_is_changed_meanwhile_keeps_the_change(make_database: Databases) -> None:
    """It gets a trigger between the look at it and the lock on it."""
    database, calls = one_text(make_database), []
    database.sql("CREATE VIEW dates AS SELECT verification_date FROM verified_endpoints")
    database.sql("ALTER VIEW dates OWNER TO ollama")

    def changed(views: Any) -> Any:
        calls.append(views)
        if len(calls) == 2:
            database.sql(f"SET lock_timeout = 5000; {ITS_TRIGGER}")
        return held(views)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "held", changed)
        result = run_fix(database, policy=CONVERT)
    assert converted(result) and len(calls) == 2
    assert database.value("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'dates'::regclass") == 1


@pytest.mark.pg(18)
def test_a_zone_is_a_place_and_no_abbreviation(make_database: Databases) -> None:
    """As a word in SQL an abbreviation is one offset in summer and winter, which no session means by it."""
    database = one_text(make_database)
    database.sql("UPDATE verified_endpoints SET verification_date = '2024-07-01T12:00:00'")
    with pytest.raises(InvalidInput, match="'CET' is an abbreviation, too"):
        run_fix(database, policy=FixPolicy(types="convert", types_zone="CET"))
    database.sql(f"ALTER DATABASE {database.name} SET timezone = 'MET'")
    planned = run_fix(database, policy=FixPolicy(types="convert"), check_mode=True)
    assert "the TimeZone 'MET' is an abbreviation, too" in str(planned["left_undone"])
    planned = run_fix(database, policy=FixPolicy(types="convert", types_zone="utc"), check_mode=True)
    assert "is read in Etc/UTC" in str(planned["fixed"])


# --- what a value is read as

DAYS = st.dates(dt.date(1, 1, 2), dt.date(9999, 12, 30))
TIMES = st.times()
ZONES = st.integers(-14 * 60, 14 * 60)


@st.composite
def words(draw: st.DrawFn) -> tuple[str, dt.datetime]:
    """A date in one of ISO 8601's forms, and what it means; without a zone, in UTC."""
    day, basic = draw(DAYS), draw(st.booleans())
    dash, colon = ("", "") if basic else ("-", ":")
    year, week, weekday = day.isocalendar()
    forms = [f"{day:%Y}{dash}{day:%m}{dash}{day:%d}".rjust(8 + 2 * len(dash), "0")]
    forms[0] = f"{day.year:04}{dash}{day.month:02}{dash}{day.day:02}"
    forms.append(f"{day.year:04}{dash}{day.timetuple().tm_yday:03}")
    if 1 <= year <= 9999:
        forms.append(f"{year:04}{dash}W{week:02}{dash}{weekday}")
    text, moment = draw(st.sampled_from(forms)), dt.datetime(day.year, day.month, day.day, tzinfo=UTC)
    parts = draw(st.integers(0, 4))
    if not parts:
        return text, moment
    time = draw(TIMES)
    kept = [time.hour, time.minute, time.second, time.microsecond][:parts]
    clock = colon.join(f"{one:02}" for one in kept[:3])
    if parts == 4:
        clock += draw(st.sampled_from(".,")) + f"{time.microsecond:06}".rstrip("0").ljust(1, "0")
    moment = moment.replace(**dict(zip(("hour", "minute", "second", "microsecond"), kept)))
    letter = "T" if basic else draw(st.sampled_from("T t".replace(" ", "") + " "))
    shift = draw(st.none() | ZONES)
    zone = ""
    if shift is not None:
        sign, minutes = "-" if shift < 0 else "+", abs(shift)
        zone = draw(st.sampled_from([f"{sign}{minutes // 60:02}{c}{minutes % 60:02}" for c in ("", ":")]))
        zone = draw(st.sampled_from([zone] + (["Z", "z"] if not shift else [])))
    return f"{text}{letter}{clock}{zone}", moment - dt.timedelta(minutes=shift or 0)


@pytest.mark.pg(18)
def test_no_time_zone_of_a_session_changes_what_is_read(make_database: Databases) -> None:
    query = SQL("SELECT extract(epoch FROM {})::bigint AS s FROM (SELECT '2024-07-01T12:00Z'::text AS x) t")
    with connect(options(make_database())) as conn:
        conn.execute("SET TimeZone = 'UTC-5'")
        row = fetch(conn, query.format(reading("text", SQL("t.x"), "Etc/UTC")))[0]
    assert row["s"] == dt.datetime(2024, 7, 1, 12, tzinfo=UTC).timestamp()


def read(database: Database, texts: list[str]) -> list[Any]:
    query = SQL(
        "SELECT extract(epoch FROM {}) * 1000000 AS us FROM unnest({}::text[]) WITH ORDINALITY t(x, n) ORDER BY n"
    )
    with connect(options(database)) as conn:
        return [row["us"] for row in fetch(conn, query.format(reading("text", SQL("t.x"), "UTC"), Literal(texts)))]


EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.pg(15, 18)
def test_every_form_is_read_exactly(make_database: Databases) -> None:
    database = make_database()

    @settings(max_examples=8)
    @given(st.lists(words(), min_size=60, max_size=100))
    def exact(some: list[tuple[str, dt.datetime]]) -> None:
        wanted = [(moment - EPOCH) // dt.timedelta(microseconds=1) for _, moment in some]
        assert dict(zip([text for text, _ in some], read(database, [text for text, _ in some]))) == dict(
            zip([text for text, _ in some], wanted)
        )

    @settings(max_examples=4)
    @given(st.lists(st.from_regex(r"\A[0-9TtZzW:.,+ -]{0,28}\Z"), min_size=40, max_size=60))
    def never_fails(some: list[str]) -> None:
        read(database, some)

    exact()
    never_fails()


@pytest.mark.pg(15)
def test_what_no_form_says_is_not_read(make_database: Databases) -> None:
    database = make_database()
    strange = [
        "",
        " ",
        "now",
        "infinity",
        "2024-02-30",
        "2023-366",
        "2021-W53-1",
        "2024-13-01",
        "0000-01-01",
        "24-01-01",
    ]
    strange += ["2024-01-01T25", "2024-01-01T24:01", "2024-01-01T10:60", "2024-01-01T10:00:61", "2024-01-01T10:00+16"]
    strange += [
        "2024-01-01T10:00+01:60",
        "2024-01",
        "2024",
        "1704067200",
        "2024-01-01 10:00 UTC",
        "٢٠٢٤-01-01",
        "2024-01-01\n",
    ]
    assert read(database, strange) == [None] * len(strange)
    edges = {"2024-01-01T24:00": "2024-01-02T00:00", " 2024-06-30 ": "2024-06-30", "2024-06-30T23:59:60Z": "2024-07-01"}
    rounded = {"2024-01-01T00:00:00.1234567": "2024-01-01T00:00:00.123457", "2024-01-01T10 +01": "2024-01-01T09:00"}
    for text, same in {**edges, **rounded}.items():
        assert read(database, [text]) == read(database, [same]) != [None]


@pytest.mark.pg(15)
def test_a_timestamp_at_the_end_of_time_is_no_error(make_database: Databases) -> None:
    value = SQL("t.x::timestamp")
    query = SQL("SELECT ({})::text AS z FROM unnest(ARRAY['294276-12-31 23:00', 'infinity', '2024-07-01']) t(x)")
    with connect(options(make_database())) as conn:
        rows = fetch(conn, query.format(reading(TIMESTAMP, value, "America/New_York")))
    assert [row["z"] for row in rows] == [None, "infinity", "2024-07-01 04:00:00+00"]
