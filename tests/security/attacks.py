"""Code that a lesser role leaves in its database for somebody stronger to run, as data, and the canary that shows it.

    with Canary.in_database(database) as canary:   # the roles, the sequences, the schema of the attacker's functions
        canary.plant(ATTACKS["row trigger"])
        …                                          # the job under test
        assert canary.fired and canary.escaped() == []

The canary is made of sequences, which a rollback does not turn back: every piece of the attacker's code asks each for a
number, first as it is and then after RESET ROLE. `fired` may be had by everybody; `superuser`, `maint` and `owner`
only by those. A file written by COPY TO PROGRAM and the attribute SUPERUSER are looked at as well.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from tests.servers import Database

OWNER = "scanner_owner"
GRANTEE = "ollama"
MAINT = "scannerdb_maint"


@dataclass(frozen=True)
class Attack:
    """What `by` plants. `sets_off` is a statement that fires it in the session of whoever runs it; `commits` says that
    it fires only at the commit."""

    name: str
    planted: str
    sets_off: str
    by: str = OWNER


CODE = """
CREATE SCHEMA evil AUTHORIZATION {attacker};
GRANT ALL ON SCHEMA evil TO PUBLIC;
SET ROLE {attacker};
CREATE FUNCTION evil.code() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE name text;
BEGIN
    PERFORM pg_catalog.nextval('canary.fired');
    FOR attempt IN 1..3 LOOP
        FOREACH name IN ARRAY ARRAY['superuser', 'maint', 'owner'] LOOP
            BEGIN PERFORM pg_catalog.nextval('canary.' || name); EXCEPTION WHEN OTHERS THEN NULL; END;
        END LOOP;
        BEGIN EXECUTE {copy}; EXCEPTION WHEN OTHERS THEN NULL; END;
        BEGIN EXECUTE 'ALTER ROLE {attacker} SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
        BEGIN
            IF attempt = 1 THEN EXECUTE 'RESET ROLE'; ELSE EXECUTE 'RESET SESSION AUTHORIZATION'; END IF;
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    RETURN true;
END $$;
CREATE FUNCTION evil.truth(anyelement) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM evil.code(); RETURN true; END $$;
CREATE FUNCTION evil.fire() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM evil.code();
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
END $$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA evil TO PUBLIC;
RESET ROLE;
"""
SHADOWS = """
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.clock_timestamp() WHERE evil.code()';
CREATE FUNCTION evil.step(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT $1 + 1 WHERE evil.code()';
CREATE AGGREGATE evil.count(*) (SFUNC = evil.step, STYPE = bigint, INITCOND = 0);
CREATE FUNCTION evil.current_database() RETURNS name LANGUAGE sql
    AS 'SELECT pg_catalog.current_database() WHERE evil.code()';
CREATE FUNCTION evil.to_jsonb(record) RETURNS jsonb LANGUAGE plpgsql AS
    'BEGIN PERFORM evil.code(); RETURN pg_catalog.to_jsonb($1); END';
CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE sql AS
    'SELECT $1 OPERATOR(pg_catalog.=) $2 AND evil.code()';
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.same);
"""
SETS_PATH = """
CREATE FUNCTION evil.path() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_catalog.set_config('search_path', 'evil, pg_catalog, pg_temp', false); RETURN NEW; END $$;
CREATE TRIGGER zz_path BEFORE UPDATE ON public.endpoints FOR EACH ROW EXECUTE FUNCTION evil.path();
"""
TOUCH = "UPDATE public.endpoints SET last_check_date = pg_catalog.now() WHERE id < 4"
CHECK = "SELECT pg_catalog.count(*) FROM public.endpoints WHERE id < 4 AND port > 0"
ADD_LINK = (
    "INSERT INTO public.verified_endpoints (endpoint_id) SELECT id FROM public.endpoints e WHERE NOT EXISTS"
    " (SELECT FROM public.verified_endpoints v WHERE v.endpoint_id = e.id) LIMIT 1"
)


def _trigger(name: str, words: str, sets_off: str = TOUCH, by: str = OWNER) -> Attack:
    return Attack(name, f"CREATE {words} EXECUTE FUNCTION evil.fire()", sets_off, by)


_ALL = (
    _trigger("row trigger", "TRIGGER zz BEFORE UPDATE ON public.endpoints FOR EACH ROW"),
    _trigger("row trigger of a grantee", "TRIGGER zz BEFORE UPDATE ON public.endpoints FOR EACH ROW", by=GRANTEE),
    _trigger("statement trigger", "TRIGGER zz AFTER UPDATE ON public.endpoints FOR EACH STATEMENT"),
    _trigger(
        "deferred trigger", "CONSTRAINT TRIGGER zz AFTER UPDATE ON public.endpoints INITIALLY DEFERRED FOR EACH ROW"
    ),
    _trigger(
        "deferred trigger of a grantee",
        "CONSTRAINT TRIGGER zz AFTER UPDATE ON public.endpoints INITIALLY DEFERRED FOR EACH ROW",
        by=GRANTEE,
    ),
    _trigger(
        "trigger on links",
        "TRIGGER zz BEFORE INSERT OR DELETE ON public.verified_endpoints FOR EACH ROW",
        ADD_LINK,
    ),
    Attack(
        "deferred again",
        """
        CREATE TABLE evil.bait (n int);
        CREATE CONSTRAINT TRIGGER zz AFTER INSERT ON evil.bait INITIALLY DEFERRED FOR EACH ROW
            EXECUTE FUNCTION evil.fire();
        CREATE FUNCTION evil.again() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN SET CONSTRAINTS ALL DEFERRED; INSERT INTO evil.bait VALUES (1); RETURN NEW; END $$;
        CREATE CONSTRAINT TRIGGER zz AFTER UPDATE ON public.endpoints INITIALLY DEFERRED FOR EACH ROW
            EXECUTE FUNCTION evil.again();
        """,
        TOUCH,
    ),
    Attack(
        "deferred on a temporary table",
        """
        CREATE FUNCTION evil.bait() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            CREATE TEMP TABLE IF NOT EXISTS bait (n int);
            DROP TRIGGER IF EXISTS zz ON pg_temp.bait;
            CREATE CONSTRAINT TRIGGER zz AFTER INSERT ON pg_temp.bait INITIALLY DEFERRED FOR EACH ROW
                EXECUTE FUNCTION evil.fire();
            SET CONSTRAINTS ALL DEFERRED;
            INSERT INTO pg_temp.bait VALUES (1);
            RETURN NULL;
        END $$;
        CREATE TRIGGER zz AFTER UPDATE ON public.endpoints FOR EACH STATEMENT EXECUTE FUNCTION evil.bait();
        """,
        TOUCH,
    ),
    Attack(
        "cursor that outlives the transaction",
        """
        CREATE FUNCTION evil.hold() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            EXECUTE format('DECLARE %I CURSOR WITH HOLD FOR SELECT evil.code()', 'c' || pg_catalog.random());
            RETURN NULL;
        END $$;
        CREATE TRIGGER zz AFTER UPDATE ON public.endpoints FOR EACH STATEMENT EXECUTE FUNCTION evil.hold();
        """,
        TOUCH,
    ),
    Attack(
        "INSTEAD OF trigger",
        "CREATE TRIGGER zz INSTEAD OF INSERT ON public.servers FOR EACH ROW EXECUTE FUNCTION evil.fire()",
        "INSERT INTO public.servers (ip) VALUES ('fd00::1')",
    ),
    Attack(
        "rule",
        "CREATE RULE zz AS ON UPDATE TO public.endpoints DO ALSO SELECT evil.code()",
        TOUCH,
    ),
    Attack(
        "view",
        """
        CREATE OR REPLACE VIEW public.servers AS SELECT e.id, e.ip, e.port, e.scan_date FROM public.endpoints e
            JOIN public.verified_endpoints v ON v.endpoint_id = e.id WHERE evil.truth(e.id)
        """,
        "SELECT pg_catalog.count(*) FROM public.servers WHERE id < 4 OR evil.truth(id) IS NULL",
    ),
    Attack(
        "policy",
        """
        ALTER TABLE public.endpoints ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY zz ON public.endpoints USING (evil.truth(id));
        """,
        "",
    ),
    Attack("CHECK", "ALTER TABLE public.endpoints ADD CONSTRAINT zz CHECK (evil.truth(id)) NOT VALID", TOUCH),
    Attack(
        "generated column",
        "ALTER TABLE public.endpoints ADD COLUMN zz boolean GENERATED ALWAYS AS (evil.truth(last_check_date)) STORED",
        TOUCH,
    ),
    Attack(
        "default",
        "ALTER TABLE public.verified_endpoints ADD COLUMN zz boolean, ALTER zz SET DEFAULT evil.code()",
        ADD_LINK,
    ),
    Attack(
        "domain",
        """
        CREATE DOMAIN evil.kind AS integer;
        ALTER TABLE public.endpoints ADD COLUMN zz evil.kind;
        ALTER DOMAIN evil.kind ADD CHECK (evil.truth(1)) NOT VALID;
        """,
        "INSERT INTO public.endpoints (ip, port, zz) VALUES ('fd00::2', 1, 1)",
    ),
    Attack("expression index", "CREATE INDEX zz ON public.endpoints (evil.truth(last_check_date))", TOUCH),
    Attack("index predicate", "CREATE INDEX zz ON public.endpoints (port) WHERE evil.truth(1)", CHECK),
    Attack(
        "extended statistics",
        "CREATE STATISTICS public.zz ON (evil.truth(port)), verified FROM public.endpoints",
        "",
    ),
    Attack(
        "cast",
        """
        CREATE TYPE evil.mood AS ENUM ('calm');
        ALTER TABLE public.endpoints ADD COLUMN mood evil.mood DEFAULT 'calm';
        CREATE FUNCTION evil.told(evil.mood) RETURNS json LANGUAGE plpgsql IMMUTABLE AS
            $$ BEGIN PERFORM evil.code(); RETURN '1'; END $$;
        CREATE FUNCTION evil.said(evil.mood) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
            $$ BEGIN PERFORM evil.code(); RETURN 'calm'; END $$;
        CREATE CAST (evil.mood AS json) WITH FUNCTION evil.told(evil.mood);
        CREATE CAST (evil.mood AS text) WITH FUNCTION evil.said(evil.mood) AS IMPLICIT;
        """,
        "SELECT pg_catalog.to_jsonb(e) FROM public.endpoints e WHERE id < 4",
    ),
    Attack(
        "operator",
        """
        CREATE TYPE evil.mood AS ENUM ('calm');
        ALTER TABLE public.endpoints ADD COLUMN mood evil.mood DEFAULT 'calm';
        CREATE FUNCTION evil.alike(evil.mood, evil.mood) RETURNS boolean LANGUAGE sql AS 'SELECT evil.code()';
        CREATE OPERATOR public.= (LEFTARG = evil.mood, RIGHTARG = evil.mood, FUNCTION = evil.alike);
        """,
        "SET search_path = public; SELECT count(*) FROM public.endpoints a WHERE id < 4 AND mood = mood",
    ),
    Attack(
        "search_path of a trigger",
        SHADOWS + SETS_PATH,
        TOUCH + "; SELECT now(), count(*), current_database() = 'x'::text FROM public.endpoints",
    ),
    Attack(
        "search_path of the database",
        SHADOWS,
        "SET search_path = evil, pg_catalog; SELECT now(), count(*) FROM public.endpoints",
    ),
    Attack(
        "temporary objects",
        """
        CREATE FUNCTION evil.temp() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE name text;
        BEGIN
            FOREACH name IN ARRAY ARRAY['pg_class', 'pg_roles', 'pg_trigger', 'pg_proc', 'pg_locks', 'pg_namespace',
                                        'pg_constraint', 'pg_stat_replication'] LOOP
                EXECUTE format('CREATE OR REPLACE TEMP VIEW %I AS SELECT * FROM pg_catalog.%1$I WHERE evil.code()',
                               name);
            END LOOP;
            PERFORM pg_catalog.set_config('search_path', '', false);
            RETURN NULL;
        END $$;
        CREATE TRIGGER zz AFTER UPDATE ON public.endpoints FOR EACH STATEMENT EXECUTE FUNCTION evil.temp();
        """,
        TOUCH + "; SELECT 1 FROM pg_roles",
    ),
    Attack(
        "function replaced during the call",
        """
        CREATE FUNCTION evil.replace() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE one regprocedure;
        BEGIN
            FOR one IN SELECT p.oid FROM pg_catalog.pg_proc p
                        WHERE p.pronamespace = pg_catalog.pg_my_temp_schema() LOOP
                BEGIN
                    EXECUTE format('ALTER FUNCTION %s SECURITY INVOKER', one);
                    EXECUTE format('CREATE OR REPLACE FUNCTION %s', pg_catalog.replace(
                        pg_catalog.pg_get_functiondef(one), 'BEGIN', 'BEGIN PERFORM evil.code();'));
                EXCEPTION WHEN OTHERS THEN NULL;
                END;
            END LOOP;
            RETURN NULL;
        END $$;
        CREATE TRIGGER zz AFTER UPDATE ON public.endpoints FOR EACH STATEMENT EXECUTE FUNCTION evil.replace();
        CREATE TRIGGER zz BEFORE UPDATE ON public.verified_endpoints FOR EACH ROW EXECUTE FUNCTION evil.fire();
        CREATE TRIGGER zy AFTER UPDATE ON public.endpoints FOR EACH STATEMENT EXECUTE FUNCTION evil.fire();
        """,
        TOUCH,
    ),
)
ATTACKS = {attack.name: attack for attack in _ALL}
BELONGS_TO_SERVER = (
    "policy",
    "extended statistics",
)  # nothing of a superuser's own fires these: the server prevents it


@dataclass
class Canary:
    """The canary in one database; `attacker` is who planted the last attack."""

    database: Database
    file: Path
    attacker: str = OWNER

    @classmethod
    @contextlib.contextmanager
    def in_database(cls, database: Database) -> Iterator[Canary]:
        """Roles and sequences; the roles are left to the fixture that cleans the server."""
        file = Path(database.server.data).parent / f"canary-{secrets.token_hex(4)}"
        with database.connect() as conn:
            _make_roles(conn, database.name)
        canary = cls(database, file)
        try:
            yield canary
        finally:
            canary._disarm()
            file.unlink(missing_ok=True)

    def plant(self, attack: Attack) -> None:
        """Leave the attacker's code in the database."""
        self.attacker = attack.by
        copy = f"COPY (SELECT 1) TO PROGRAM 'cat > {self.file}'"
        with self.database.connect() as conn:
            code = SQL(CODE).format(attacker=Identifier(attack.by), copy=Literal(copy))  # type: ignore[arg-type]
            conn.execute(code.as_string(conn).encode())
            if attack.name == "search_path of the database":
                name = Identifier(self.database.name)
                conn.execute(SQL("ALTER DATABASE {} SET search_path = evil, pg_catalog").format(name))
            conn.execute(SQL("SET ROLE {}").format(Identifier(attack.by)))
            conn.execute(attack.planted.encode())
        self.reset()

    def reset(self) -> None:
        """Forget what was seen so far: planting an index runs its function, within SET ROLE."""
        for name in ("fired", "superuser", "maint", "owner"):
            self.database.sql(f"ALTER SEQUENCE canary.{name} RESTART")
        self._disarm()
        self.file.unlink(missing_ok=True)

    def _disarm(self) -> None:
        for role in (OWNER, GRANTEE):
            self.database.sql(f"ALTER ROLE {role} NOSUPERUSER")

    @property
    def fired(self) -> bool:
        """True where the attacker's code ran at all."""
        return self._moved("fired")

    def escaped(self) -> list[str]:
        """Whose rights the attacker's code had beyond its own; empty is what is right."""
        names = ("superuser", "maint") if self.attacker == OWNER else ("superuser", "maint", "owner")
        found = [name for name in names if self._moved(name)]
        if self.file.exists():
            found.append("a program was run")
        if self.database.value(f"SELECT rolsuper FROM pg_roles WHERE rolname = '{self.attacker}'"):
            found.append("the attacker is superuser")
        return found

    def _moved(self, name: str) -> bool:
        return bool(self.database.value(f"SELECT is_called FROM canary.{name}"))


def _make_roles(conn: psycopg.Connection[Any], database: str) -> None:
    conn.execute(f"CREATE ROLE {MAINT} LOGIN".encode())
    conn.execute(f"GRANT {OWNER}, {GRANTEE} TO {MAINT}".encode())
    conn.execute(
        SQL("GRANT CREATE, CONNECT, TEMPORARY ON DATABASE {} TO {}").format(Identifier(database), Identifier(MAINT))
    )
    conn.execute("CREATE SCHEMA canary")
    conn.execute("GRANT USAGE ON SCHEMA canary TO PUBLIC")
    for name, role in (("fired", "PUBLIC"), ("maint", MAINT), ("owner", OWNER), ("superuser", "postgres")):
        conn.execute(f"CREATE SEQUENCE canary.{name}".encode())
        conn.execute(f"GRANT USAGE ON SEQUENCE canary.{name} TO {role}".encode())
