#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the private folders that the jobs write to, all in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_folders
short_description: Make the private folders that the jobs write to
version_added: "0.1.0"
description:
  - Makes several folders private and with an owner, in one call; M(ansible.builtin.file) needs one call for each.
  - Missing parents are made, too, but anybody can pass through those. Another database's folders may come to lie there,
    and be another user's.
author:
  - the scannerdb contributors
options:
  paths:
    description: The folders.
    type: list
    elements: path
    required: true
  owner:
    description: System user who shall own them; empty to leave the owner as it is.
    type: str
    default: ""
attributes:
  check_mode:
    description: Tells which folders would be made or changed.
    support: full
  diff_mode:
    description: Shows what is there before and after.
    support: full
seealso:
  - module: ansible.builtin.file
"""

EXAMPLES = r"""
- name: Make the folders
  scannerdb_folders:
    paths:
      - /var/lib/scannerdb/scanner
      - /var/backups/scannerdb/scanner
    owner: postgres
  become: true
"""

RETURN = r"""
made:
  description: Folders that were made, or would be, parents included.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

MODE = 0o700
PARENT_MODE = 0o755


def missing(folder: Path) -> list[Path]:
    """What has to be made for that folder: its missing parents, the topmost first, and itself."""
    return [path for path in [*reversed(folder.parents), folder] if not path.is_dir()]


def make(module: AnsibleModule, path: Path, mode: int) -> dict[str, Any]:
    """Make one folder, or only say so; returns its diff."""
    if not module.check_mode:
        try:
            path.mkdir()
            path.chmod(mode)
        except OSError as error:
            module.fail_json(msg=f"The folder {path} could not be made: {error.strerror}. Make it, or name another.")
    return {"before": {"path": str(path), "state": "absent"}, "after": {"path": str(path), "state": "directory"}}


def settle(module: AnsibleModule, path: Path) -> dict[str, Any]:
    """Give an existing folder its owner and mode; returns a diff, which is empty where both were right."""
    diff: dict[str, Any] = {}
    wanted = {"mode": MODE, "owner": module.params["owner"] or None}
    arguments = module.load_file_common_arguments({**module.params, **wanted}, path=str(path.resolve()))
    return diff if module.set_fs_attributes_if_different(arguments, False, diff) else {}


def main() -> None:
    """Make what is missing, then set owner and mode."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "required": True},
            "owner": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    made: list[Path] = []
    diffs: list[dict[str, Any]] = []
    for folder in (Path(path).absolute() for path in module.params["paths"]):
        fresh = [path for path in missing(folder) if path not in made]
        diffs += [make(module, path, MODE if path == folder else PARENT_MODE) for path in fresh]
        made += fresh
        diffs += [settle(module, folder)] if folder.is_dir() else []
    diffs = [diff for diff in diffs if diff]
    module.exit_json(changed=bool(diffs), made=[str(path) for path in made], diff=diffs)


if __name__ == "__main__":
    main()
