"""A client that connects again and again: which database it met, and when, until its input is closed."""

from __future__ import annotations

import json
import select
import sys
import time

import psycopg

WHO = "SELECT oid FROM pg_database WHERE datname = current_database()"


def main() -> None:
    """Read where to connect, say ready, hammer, tell."""
    words = json.loads(sys.stdin.readline())
    met: list[tuple[float, int]] = []  # (when the connection stood, the database's oid); this clock is the machine's
    refused = 0
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            with psycopg.connect(**words, autocommit=True) as conn:
                connected = time.monotonic()
                row = conn.execute(WHO).fetchone()
                met.append((connected, int(row[0]) if row else 0))
        except psycopg.Error:
            refused += 1
    print(json.dumps({"met": met, "refused": refused}))


if __name__ == "__main__":
    main()
