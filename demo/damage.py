"""What is wrong with a generated database, from the generator's own arithmetic alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Callable, Optional

from demo.kinds import KINDS, Kind, Plan

ORPHANS = {
    ("models", "endpoint_id"): 7,
    ("verified_endpoints", "endpoint_id"): 5,
    ("benchmark_results", "endpoint_id"): 4,
    ("benchmark_results", "model_id"): 3,
}


@dataclass(frozen=True)
class Damage:
    """What a generated database has, and what is wrong with it, in the generator's own numbers.

    findings          finding id -> affected rows (data.*) or objects (schema.*, index.*, table.*)
    objects           finding id -> names of the objects, where a finding is about objects
    kinds             kind of endpoint (see demo.kinds) -> number of endpoints; `ids(kind)` lists them
    links             rows in verified_endpoints
    date_evidence     of the endpoints in data.endpoints.verification_date_null: link, scan, nothing -> rows
    missing_links     links to make: verified = 1, no link, no honeypot
    stale_links       failed (remove), clean (endpoint becomes verified = 1), flagged (remove) -> links
    inactive          verified = 1 and inactive, honeypots left out; inactive_with_honeypots counts them too
    verified_odd      verified outside 0, 1, 2 and NULL
    metadata          key -> (value stored, true value); last_sync has no true value
    orphans           (table, column) -> rows without a parent
    """

    plan: Plan
    findings: dict[str, int]
    objects: dict[str, tuple[str, ...]]
    kinds: dict[str, int]
    endpoints: int
    verified: int
    links: int
    models: int
    benchmark_results: int
    date_evidence: dict[str, int]
    missing_links: int
    stale_links: dict[str, int]
    honeypots_linked: int
    honeypots_unlinked: int
    inactive: int
    inactive_with_honeypots: int
    verified_odd: int
    verified_null: int
    honeypot_null: int
    active_null: int
    metadata: dict[str, tuple[str, Optional[str]]]
    orphans: dict[tuple[str, str], int] = field(default_factory=dict)

    def ids(self, kind: str) -> list[int]:
        """Ids of the endpoints of a kind."""
        return self.plan.ids(kind)


def count_damage(plan: Plan, orphans: bool = False) -> Damage:
    """The damage that a plan leads to; nothing here asks a database."""
    rows = _damaged_rows(plan)
    lost = dict(ORPHANS) if orphans else {}
    if lost:
        rows["data.orphan"] = sum(lost.values())
    objects = _broken_objects(orphans)
    verified = _count(plan, lambda k: k.verified == 1)
    return Damage(
        plan=plan,
        findings={**rows, **{finding: len(names) for finding, names in objects.items()}},
        objects=objects,
        kinds={kind.name: plan.count(kind.name) for kind in KINDS},
        endpoints=plan.endpoints,
        verified=verified,
        links=_count(plan, lambda k: k.linked) + _lost_from(lost, "verified_endpoints"),
        models=plan.models + _lost_from(lost, "models"),
        benchmark_results=plan.benchmarks + _lost_from(lost, "benchmark_results"),
        date_evidence=_date_evidence(plan),
        missing_links=rows["data.verified.link_missing"],
        stale_links=_stale_links(plan),
        honeypots_linked=_count(plan, lambda k: k.verified == 1 and k.is_honeypot is True and k.linked),
        honeypots_unlinked=_count(plan, lambda k: k.verified == 1 and k.is_honeypot is True and not k.linked),
        inactive=rows["data.verified.inactive"],
        inactive_with_honeypots=_count(plan, lambda k: k.verified == 1 and k.is_active is False),
        verified_odd=_count(plan, lambda k: k.verified not in (0, 1, 2, None)),
        verified_null=_count(plan, lambda k: k.verified is None),
        honeypot_null=_count(plan, lambda k: k.is_honeypot is None),
        active_null=_count(plan, lambda k: k.is_active is None),
        metadata=_metadata(_count(plan, lambda k: k.linked), verified, plan.models),
        orphans=lost,
    )


def _damaged_rows(plan: Plan) -> dict[str, int]:
    """Finding id -> rows, for the findings about rows."""
    tests: dict[str, Callable[[Kind], bool]] = {
        "data.endpoints.verification_date_null": lambda k: k.verified == 1 and not k.dated,
        "data.endpoints.last_check_date_null": lambda k: not k.checked,
        "data.verified.link_missing": lambda k: k.verified == 1 and not k.linked and not k.is_honeypot,
        "data.verified.link_stale": lambda k: k.linked and k.verified in (0, 2, None),
        "data.verified.honeypot": lambda k: k.verified == 1 and k.is_honeypot is True,
        "data.verified.inactive": lambda k: k.verified == 1 and k.is_active is False and not k.is_honeypot,
    }
    return {finding: _count(plan, test) for finding, test in tests.items()}


def _date_evidence(plan: Plan) -> dict[str, int]:
    """Where the missing verification dates of verified endpoints can be had from."""
    undated = [kind for kind in KINDS if kind.verified == 1 and not kind.dated]
    unlinked = [kind for kind in undated if not (kind.linked and kind.link_dated)]
    return {
        "link": _total(plan, (kind for kind in undated if kind.linked and kind.link_dated)),
        "scan": _total(plan, (kind for kind in unlinked if kind.scanned)),
        "nothing": _total(plan, (kind for kind in unlinked if not kind.scanned)),
    }


def _stale_links(plan: Plan) -> dict[str, int]:
    """The links that should not be, by what their endpoint is."""
    stale = [kind for kind in KINDS if kind.linked and kind.verified in (0, 2, None)]
    unproven = [kind for kind in stale if kind.verified != 2]
    return {
        "failed": _total(plan, (kind for kind in stale if kind.verified == 2)),
        "clean": _total(plan, (kind for kind in unproven if not _flagged(kind))),
        "flagged": _total(plan, (kind for kind in unproven if _flagged(kind))),
    }


def _count(plan: Plan, test: Callable[[Kind], bool]) -> int:
    return _total(plan, (kind for kind in KINDS if test(kind)))


def _lost_from(lost: dict[tuple[str, str], int], table: str) -> int:
    return sum(rows for (child, _), rows in lost.items() if child == table)


def _total(plan: Plan, kinds: Iterable[Kind]) -> int:
    return sum(plan.count(kind.name) for kind in kinds)


def _flagged(kind: Kind) -> bool:
    return kind.is_honeypot is True or kind.is_active is False


def _metadata(links: int, verified: int, models: int) -> dict[str, tuple[str, Optional[str]]]:
    """What the metadata table says, beside what is true: the counters drifted, except one."""
    return {
        "server_count": (str(links + 37), str(links)),
        "verified_server_count": (str(verified + 12), str(verified)),
        "model_count": (str(models), str(models)),
        "last_sync": ("2025-04-18 12:00:00", None),
    }


def _broken_objects(orphans: bool) -> dict[str, tuple[str, ...]]:
    """Finding id -> the objects it is about."""
    broken: dict[str, tuple[str, ...]] = {
        "schema.view.trigger": ("servers",),
        "schema.column.default": ("endpoints.port",),
        "schema.foreign_key.on_delete": ("benchmark_results_model_id_fkey",),
        "schema.index.missing": ("endpoints (verified, is_active)", "benchmark_results (test_date)"),
        "schema.table.unexpected": ("chat_history", "user_selected_models"),
        "schema.column.unexpected": ("endpoints.api_type", "models.api_type"),
        "index.invalid": ("idx_endpoints_verified_active",),
        "index.duplicate": ("verified_endpoints_endpoint_id_idx", "metadata_key_idx"),
        "index.redundant": ("endpoints_ip_idx", "models_endpoint_id_idx"),
        "table.dead_tuples": ("models",),
        "table.bloat": ("chat_history",),
    }
    if orphans:
        broken["schema.foreign_key.missing"] = ("benchmark_results_endpoint_id_fkey",)
        broken["schema.foreign_key.not_valid"] = (
            "models_endpoint_id_fkey",
            "verified_endpoints_endpoint_id_fkey",
            "benchmark_results_model_id_fkey",
        )
    return broken
