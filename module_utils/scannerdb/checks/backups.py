"""The backups in the report, each with its proof. Pure: plain values in."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from .context import amount, printable

SHOWN = 10
HEAD = ("backup", "size", "purpose", "verified by", "on")


def cells(item: Mapping[str, Any]) -> list[str]:
    """One backup: a damaged one says so where its proof would stand."""
    proof = "DAMAGED" if item["damaged"] else item["verified"] if item["verified"] != "none" else "not verified"
    return [item["name"], amount(item["size_bytes"]), item["purpose"], proof, item["verified_at"] or "-"]


def verdict(backups: Mapping[str, Any]) -> str:
    """The proof in one sentence."""
    return " ".join(filter(None, [_sets(backups), backups.get("physical", "")]))


def _sets(backups: Mapping[str, Any]) -> str:
    if backups["why"]:
        return f"They could not be looked at: {backups['why']}"
    if not backups["sets"]:
        return f"There is none in {backups['dir']}."
    proven = backups["proven"]
    said = f"Proven restorable: {proven['name']}, on {proven['at']}." if proven else "None was proven by a restore."
    return f"{backups['count']} in {backups['dir']}. {said}"


def as_html(backups: Mapping[str, Any]) -> str:
    """The newest ones; nothing where no folder was named."""
    if not backups:
        return ""
    head = "".join(f"<th>{word}</th>" for word in HEAD)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(printable(cell))}</td>" for cell in cells(item)) + "</tr>"
        for item in backups["sets"][:SHOWN]
    )
    table = f"<table><tr>{head}</tr>{rows}</table>" if rows else ""
    return f'<section class="card"><h2>Backups</h2><p>{escape(printable(verdict(backups)))}</p>{table}</section>'


def as_markdown(backups: Mapping[str, Any], plain: Any) -> list[str]:
    """The same; `plain` makes a name text in Markdown."""
    if not backups:
        return []
    lines = ["", "## Backups", "", plain(verdict(backups))]
    if backups["sets"]:
        lines += ["", f"| {' | '.join(HEAD)} |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join(plain(c) for c in cells(item))} |" for item in backups["sets"][:SHOWN]]
    return lines
