"""`python -m bench [--scale N] [--repeat N] [area ...]`: measure, print the tables, keep JSON and a page in .bench."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.figure import Beside, Curve, Figure, NotHere
from bench.lab import Lab
from bench.machine import machine
from bench.page import page
from bench.report import keep, tables

ROOT = Path(__file__).resolve().parents[1]
AREAS = ("check", "fix", "types", "vacuum", "backup", "physical", "restore", "cluster", "scale", "fleet", "ansible")
OUT = ROOT / ".bench"
Measurement = Callable[[Lab, int], Iterable[Figure | Curve | Beside]]


def main() -> int:
    """Run the areas that were asked for (all by default); 1 when a measurement failed, whatever it measured."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 50,000 endpoints; 20 is a million")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--show", action="store_true", help="measure nothing; print what was kept of earlier runs")
    parser.add_argument("areas", nargs="*", choices=[*AREAS, []])
    wanted = parser.parse_args()
    if wanted.show:
        print(tables(json.loads((OUT / "results.json").read_text(encoding="utf-8"))))
        return 0
    done: dict[str, Any] = {}
    with Lab(wanted.scale) as lab:
        for area in wanted.areas or AREAS:
            done[area] = measure(area, lab, wanted.repeat)
            document = keep(OUT / "results.json", area, done[area])
            (OUT / "index.html").write_text(page(document), encoding="utf-8")
    print(tables({"areas": done}))
    print(f"\nAll results: {OUT / 'index.html'}, {OUT / 'results.json'}")
    return int(any(item["failed"] for found in done.values() for item in found["lost"]))


def measure(area: str, lab: Lab, repetitions: int) -> dict[str, Any]:
    """One area's results; a measurement that fails loses only what it had not yielded."""
    measurements: Iterable[Measurement] = importlib.import_module(f"bench.{area}").MEASUREMENTS
    found: dict[str, Any] = {
        "at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "scale": lab.scale,
        "repeat": repetitions,
        "machine": machine(),
        "rows": [],
        "lost": [],
    }
    started = time.monotonic()
    for measurement in measurements:
        name = f"{area}.{measurement.__name__}"
        print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
        try:
            for item in measurement(lab, repetitions):
                found["rows"].append(item.row())
        except NotHere as missing:
            found["lost"].append({"measurement": name, "failed": False, "message": str(missing)})
        except Exception as error:  # whatever it is, the other figures are kept
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}".splitlines()[0]
            found["lost"].append({"measurement": name, "failed": True, "message": message})
    found["seconds"] = round(time.monotonic() - started, 1)
    return found


if __name__ == "__main__":
    sys.exit(main())
