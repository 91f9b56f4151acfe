"""The `servers` view against its contract. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..finding import Change, Finding
from ..finding_kinds import BY_FIX, FindingKind, declare, finding
from . import ddl, reversal
from .functions import PREDECESSORS, SEARCH_PATH, VIEW_PROGRAMS
from .model import Catalog, Contract, Trigger, View
from .repair import fix_of

declare(
    FindingKind(
        "schema.view.missing",
        "critical",
        "The view servers does not exist.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE",
        order=50,
    ),
    FindingKind(
        "schema.view.not_a_view", "critical", "servers is a table, as in an older layout: playbooks/migrate.yml."
    ),
    FindingKind(
        "schema.view.definition",
        "warning",
        "The view servers shows something else than endpoints with a link. Replaced only with consent.",
        BY_FIX,
        lock="ACCESS EXCLUSIVE",
        order=52,
    ),
    FindingKind(
        "schema.view.trigger",
        "critical",
        "Writes to servers do not reach the tables: an INSTEAD OF trigger is missing or outdated.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE",
        order=55,
    ),
    FindingKind(
        "schema.view.trigger_foreign",
        "warning",
        "servers has INSTEAD OF triggers of somebody else. Replaced only with consent.",
        BY_FIX,
        lock="SHARE ROW EXCLUSIVE",
        order=55,
    ),
)

CONSENT = "scannerdb_fix_replace_foreign"


def view_findings(contract: Contract, catalog: Catalog) -> Iterator[Finding]:
    """What is wrong with the view; one that is a table (an older layout) is reported and never touched."""
    name = contract.view.name
    view = catalog.views.get(name)
    if view is not None and view.kind == "view":
        yield from _definition(contract, view)
        yield from _triggers(contract, view, catalog.heir)
        return
    other = catalog.tables.get(name) or view
    if other is not None:
        yield finding(
            "schema.view.not_a_view",
            name,
            f"{name} is a {other.kind}, as in an older layout, not a view.",
            {"kind": other.kind},
            why_no_fix="It holds rows of its own, which the bundle never touches: see docs/contract.md.",
        )
        return
    yield _missing(contract, catalog)


def _missing(contract: Contract, catalog: Catalog) -> Finding:
    view, schema = contract.view, contract.schema
    grants = [g for g in contract.grants if g.relation == view.name and g.role in catalog.roles]
    statements = [ddl.create_view(schema, view), *(ddl.grant(schema, g) for g in grants)]
    changes = [
        Change(tuple(statements), ddl.NONE, "plain"),
        *ddl.view_triggers(schema, VIEW_PROGRAMS, owner=catalog.heir),
    ]
    if catalog.owner not in ("", catalog.user):
        changes.append(Change((ddl.set_owner("VIEW", schema, view.name, catalog.owner),), ddl.NONE, "plain"))
    return finding(
        "schema.view.missing",
        view.name,
        f"View {view.name} does not exist; older programs read and write through it.",
        {"columns": list(view.columns)},
        fix_of("schema.view.missing", changes),
    )


def _definition(contract: Contract, view: View) -> Iterator[Finding]:
    wanted = contract.view
    if view.columns[: len(wanted.columns)] == wanted.columns and view.reads >= wanted.reads:
        if view.reads == wanted.reads and not view.outer_join and not view.filtered:
            return
        why = "it joins or filters differently"
    else:
        why = "its columns are others"
    fits = view.columns == wanted.columns
    changes = [Change((ddl.create_view(contract.schema, wanted, replace=True),), ddl.ACCESS_EXCLUSIVE, "strong")]
    yield finding(
        "schema.view.definition",
        view.name,
        f"View {view.name} means something else than endpoints with a link: {why}.",
        {
            "columns": list(view.columns),
            "reads": sorted(f"{relation}.{column}" for relation, column in view.reads),
            "outer_join": view.outer_join,
            "filtered": view.filtered,
        },
        fix_of("schema.view.definition", changes, CONSENT) if fits else None,
        "" if fits else "Other columns need the view to be dropped, which would lose grants and dependent views.",
    )


def is_ours(contract: Contract, event: str, trigger: Trigger) -> bool:
    """True where a trigger runs this contract's own function for the event, unchanged."""
    program = VIEW_PROGRAMS[event]
    return (
        trigger.function == program.name
        and trigger.function_schema == contract.schema
        and trigger.source == ddl.body_of(contract.schema, program)
        and (trigger.search_path or "").replace(" ", "") == SEARCH_PATH.replace(" ", "")
        and not trigger.security_definer
        and trigger.enabled
    )


def _is_replaceable(trigger: Trigger) -> bool:
    """The old scripts' triggers, and older versions or damaged copies of ours."""
    return trigger.function in PREDECESSORS or trigger.function in {p.name for p in VIEW_PROGRAMS.values()}


def _triggers(contract: Contract, view: View, heir: str) -> Iterator[Finding]:
    instead = [t for t in view.triggers if t.timing == "INSTEAD OF"]
    wrong: dict[str, str] = {}
    drop: set[str] = set()
    foreign: list[Trigger] = []
    for event, program in VIEW_PROGRAMS.items():
        mine = [t for t in instead if event in t.events]
        others = [t for t in mine if not is_ours(contract, event, t)]
        foreign += [t for t in others if not _is_replaceable(t)]
        old = [t for t in others if _is_replaceable(t)]
        if any(t in foreign for t in others):
            continue
        if len(mine) > len(others) and not old:
            continue
        wrong[event] = f"runs the outdated function {old[0].function}" if old else "is missing"
        drop |= {t.name for t in old if t.name != program.name}
    if wrong:
        names = [VIEW_PROGRAMS[event].name for event in wrong]
        # Where an outdated trigger was replaced, there is nothing to go back to that works.
        replaced = any("outdated" in why for why in wrong.values())
        undo = [] if replaced else [reversal.drop_triggers(contract.schema, view.name, names, soft=False)]
        changes = ddl.view_triggers(contract.schema, wrong, sorted(drop), owner=heir)
        said = "; ".join(f"INSTEAD OF {event} {why}" for event, why in sorted(wrong.items()))
        yield finding(
            "schema.view.trigger",
            view.name,
            f"Writes to {view.name} do not reach the tables as they should: {said}.",
            {"events": wrong},
            fix_of("schema.view.trigger", changes, undo=undo),
        )
    if foreign:
        yield _foreign(contract, view, foreign, heir)


def _foreign(contract: Contract, view: View, foreign: list[Trigger], heir: str) -> Finding:
    names = sorted({t.name for t in foreign})
    events = {event for t in foreign for event in t.events}
    changes = ddl.view_triggers(contract.schema, events, names, owner=heir)
    return finding(
        "schema.view.trigger_foreign",
        view.name,
        f"{view.name} has triggers that are not the bundle's ({', '.join(names)}); what they do is not proven.",
        {"triggers": names, "functions": sorted({f"{t.function_schema}.{t.function}" for t in foreign})},
        fix_of("schema.view.trigger_foreign", changes, CONSENT),
    )
