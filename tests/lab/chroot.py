"""Run a shell script inside an image that is being built: `python -m tests.lab.chroot`.

A program of its own, because it moves into mounts of its own first; they are gone when it
ends, however it ends.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from tests.lab import linux

BUILD = Path("/run/build")
"""Where the script finds its folder (read from the checkout) inside the image."""
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_CONFIG": "/run/apt.conf",
}


def archive_access() -> str:
    """Return how apt on this computer gets at its archives, as lines of apt.conf: its proxies, and
    whether it takes the index of a mirror that lags (`Acquire::Check-Valid-Until`), which testing's
    has expired after a week."""
    settings = linux.run("apt-config", "dump", "Acquire").splitlines()
    wanted = ("::proxy", "::check-valid-until")
    return "".join(f"{line}\n" for line in settings if any(one in line.lower() for one in wanted))


def main() -> None:
    """Mount the image, this computer's /proc, /dev and resolver, and become the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lower", type=Path, help="the image below, if this is a layer")
    parser.add_argument("--upper", type=Path, required=True, help="what is being built")
    parser.add_argument("--work", type=Path, help="empty folder that a layer needs")
    parser.add_argument("--packages", type=Path, required=True, help="where apt keeps .debs")
    parser.add_argument("--scripts", type=Path, required=True, help="shown as /run/build")
    parser.add_argument("--apt-source", required=True, help="the build's line of sources.list")
    parser.add_argument("script", help="name of the script in that folder")
    arguments = parser.parse_args()

    linux.enter_private_mounts()
    root = arguments.upper
    if arguments.lower is not None:
        root = arguments.work / "root"
        work = arguments.work / "work"
        for folder in (root, work):
            folder.mkdir(parents=True)
        linux.overlay(root, lower=[arguments.lower], upper=arguments.upper, work=work)
    linux.tmpfs(root / "run")
    linux.tmpfs(root / "tmp", mode=0o1777)
    inside = root / BUILD.relative_to("/")
    inside.mkdir()
    linux.bind(arguments.scripts, inside)
    linux.bind(arguments.packages, root / "var/cache/apt/archives")
    for shared in (Path("/proc"), Path("/dev")):
        linux.bind(shared, root / shared.relative_to("/"))
    for file in (Path("/etc/resolv.conf"), Path("/etc/hosts")):
        target = root / file.relative_to("/")
        target.touch()
        linux.bind(file.resolve(), target)
    (root / "run/build.list").write_text(arguments.apt_source + "\n")
    (root / "run/apt.conf").write_text(
        (arguments.scripts / "apt.conf").read_text() + archive_access()
    )
    # Packages ask this before they start a service.
    policy = root / "usr/sbin/policy-rc.d"
    policy.touch()
    denial = root / "run/policy-rc.d"
    denial.write_text("#!/bin/sh\nexit 101\n")
    denial.chmod(0o755)
    linux.bind(denial, policy)
    os.chroot(root)
    os.chdir("/")
    shell = shutil.which("sh") or "/bin/sh"
    proxy = {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}
    os.execve(shell, [shell, "-eu", str(BUILD / arguments.script)], {**_ENVIRONMENT, **proxy})


if __name__ == "__main__":
    main()
