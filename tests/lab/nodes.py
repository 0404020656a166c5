"""The nodes' power switches, and ways into a running node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer

from tests.lab import linux, services
from tests.lab.cgroup import Group
from tests.lab.disk import Disks
from tests.lab.errors import LabError
from tests.lab.paths import LabPaths
from tests.lab.plan import Node, Plan

_BOOT_SECONDS = 90
_COMMAND_SECONDS = 900
_SSH_PORT = 22
_LISTENING = "0A"
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LANG": "C.UTF-8",
}


def power_on(lab: str, node: str) -> None:
    """Switch a node on; nothing happens if it is on."""
    group = Group.of(lab, node)
    if not group.alive():
        # A node begins with a new group: in one whose processes were ended by cgroup.kill,
        # some kernels (6.14 and on) go on killing what systemd starts.
        group.kill()
        paths = LabPaths(lab)
        log = paths.logs / f"{node}.log"
        services.spawn(group, sys.executable, "-m", "tests.lab.supervisor", lab, node, log=log)


def cut(lab: str, node: str, *, lose: bool = False) -> None:
    """Take a node's power away: every process of it ends at once, and writes nothing any more.

    What its file systems have not given to their device yet, the kernel writes all the same when
    it unmounts them. With LOSE that is gone, as on a real computer: that takes a card.
    """
    group = Group.of(lab, node)
    disks = Disks.of(Plan.from_json(LabPaths(lab).plan.read_text()), node)
    if lose:
        if disks.card is None:
            raise LabError(
                f"{node} has no card, and only a card can lose what is not on it yet; "
                f"start the lab with: lab up --card {node}"
            )
        if group.alive():
            group.freeze()
            disks.card.lose(group.processes())
    if disks.card is not None:
        # A process that waits for a slow card ends when it has written all
        disks.card.lift()
    group.kill()
    # The kernel goes on swapping to a file although nobody is left who knows it.
    linux.swap_off(disks.swap_file)
    if disks.card is not None:
        disks.card.wait_until_out()


def reset(plan: Plan, node: Node) -> None:
    """Give a node the fresh image; a storage node keeps its data disks."""
    cut(plan.name, node.name)
    Disks.of(plan, node.name).wipe(keep_data=node.role == "storage")


def save(plan: Plan, node: Node, folder: Path) -> None:
    """Copy a worker's disk to FOLDER, for other labs' workers to begin with (`up --like`)."""
    if node.role != "worker":
        raise LabError(f"{node.name} is no worker; only their disks can be copied")
    if Group.of(plan.name, node.name).alive():
        raise LabError(f"{node.name} is on; switch it off: lab exec {node.name} -- poweroff")
    disks = Disks.of(plan, node.name)
    if disks.card is not None or disks.like is not None:
        raise LabError(
            f"{node.name} has a card, or is a copy itself: its disk is more than a folder"
        )
    disks.save(folder)


def wait_for_ssh(plan: Plan, node: Node) -> None:
    """Return when people can log in to the node."""
    log = LabPaths(plan.name).logs / f"{node.name}.log"
    group = Group.of(plan.name, node.name)

    def ready() -> bool:
        if not group.alive():
            last = "\n  ".join(log.read_text(errors="replace").splitlines()[-10:])
            raise LabError(f"{node.name} is not running; the end of {log}:\n  {last}")
        return has_ssh(plan, node)

    group.path.mkdir(parents=True, exist_ok=True)
    linux.wait_until(lambda: group.alive(), seconds=10, otherwise=f"{node.name} does not start")
    linux.wait_until(
        ready, seconds=_BOOT_SECONDS, otherwise=f"{node.name} does not answer ssh; see {log}"
    )


def has_ssh(plan: Plan, node: Node) -> bool:
    """Whether people can log in to the node now.

    Looked up, not tried: a connection without a login leaves a complaint in the node's log.
    """
    init = leader(plan.name, node.name)
    if init is None or Path(f"/proc/{init}/root/run/nologin").exists():
        return False
    try:
        sockets = [
            line.split()
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/{init}/net/{table}").read_text().splitlines()[1:]
        ]
    except OSError:  # ended meanwhile
        return False
    return any(
        local.endswith(f":{_SSH_PORT:04X}") and state == _LISTENING
        for _, local, _, state, *_ in sockets
    )


def leader(lab: str, node: str) -> int | None:
    """Return the process that is the node's init."""
    for process in Group.of(lab, node).processes():
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except OSError:  # ended meanwhile
            continue
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
        # Process 1 one level down; containers inside the node are further down.
        if len(numbers) == 3 and numbers[-1] == "1":
            return process
    return None


def boot_id(lab: str, node: str) -> str | None:
    """Return what identifies the node's present boot."""
    init = leader(lab, node)
    try:
        return Path(f"/proc/{init}/root/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def inside(lab: str, node: str, command: Sequence[str]) -> list[str]:
    """Return the command that runs COMMAND as root inside a running node."""
    init = leader(lab, node)
    if init is None:
        raise LabError(f"{node} is off; switch it on with: lab power {node} on")
    environment = {**_ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb")}
    variables = [f"{key}={value}" for key, value in environment.items()]
    enter = ["nsenter", f"--target={init}", "--all", "--root", "--wd", "--"]
    return [*enter, "env", "-i", *variables, *command]


def follow(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a command of `inside` and return its status.

    nsenter stops itself when its child is stopped, and a node that shuts down stops all its
    processes before it kills them (systemd-shutdown, broadcast_signal): nobody else would continue
    nsenter then.
    """
    while True:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)
        os.kill(process.pid, signal.SIGCONT)


def run(
    lab: str, node: str, *command: str, seconds: float = _COMMAND_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run COMMAND as root inside a node and return how it ended. It ends with the node's power.

    Raise `subprocess.TimeoutExpired` if it takes longer than SECONDS.
    """
    line = inside(lab, node, command)
    group = Group.of(lab, node, "exec")
    group.path.mkdir(parents=True, exist_ok=True)
    enter = ["sh", "-c", services.ENTER_GROUP, str(group.path / "cgroup.procs")]
    text = partial(TemporaryFile, "w+", encoding="utf-8")
    with text() as out, text() as err:
        process = subprocess.Popen(
            [*enter, *line], stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        began = time.monotonic()
        limit = Timer(seconds, process.kill)
        limit.daemon = True
        limit.start()
        try:
            status = process.returncode = follow(process)
        finally:
            limit.cancel()
        if status == -signal.SIGKILL and time.monotonic() - began >= seconds:
            raise subprocess.TimeoutExpired(line, seconds)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(line, status, out.read(), err.read())
