"""One node's power supply: `python -m tests.lab.supervisor LAB NODE`, a process for each node.

It has mounts of its own, so a node's disks are unmounted with its last process, and it lives in
the node's control group, so that cutting the power ends it too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.lab import apiserver, disk, linux, network
from tests.lab.cgroup import Group
from tests.lab.image import Images
from tests.lab.paths import LabPaths
from tests.lab.plan import Node, Plan

_REBOOT = 133
"""systemd-nspawn's exit status when the node asked to be rebooted."""
_POWER_CYCLE_SECONDS = 1.0
"""How long a rebooting node is off, so that whoever watches it sees it away."""
_NOTES = Path("/run/systemd/nspawn")
_SYSTEM_CALLS = "keyctl bpf add_key request_key perf_event_open @mount @module @swap"


def command(lab: str, node: Node, root: Path, disks: disk.Disks) -> list[str]:
    """Return the command that boots NODE from ROOT."""
    binds = ["/dev/fuse", *(f"{source}:{target}" for source, target in disks.binds(node.role))]
    if node.role == "worker":
        binds.append(f"{LabPaths(lab).kubernetes}:{apiserver.STORE}")
    return [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        f"--directory={root}",
        f"--machine=ce-{lab}-{node.name}",
        f"--hostname={node.name}",
        "--register=no",
        "--keep-unit",
        f"--network-namespace-path={network.namespace(lab, node.name)}",
        "--capability=all",
        f"--system-call-filter={_SYSTEM_CALLS}",
        "--console=pipe",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        *(f"--bind={bind}" for bind in binds),
    ]


def main(lab: str, name: str) -> None:
    """Keep the node on until it powers itself off."""
    paths = LabPaths(lab)
    plan = Plan.from_json(paths.plan.read_text())
    images = Images.from_json(paths.images.read_text())
    node = plan.node(name)
    Group.of(lab, name).adopt()
    linux.enter_private_mounts()
    # systemd-nspawn's notes on its containers, which a power cut would leave behind.
    _NOTES.mkdir(parents=True, exist_ok=True)
    linux.tmpfs(_NOTES)
    disks = disk.Disks.of(plan, name)
    root = disks.mount(images.layers(node.role))
    disk.provision(root, disks, plan, node, paths, images.archive_key)
    if disks.card is not None:
        disks.card.limit()
    environment = {
        **os.environ,
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
        # nspawn makes a folder here for each start, which a power cut would leave behind.
        "TMPDIR": str(disks.scratch),
    }
    while True:
        # As after any power-up: nothing is in the network yet, nothing is swapped to.
        network.attach(plan, name, node.address, node.mac)
        linux.swap_off(disks.swap_file)
        status = subprocess.run(
            command(lab, node, root, disks), env=environment, stdin=subprocess.DEVNULL, check=False
        ).returncode
        print(f"{name}: systemd-nspawn ended with status {status}", flush=True)
        if status != _REBOOT:
            break
        time.sleep(_POWER_CYCLE_SECONDS)
    if disks.card is not None:
        disks.card.lift()
    linux.swap_off(disks.swap_file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
