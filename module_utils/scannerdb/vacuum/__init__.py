"""Vacuum and bloat, in the order in which `jobs/vacuum.py` uses it.

measure  `measure` (its SQL in `measure_sql`, the estimate in `bloat`), made sure by `confirm`
decide   `select` the tables, look for an `online_rewrite`; then purely: `thresholds`, `ladder` and `decide` make the
         `plan`
do       `run` the `statements`: `rewrite`, `rebuild`, `pgrepack`, with an eye on `competing_sessions` and `progress`
tell     the `result` as a `report`, and what to know next time as `memory`
"""
