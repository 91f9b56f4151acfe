"""Pack the bundle for another machine: `pack.py ROOT [ARCHIVE]`.

Prints its fingerprints as JSON, and writes a tar.gz where that is named. The same content always gives the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

PARTS = (
    "ansible.cfg",
    "maintain.yml",
    "requirements.txt",
    "LICENSE",
    "callback_plugins",
    "doc_fragments",
    "library",
    "module_utils",
    "playbooks",
    "roles",
    "runner",
)
LEFT_OUT = {"__pycache__"}


def files(root: Path) -> list[Path]:
    """The files that belong to the bundle, sorted."""
    found = []
    for part in PARTS:
        path = root / part
        found += [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sorted(path for path in found if not LEFT_OUT & set(path.parts))


def entry(root: Path, path: Path, content: bytes) -> tarfile.TarInfo:
    """A file's entry, without whatever differs from one checkout to the next."""
    info = tarfile.TarInfo(str(path.relative_to(root)))
    info.size = len(content)
    info.mtime = 946684800  # the same for all, and late enough for zip files, which begin with 1980
    info.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
    return info


def main() -> None:
    """Pack, and tell the fingerprints."""
    root = Path(sys.argv[1]).resolve()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in files(root):
            content = path.read_bytes()
            archive.addfile(entry(root, path, content), io.BytesIO(content))
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_bytes(gzip.compress(buffer.getvalue(), mtime=0))
    requirements = (root / "requirements.txt").read_bytes()
    answer = {
        "release": hashlib.sha256(buffer.getvalue()).hexdigest()[:16],
        "requirements": hashlib.sha256(requirements).hexdigest()[:16],
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
