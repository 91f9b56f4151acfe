"""Speed claims, each beside its peer in one run: `make bench`, or `python -m bench [--scale N] [--repeat N] [area …]`.

An *area* is a module `bench/<area>.py`, named in `bench.__main__.AREAS`, with one name the frame reads:

    MEASUREMENTS = (dates, key_swap)

Each measurement is a function `(lab: Lab, repetitions: int) -> Iterable[Figure | Curve | Beside]`: a generator, so that
what it has measured is kept when it fails later. One that raises is reported as failed and the others go on; one that
raises `NotHere("pgBackRest is not installed: apt install pgbackrest")` is reported as not measured.

    def dates(lab: Lab, repetitions: int) -> Iterator[Figure]:
        def old() -> float:
            with lab.copy() as name:                       # a fresh, warm copy of the damaged database, dropped after
                return timed(lambda: run_old(lab, name))    # seconds
        def ours() -> float: ...
        seen = interleave(repetitions, {"old": old, "ours": ours})     # turn by turn; the first changes each time
        yield Figure("date fixes", "s", seen["ours"], seen["old"], "the old script's SQL", Goal(times=1.2))

- `lab` (`bench.lab.Lab`): one server (PostgreSQL 17, fsync on) with one damaged database of `--scale` times 50,000
  endpoints, 150,000 models and 250,000 results, built at the first `copy()`. `lab.options(name)` is what the jobs take,
  `lab.session(name)` a superuser's session, `lab.folder()` a folder that goes away with the lab.
- `Figure` and `Goal` (`bench.figure`): values of every repetition; the median counts unless `judged="worst"`. A goal
  is declared, not computed: `Goal(most=100)` in the figure's unit, `Goal(times=1.2)` times the peer's, `Goal(times=1.1,
  plus=1.5)`, `Goal(least_times=0.95)` for what should be large; several limits must all hold. The frame makes the
  words, the ratio (of medians), its spread (of the pairs of one repetition), the verdict. `note=` says what limits it.
- `load(lab, name)` (`bench.load`): writers and readers beside the block; afterwards it knows throughput, p50, p99,
  worst latency (ms) and errors of each. `beside(lab, name, work)` is that around one call, and
  `yield from worst_lines("a fix", {"ours": runs, "the old script": others})` puts what they saw into their own table.
- `measured(command)` (`bench.measure`): a program's seconds and what it said.
- `Curve` (`bench.figure`): something that grows; its exponent is fitted and it is drawn.

Keep an area within ten minutes at `--scale 20 --repeat 3`. The frame writes `.bench/results.json` (an area that is run
again replaces its own part), `.bench/index.html` and the tables.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))  # areas and jobs import scannerdb
