"""The process with the clients: reads its task from standard input, works until that is closed, prints what it saw."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

import psycopg

from bench.figure import percentile

PAUSE_S = 0.001


class Client:
    """One connection that repeats one statement with random parameters."""

    def __init__(self, connect: dict[str, str], statement: str, rows: int) -> None:
        self.connect, self.statement, self.rows = connect, statement.encode(), rows
        self.times: list[float] = []
        self.errors = 0
        self.session: psycopg.AsyncConnection[Any] | None = None

    async def open(self) -> psycopg.AsyncConnection[Any]:
        """The session, connected again where it was lost."""
        if self.session is None or self.session.closed:
            self.session = await psycopg.AsyncConnection.connect(**self.connect, autocommit=True)  # type: ignore[arg-type]
        return self.session

    async def request(self) -> None:
        """One request; its latency counts whether or not it succeeds."""
        started = time.perf_counter()
        try:
            session = await self.open()
            cursor = await session.execute(
                self.statement,
                {"id": random.randint(1, self.rows), "text": str(random.random())},  # noqa: S311
            )
            if cursor.description:
                await cursor.fetchall()
        except psycopg.Error:
            self.errors += 1
        self.times.append((time.perf_counter() - started) * 1000)

    async def work(self, stop: asyncio.Event) -> None:
        """Request after request until told to stop."""
        while not stop.is_set():
            await self.request()
            await asyncio.sleep(PAUSE_S)


def summary(clients: list[Client], seconds: float) -> dict[str, Any]:
    """What the clients of one kind saw together."""
    times = sorted(latency for client in clients for latency in client.times)
    return {
        "per_s": len(times) / seconds,
        "p50_ms": percentile(times, 0.5),
        "p99_ms": percentile(times, 0.99),
        "worst_ms": times[-1],
        "errors": sum(client.errors for client in clients),
    }


async def main() -> None:
    """Connect everybody, say ready, work, tell."""
    task = json.loads(sys.stdin.readline())
    async with await psycopg.AsyncConnection.connect(**task["connect"]) as conn:
        row = await (await conn.execute("SELECT coalesce(max(id), 1) FROM endpoints")).fetchone()
    rows = int(row[0]) if row else 1
    kinds = {kind: [Client(task["connect"], text, rows) for text in task[kind]] for kind in ("writers", "readers")}
    clients = [client for group in kinds.values() for client in group]
    for client in clients:
        await client.open()
    stop = asyncio.Event()
    started = time.perf_counter()
    work = [asyncio.create_task(client.work(stop)) for client in clients]
    await asyncio.sleep(task["settle_s"])
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    await asyncio.gather(*work)
    seconds = time.perf_counter() - started
    print(json.dumps({kind: summary(group, seconds) for kind, group in kinds.items() if group}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
