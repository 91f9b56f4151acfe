"""Write the reference pages from the code's own registries: `make generate`. A test keeps them current."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "module_utils"), str(ROOT)]

from scannerdb.checks.registry import KINDS, THRESHOLDS  # noqa: E402
from scannerdb.finding import SEVERITIES  # noqa: E402

from docs import declared  # noqa: E402

MADE = "<!-- Made by docs/reference.py out of {source}; change it there and run `make generate`. -->\n"


def checks_page() -> str:
    """docs/checks.md: every finding."""
    lines = [
        "# What the check finds",
        "",
        MADE.format(source="the declarations in module_utils/scannerdb/checks/ and contract/"),
        "A finding has one of three severities: *critical* (data or writes are wrong, or will be), *warning* "
        "(repair it soon), *info* (good to know). `scannerdb_check_fail_on` says from which one on a play fails, "
        "`scannerdb_check_ignore` suppresses single ones with a reason and an end.",
        "",
        "What is repaired *by hand* comes with the exact SQL in the report where there is any; the bundle leaves the "
        "decision to you.",
        "",
        "| finding | severity | meaning | repaired by | lock |",
        "|---|---|---|---|---|",
    ]
    kinds = sorted(KINDS.values(), key=lambda e: (e.id.split(".")[0], SEVERITIES.index(e.severity), e.id))
    for e in kinds:
        how = f"{e.fixed_by}: {e.how}" if e.how else e.fixed_by
        lines.append(f"| `{e.id}` | {e.severity} | {_cell(e.meaning)} | {_cell(how)} | {e.lock} |")
    lines += [
        "",
        "## Thresholds",
        "",
        "`scannerdb_check_thresholds` moves single ones; what it does not name keeps its default.",
        "",
        "| threshold | default | from where on something is a finding |",
        "|---|---|---|",
        *(f"| `{t.name}` | {t.default:.15g} | {_cell(t.meaning)} |" for t in THRESHOLDS.values()),
    ]
    return "\n".join(lines) + "\n"


def _role_options(role: Path) -> dict[str, dict[str, Any]]:
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    options: dict[str, dict[str, Any]] = {}
    for entry in specs.values():
        options.update(entry.get("options") or {})
    return options


def _defaults(role: Path) -> dict[str, Any]:
    path = role / "defaults" / "main.yml"
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def _cell(value: Any) -> str:
    text = " ".join(str(part) for part in value) if isinstance(value, list) else str(value)
    text = re.sub(r"\b[CVOM]\(([^()]*)\)", r"`\1`", text)  # Ansible's own markup
    return " ".join(text.split()).replace("|", "\\|")


def _default_cell(name: str, defaults: dict[str, Any]) -> str:
    if name not in defaults:
        return ""
    value = defaults[name]
    if isinstance(value, bool):
        value = str(value).lower()
    if value == "":
        return "empty"
    return f"`{_cell(value)}`" if not isinstance(value, (list, dict)) else f"`{value}`"


def variables_page() -> str:
    """docs/variables.md: every role's variables, each once, where its default is written."""
    lines = [
        "# Variables",
        "",
        MADE.format(source="the roles' argument specs and defaults"),
        "Set them in the inventory (group_vars, host_vars) or with `-e`. `scannerdb_hosts` (default `scannerdb`) names "
        "the group or host that a playbook works on, and `scannerdb_run_id` the run that `undo.yml` takes back.",
    ]
    for role in sorted((ROOT / "roles").iterdir(), key=lambda r: (r.name != "scannerdb_common", r.name)):
        defaults, options = _defaults(role), _role_options(role)
        if not defaults:
            continue
        lines += ["", f"## {role.name}", "", "| variable | default | meaning |", "|---|---|---|"]
        for name in sorted(defaults):
            said = _cell(options.get(name, {}).get("description", ""))
            choices = options.get(name, {}).get("choices")
            said += f" One of {', '.join(f'`{c}`' for c in choices)}." if choices else ""
            lines.append(f"| `{name}` | {_default_cell(name, defaults)} | {said} |")
    return "\n".join(lines) + "\n"


def _variable_rows(options: dict[str, dict[str, Any]], defaults: dict[str, Any]) -> list[str]:
    lines = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, option in sorted(options.items()):
        said = _cell(option.get("description", ""))
        choices = option.get("choices")
        said += f" One of {', '.join(f'`{c}`' for c in choices)}." if choices else ""
        lines.append(f"| `{name}` | {option['type']} | {_default_cell(name, defaults)} | {said} |")
    return lines


def _entry_point(role: str, entry: str, spec: dict[str, Any]) -> list[str]:
    """What an entry point of a role does, and a play that uses it."""
    use = {"name": role} if entry == "main" else {"name": role, "tasks_from": entry}
    task = {"name": spec["short_description"], "ansible.builtin.import_role": use}
    play = [{"name": "An example", "hosts": "scannerdb", "gather_facts": False, "tasks": [task]}]
    return [
        *([] if entry == "main" else [f"## Entry point {entry}", ""]),
        f"{spec['short_description']}.",
        "",
        *([_cell(spec["description"]), ""] if spec.get("description") else []),
        "```yaml",
        yaml.safe_dump(play, sort_keys=False).strip(),
        "```",
        "",
    ]


def role_page(role: Path) -> str:
    """The README of a role: its entry points, its variables, and whose variables count, too."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    meta = role / "meta" / "main.yml"
    dependencies = (yaml.safe_load(meta.read_text(encoding="utf-8")) if meta.exists() else {}).get("dependencies") or []
    lines = [f"# {role.name}", "", MADE.format(source="this role's argument specs and defaults")]
    for entry, spec in specs.items():
        lines += _entry_point(role.name, entry, spec)
    lines += ["## Variables", ""]
    options = _role_options(role)
    if options:
        lines += [*_variable_rows(options, _defaults(role)), ""]
    names = [f"those of [{d['role']}](../{d['role']}/README.md)" for d in dependencies]
    lines += [f"Read also: {', '.join([*names, '[all variables](../../docs/variables.md)'])}."]
    return "\n".join(lines) + "\n"


# What a command needs beside the inventory, for the example.
ARGUMENTS = {
    "undo": "-l db1 -e scannerdb_run_id=20250418T031500Z-0a1b2c3d",
    "restore": "-l db1 -e scannerdb_restore_source=latest -e scannerdb_restore_confirm=ollama_scanner",
    "migrate": "-l db1 -e scannerdb_migrate_confirm=ollama_scanner",
    "uninstall": "-l db1",
    "remove": "-l db1 -e scannerdb_remove_set=ollama_scanner_20250418_120000.backup",
    "check": "-e scannerdb_check_fail_on=never",
    "fix": "--check --diff",
    "verify": "-e scannerdb_verify_level=restore",
    "client": "-e scannerdb_client_install=true",
}
SAYS = {"maintain": "Check, back up, fix, vacuum, check again, and say what came of it"}
SHARED_ROLES = ("scannerdb_common", "scannerdb_summary")


def _roles_of(playbook: Path) -> list[tuple[str, str]]:
    """The roles that a playbook uses, each with its entry point."""
    found = re.findall(r"name: (scannerdb_\w+)(?:\n\s+tasks_from: (\w+))?", playbook.read_text(encoding="utf-8"))
    seen = dict.fromkeys((role, entry or "main") for role, entry in found if role not in SHARED_ROLES)
    return [(role, entry) for role, entry in seen if entry in _specs(role)]


def _specs(role: str) -> dict[str, Any]:
    path = ROOT / "roles" / role / "meta" / "argument_specs.yml"
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
    return found


def commands_page() -> str:
    """docs/commands.md: every playbook with what it does, an example, and its variables."""
    lines = [
        "# Commands",
        "",
        MADE.format(source="the playbooks and their roles' argument specs"),
        "Every playbook takes `-i` (the inventory), `-l` (which of its hosts), `--check --diff` (what it would do), "
        "and the variables of [all roles](variables.md) with `-e`.",
        "",
    ]
    for path in [ROOT / "maintain.yml", *sorted((ROOT / "playbooks").glob("*.yml"))]:
        if path.parent.name == "playbooks" and path.stem == "maintain":
            continue
        roles = _roles_of(ROOT / "playbooks" / path.name)
        name = path.relative_to(ROOT).as_posix()
        says = SAYS.get(path.stem) or "; ".join(_specs(role)[entry]["short_description"] for role, entry in roles)
        variables = list(_defaults(ROOT / "roles" / roles[0][0]))
        shown = ", ".join(f"`{v}`" for v in variables[:9]) or "those that all roles share"
        more = f" and {len(variables) - 9} more" if len(variables) > 9 else ""
        links = ", ".join(f"[{role}](../roles/{role}/README.md)" for role, _ in roles)
        example = " ".join(filter(None, ["ansible-playbook -i inventories/mine", name, ARGUMENTS.get(path.stem, "")]))
        lines += [f"## {name}", "", f"{says}. {links}", "", "```bash", example, "```", ""]
        lines += [f"Variables: {shown}{more}.", ""]
    return "\n".join(lines).rstrip() + "\n"


PAGES = {
    **declared.files(),
    "docs/checks.md": checks_page,
    "docs/variables.md": variables_page,
    "docs/commands.md": commands_page,
}
PAGES.update(
    {f"roles/{role.name}/README.md": partial(role_page, role) for role in sorted((ROOT / "roles").glob("scannerdb_*"))}
)


def main() -> None:
    """Rewrite every page."""
    for name, make in PAGES.items():
        (ROOT / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
