"""The images that the container scenarios run in: made once for a recipe, and again only when the recipe changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping

from tests.containers.engine import HERE, Unavailable, last_words, run

# An image of a registry to build on, such as docker.io/library/debian:12; else mmdebstrap makes one of this release.
BASE = os.environ.get("SCANNERDB_CONTAINER_BASE", "")
SUITE = os.environ.get("SCANNERDB_CONTAINER_SUITE", "bookworm")
STAGES = ("host", "database")
# Release and stage of each image: those of most hosts, and the newer release's, for hosts with a `container_suite`.
IMAGES = tuple(dict.fromkeys([*((SUITE, stage) for stage in STAGES), ("trixie", "database")]))
LABEL = "scannerdb.recipe"
BUILD_S = 900


def recipe(suite: str) -> str:
    """A hash of all that decides what is in the images of a release."""
    parts = [BASE if suite == SUITE else "", suite, (HERE / "Containerfile").read_text(encoding="utf-8")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def name(suite: str, stage: str) -> str:
    """The image of one stage."""
    return f"localhost/scannerdb-test-{suite}-{stage}:{recipe(suite)}"


def exists(image: str, environment: Mapping[str, str]) -> bool:
    """Whether the image is there."""
    return run(("podman", "image", "exists", image), 60, environment).returncode == 0


def ensure(environment: Mapping[str, str]) -> None:
    """Build what is missing; raises `Unavailable` where that cannot be done."""
    for suite, stage in IMAGES:
        if not exists(name(suite, stage), environment):
            build(suite, stage, environment)


def build(suite: str, stage: str, environment: Mapping[str, str]) -> None:
    """Build one image; raises `Unavailable` where that cannot be done."""
    base = BASE if BASE and suite == SUITE else bootstrap(suite, environment)
    print(f"Building {name(suite, stage)} …", flush=True)
    arguments = [
        *("podman", "build", "--network=host", "--pull=missing", "--target", stage, "--tag", name(suite, stage)),
        *("--label", f"{LABEL}={recipe(suite)}", "--build-arg", f"BASE={base}", "--file", str(HERE / "Containerfile")),
        *("--ignorefile", os.devnull, str(HERE)),
    ]
    done = run(arguments, BUILD_S, environment)
    if done.returncode != 0:
        raise Unavailable(f"The image cannot be built: {last_words(done)}", "A mirror or registry must be reached.")


def bootstrap(suite: str, environment: Mapping[str, str]) -> str:
    """A smallest Debian from its mirror, imported as an image; the name of it."""
    image = f"localhost/scannerdb-test-{suite}:minbase"
    if exists(image, environment):
        return image
    print(f"Fetching Debian {suite} …", flush=True)
    program = shutil.which("mmdebstrap") or "mmdebstrap"
    done = run((program, "--quiet", "--variant=minbase", suite), BUILD_S, {"DEBIAN_FRONTEND": "noninteractive"})
    if done.returncode != 0:
        raise Unavailable(f"mmdebstrap failed: {last_words(done)}", "A Debian mirror must be reached.")
    done = run(("podman", "import", "-", image), BUILD_S, environment, stdin=done.stdout)
    if done.returncode != 0:
        raise Unavailable(f"podman import failed: {last_words(done)}", "Look at podman's storage and the disk.")
    return image


def remove_all(environment: Mapping[str, str]) -> None:
    """Remove every image that this module ever made."""
    listed = run(("podman", "images", "--format", "{{.Repository}}:{{.Tag}}"), 60, environment).stdout.decode()
    ours = [line for line in listed.split() if line.startswith("localhost/scannerdb-test-")]
    if ours:
        subprocess.run(["podman", "rmi", "--force", *ours], check=True, env={**os.environ, **environment})
