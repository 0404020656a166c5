"""What the lab needs of the computer that it runs on."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TextIO

from tests.lab.errors import LabError
from tests.lab.paths import LAB, RUN, cache
from tests.lab.plan import NO_NODE

_WATCHERS = Path("/proc/sys/fs/inotify/max_user_instances")
_WATCHERS_NEEDED = 1024
_MODULES = (
    *("overlay", "fuse", "veth", "bridge", "br_netfilter", "macvlan"),
    *("nf_conntrack", "xt_conntrack", "xt_TEE"),
)


def packages() -> list[str]:
    """Return the packages that the lab needs."""
    lines = (LAB / "packages.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def missing_packages() -> list[str]:
    """Return the packages of them that are not installed."""
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *packages()],
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {
        line.split()[1] for line in done.stdout.splitlines() if line.startswith("installed ")
    }
    return [package for package in packages() if package not in installed]


def check() -> None:
    """Raise an error that says what to do if this computer cannot run the lab."""
    if os.geteuid() != 0:
        raise LabError("the lab makes namespaces and mounts: run it as root (sudo)")
    if shutil.which("dpkg-query") is None:
        raise LabError("the lab needs a Debian or Ubuntu computer")
    missing = missing_packages()
    if missing:
        raise LabError(f"packages are missing; install them: apt-get install {' '.join(missing)}")


def load_modules() -> None:
    """Load what nodes use of the kernel: they cannot load modules themselves."""
    # Built into the kernel or not, known or not: what is really missing shows when it is used.
    subprocess.run(["modprobe", "--quiet", "--all", *_MODULES], check=False)


def raise_limits() -> None:
    """Let root watch more files than by default: each node's init is root, and takes five."""
    has = int(_WATCHERS.read_text())
    if has < _WATCHERS_NEEDED:
        RUN.mkdir(parents=True, exist_ok=True)
        (RUN / _WATCHERS.name).write_text(str(has))
        _WATCHERS.write_text(str(_WATCHERS_NEEDED))


def restore_limits() -> None:
    """Undo `raise_limits`."""
    before = RUN / _WATCHERS.name
    if before.exists():
        _WATCHERS.write_text(before.read_text())
        before.unlink()


_claims: list[TextIO] = []


def claim_swap() -> bool:
    """Whether a node of the lab that this process starts may swap; no other lab that is started
    meanwhile may, until this one's plan says it."""
    cache().mkdir(parents=True, exist_ok=True)
    claim = (cache() / ".swap.lock").open("w")
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        claim.close()
        return False
    _claims.append(claim)
    return not swaps()


def swaps() -> bool:
    """Whether this computer swaps, or a lab on it has a node that does, now or once it is reset: a
    node would see that as its own."""
    plans = (json.loads(file.read_text()) for file in RUN.glob("*/plan.json"))
    return len(Path("/proc/swaps").read_text().splitlines()) > 1 or any(
        plan["swap"] != NO_NODE for plan in plans
    )
