"""Whether a folder outlives the place it is in: in a container whose files go with it, a backup is soon lost.

A container's own layers and what lies in memory are recognised. A volume that an orchestrator throws away later
(Kubernetes' emptyDir) looks like any disk: there people have to say it, with `ephemeral`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..argspec import StorageOptions
from ..errors import FileProblem
from ..files import file_errors

MOUNTS = Path("/proc/self/mountinfo")
IN_MEMORY = ("tmpfs", "ramfs")
LAYERED = ("overlay", "aufs", "fuse-overlayfs", "fuse.fuse-overlayfs")
# What marks containers that are made for one application, and thrown away; a machine in a container (LXC) has none.
MARKERS = ("/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io")


@dataclass(frozen=True)
class Storage:
    """A folder for backups, and whether it keeps them: `persistent`, `ephemeral`, or `auto` to look."""

    folder: Path
    kind: str = StorageOptions.storage

    def why_lost(self) -> str:
        """Why what is written there would be lost, as part of a sentence; empty where it is kept."""
        if self.kind == "ephemeral":
            return "it is said to be ephemeral"
        if self.kind == "persistent" or not MOUNTS.exists():
            return ""
        with file_errors("Looking at", self.folder):
            place = next(p for p in [self.folder, *self.folder.parents] if p.exists()).resolve()
            mount, kind = mount_of(MOUNTS.read_text(encoding="utf-8", errors="replace"), str(place))
        return why_ephemeral(mount, kind, in_container())

    def ensure_kept(self, copied_to: str) -> None:
        """Raise `FileProblem` where what is written there would be lost, and no copy goes elsewhere."""
        why = self.why_lost()
        if why and not copied_to:
            raise FileProblem(
                f"A backup in {self.folder} would not last: {why}.",
                "Mount a lasting folder there, let copies go elsewhere (scannerdb_backup_offsite_remote), or, where it "
                "does last, say so: scannerdb_backup_storage: persistent.",
            )


def mount_of(mounts: str, path: str) -> tuple[str, str]:
    """The mount point and the file system's type of a resolved path, out of /proc/self/mountinfo. Pure."""
    best = ("", "")
    for line in mounts.splitlines():
        fields = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):  # of two in one place, the later lies on top
            best = (point, fields[fields.index("-") + 1])
    return best


def why_ephemeral(mount: str, kind: str, container: bool) -> str:
    """Why files below a mount point of that type would be lost; empty where they are kept. Pure."""
    if kind in IN_MEMORY:
        return f"{mount} is in memory ({kind})"
    if kind in LAYERED:
        return f"{mount} is a layer of a container or of a live system ({kind})"
    if container and mount == "/":
        return "it is a container's own file system, and no volume is mounted there"
    return ""


def in_container() -> bool:
    """True in a container that is made for an application."""
    told = os.environ.get("container", "") in ("docker", "podman", "oci", "kube")  # noqa: SIM112 - its real name
    return told or "KUBERNETES_SERVICE_HOST" in os.environ or any(Path(marker).exists() for marker in MARKERS)
