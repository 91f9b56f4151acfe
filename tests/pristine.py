"""`make test-pristine`: both commands of the README on a Debian that has nothing but Python, git and make.

A bare root filesystem is made, HEAD is cloned into it, `make demo` runs there as an ordinary user and as root, and
`make test` as root, from a folder below root's own home. Mounts and processes live in namespaces of their own, and end
with them.

python3 -m tests.pristine [--release bookworm] [STEP …]

A step is what make understands, such as demo, unit or "molecule SCENARIO=client".
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
GIVEN = ("python3", "python3-venv", "git", "make", "ca-certificates")
STEPS = ("demo", "test")
USER = "somebody"
LOGINS = {"demo": (USER, "root")}  # the rest is for root, below whose home nobody else can look
QUICK = "force-unsafe-io"  # what is thrown away need not survive a power cut
PIP_FILES = {"/etc/pip.conf": "/etc/pip.conf", "~/.config/pip/pip.conf": "/etc/xdg/pip/pip.conf"}
KEPT = re.compile(r"(PIP_.*|.*_CERT|.*CERT_(FILE|DIR)|.*_CA_BUNDLE|(?i:https?|no|all)_proxy|CI|SCANNERDB_.*)")
LOCAL_PATH = re.compile(r"(?:file://)?(/[\w.+/-]+)")
AUTHORITIES = "/usr/local/share/ca-certificates"
HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
# Inside namespaces of our own: everything a system has mounted, then the bare root in the place of the machine's.
ENTER = r"""
set -eu
root=$1; shift
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
for name in dev sys; do mount --rbind /$name $name; done
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=1777 tmpfs run
for path in "$@"; do
    test "$path" != -- || break
    mount --bind -o ro "$path" ".$path"
done
while test "$1" != --; do shift; done
shift
mkdir -p .old
pivot_root . .old
cd /
umount -l .old
exec "$@"
"""


def say(text: str) -> None:
    """A line that stands out."""
    print(f"=== {text}", flush=True)


def run(*command: str, **more: object) -> None:
    """Run a program that must succeed."""
    subprocess.run(command, check=True, **more)  # type: ignore[call-overload]


def environment() -> dict[str, str]:
    """What goes inside of this environment: how the network and pip's index are reached, and what is required."""
    kept = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)}
    return {
        **kept,
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SCANNERDB_REQUIRE_ALL": "1",
    }


def local_paths(root: Path) -> list[str]:
    """The folders and files outside that pip's configuration and the environment name, with a place for each inside."""
    texts = [text for name, text in environment().items() if name != "PATH"]
    for outside, inside in PIP_FILES.items():
        source, target = Path(outside).expanduser(), root / inside[1:]
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            texts.append(source.read_text(encoding="utf-8"))
    found = {path for text in texts for path in LOCAL_PATH.findall(text) if Path(path).exists()}
    found = {path.removesuffix("/simple") for path in found}  # an index's files lie beside it
    bound = sorted(path for path in found if not path.startswith("/etc/ssl/"))
    for path in bound:
        place = root / path[1:]
        if Path(path).is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    return bound


def make_root(root: Path, release: str) -> None:
    """A Debian with what is given, the network's names and the certificates that this machine trusts, too."""
    options = ("--quiet", "--variant=minbase", f"--dpkgopt={QUICK}", f"--include={','.join(GIVEN)}")
    run("mmdebstrap", *options, release, str(root))
    (root / "etc/dpkg/dpkg.cfg.d/quick").write_text(f"{QUICK}\n", encoding="ascii")
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    (root / "etc/hosts").write_text(HOSTS, encoding="ascii")
    if Path(AUTHORITIES).is_dir():
        shutil.copytree(AUTHORITIES, root / AUTHORITIES[1:], dirs_exist_ok=True)
    run("chroot", str(root), "update-ca-certificates", stdout=subprocess.DEVNULL)
    run("chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", USER)


def clone(root: Path, commit: str) -> None:
    """A commit, for the ordinary user and for root, below root's own home."""
    for home, owner in ((f"home/{USER}", USER), ("root", "root")):
        target = root / home / "scannerdb"
        run("git", "clone", "--quiet", "--no-hardlinks", f"file://{CHECKOUT}", str(target))
        run("git", "-C", str(target), "checkout", "--quiet", "--detach", commit)
        run("chroot", str(root), "chown", "--recursive", f"{owner}:", f"/{home}/scannerdb")
    (root / "root").chmod(0o700)


def head() -> str:
    """The commit that is tested."""
    shown = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return shown.stdout.strip()


def inside(root: Path, bound: Sequence[str], login: str, words: str) -> int:
    """Run make in the bare root, as that user; its exit code. Whatever it leaves behind ends with it."""
    home = "/root" if login == "root" else f"/home/{login}"
    shell = f"cd {home}/scannerdb && exec env HOME={home} USER={login} make {words}"
    become = ["setpriv", f"--reuid={login}", f"--regid={login}", "--init-groups", "sh", "-c", shell]
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private"]
    command = [*namespaces, "sh", "-c", ENTER, "enter", str(root), *bound, "--", *become]
    return subprocess.run(command, env=environment(), stdin=subprocess.DEVNULL, check=False).returncode


@contextmanager
def bare_root(release: str) -> Iterator[Path]:
    """The root filesystem; gone afterwards."""
    base = Path(tempfile.mkdtemp(prefix="scannerdb-pristine-", dir="/var/tmp"))
    base.chmod(0o755)
    try:
        make_root(base / "root", release)
        yield base / "root"
    finally:
        shutil.rmtree(base)


def main() -> int:
    """Run the steps; the exit code is that of the first that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", default="bookworm", help="the release of Debian (default: bookworm)")
    parser.add_argument("steps", nargs="*", metavar="STEP", default=STEPS)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("Only root can make a bare root filesystem: sudo make test-pristine", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    done: list[str] = []
    with bare_root(arguments.release) as root:
        bound = local_paths(root)
        commit = head()  # which moves on, where somebody works
        clone(root, commit)
        runs = [(login, step) for step in arguments.steps for login in LOGINS.get(step, ("root",))]
        for login, step in runs:
            say(f"make {step}, as {login}, on a bare Debian {arguments.release}")
            begun = time.monotonic()
            code = inside(root, bound, login, step)
            done.append(f"make {step}, as {login}: exit code {code}, {time.monotonic() - begun:.0f} s")
            if code:
                break
    say(f"{commit[:12]} on a Debian {arguments.release} that had {', '.join(GIVEN)} and nothing else:")
    for line in done:
        say(line)
    return code


if __name__ == "__main__":
    sys.exit(main())
