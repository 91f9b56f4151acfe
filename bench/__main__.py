"""`python -m bench [--scale N] [--repeat N] [area ...]`: measure, print one table, keep the figures as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "module_utils"))

from bench.common import Lab, machine, public, table  # noqa: E402

AREAS = ("check", "fix")


def main() -> None:
    """Run the areas that were asked for (all by default) on one database."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 50,000 endpoints; 20 is a million")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("areas", nargs="*", choices=[*AREAS, []])
    wanted = parser.parse_args()
    found = []
    with Lab(wanted.scale) as lab:
        for area in wanted.areas or AREAS:
            found += importlib.import_module(f"bench.{area}").figures(lab, wanted.repeat)
    rows = [public(figure) for figure in found]
    print(table(rows))
    folder = ROOT / ".bench"
    folder.mkdir(exist_ok=True)
    document = {"machine": machine(), "scale": wanted.scale, "repeat": wanted.repeat, "figures": rows}
    (folder / "results.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
