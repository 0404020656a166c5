"""The lab as a whole: up, down, status."""

from __future__ import annotations

import contextlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.lab import (
    cache,
    card,
    card_speed,
    certificates,
    cluster_api,
    computer,
    host,
    image,
    linux,
    network,
    nodes,
    paths,
    predecessor,
    services,
    storage,
)
from tests.lab.cgroup import Group
from tests.lab.disk import Disks
from tests.lab.errors import LabError
from tests.lab.image import Images
from tests.lab.paths import LabPaths
from tests.lab.plan import STORAGE, Node, Plan
from tests.lab.progress import say

_AT_ONCE = 16
"""How many nodes boot at the same time."""


def load(name: str) -> Plan:
    """Return the plan of the lab NAME, which has to be up."""
    plan = find(name)
    if plan is None:
        raise LabError(f"no lab {name!r} is up; start it with: tests/lab/lab up")
    return plan


def find(name: str) -> Plan | None:
    """Return the plan of the lab NAME, if it is up."""
    file = LabPaths(name).plan
    return Plan.from_json(file.read_text()) if file.exists() else None


def up(plan: Plan) -> None:
    """Bring the lab to what PLAN says, from whatever is there of it."""
    host.check()
    with _lock(plan.name):
        where = LabPaths(plan.name)
        if find(plan.name) is None:
            # What an interrupted start, or one before this computer's reboot, has left.
            _remove(plan.name)
            _prepare(plan, where)
        images = Images.from_json(where.images.read_text())
        host.load_modules()
        host.raise_limits()
        for mib in {*plan.cards.values()} if not plan.like else ():
            card.prepare(mib, images.layers("worker"))
        say_if_no_limits(plan)
        network.ensure_lan(plan)
        network.ensure_computer(plan)
        services.ensure(plan, images)
        off = [node.name for node in plan.nodes if not Group.of(plan.name, node.name).alive()]
        if off:
            say(f"starting {', '.join(off)}")
        with ThreadPoolExecutor(min(len(plan.nodes), _AT_ONCE)) as pool:
            list(pool.map(lambda node: _start(plan, node), plan.nodes))
        say(f"all {len(plan.nodes)} nodes answer ssh")
        if plan.storage:
            storage.ensure(plan)
        with ThreadPoolExecutor(len(plan.legacy) or 1) as pool:
            list(pool.map(lambda name: predecessor.ensure(plan, plan.node(name)), plan.legacy))
        say(f"the lab {plan.name!r} is up; try: tests/lab/lab run -- ssh {plan.nodes[-1].name}")


def say_if_no_limits(plan: Plan) -> None:
    """Tell if this computer cannot make cards as slow as PLAN has them."""
    if plan.card_speed and card_speed.controller() is None:
        say(
            f"--card-speed {plan.card_speed}: cards stay as fast as this computer's disk, since it "
            "has no cgroup v1 with the controller blkio"
        )


def _start(plan: Plan, node: Node) -> None:
    nodes.power_on(plan.name, node.name)
    nodes.wait_for_ssh(plan, node)


def down(name: str) -> None:
    """Remove every trace of the lab but the cache."""
    if Group.of(name, network.COMPUTER).contains_me():
        raise LabError("this shell runs inside the lab (lab run); leave it before `lab down`")
    with _lock(name):
        _remove(name)


def remove_cache() -> None:
    """Remove images, packages and keys; the next lab makes them anew."""
    running = [
        file.parent.name
        for file in sorted(paths.RUN.glob("*/images.json"))
        if Images.from_json(file.read_text()).base.parent == paths.cache()
    ]
    if running:
        raise LabError(f"the cache is in use by: {', '.join(running)}")
    shutil.rmtree(paths.cache(), ignore_errors=True)


def status(name: str) -> dict[str, Any]:
    """Return what there is of the lab NAME, and where."""
    plan = find(name)
    if plan is None:
        return {"name": name, "up": False, "nodes": []}
    where = LabPaths(name)
    return {
        "name": name,
        "up": True,
        "subnet": plan.subnet,
        "suite": plan.suite,
        "userland": plan.userland,
        "gateway": plan.gateway,
        "computer": plan.computer,
        "swap": plan.swap,
        "ssh_user": "ubuntu",
        "ssh_key": str(where.ssh / "id_ed25519"),
        "known_hosts": str(where.ssh / "known_hosts"),
        "files": str(where.files),
        "certificates": str(where.certificates),
        "logs": str(where.logs),
        "nodes": [
            {
                "name": node.name,
                "role": node.role,
                "address": node.address,
                "running": nodes.leader(name, node.name) is not None,
                "boot_id": nodes.boot_id(name, node.name),
                "ssh": nodes.has_ssh(plan, node),
                "sudo_password": node.name in plan.sudo_password,
                "card": inserted.device() if (inserted := Disks.of(plan, node.name).card) else None,
                "card_limits": inserted.limits() if inserted else {},
                "legacy": node.name in plan.legacy,
            }
            for node in plan.nodes
        ],
    }


def _lock(name: str) -> Any:
    # In the cache, which a lab may leave behind.
    return cache.locked(paths.cache() / f".lab-{name}.lock")


def _prepare(plan: Plan, where: LabPaths) -> None:
    """Make everything that the lab's life rests on; the plan's file, last, says it is whole."""
    images = image.build(plan.suite, plan.userland)
    where.run.mkdir(parents=True)
    where.run.chmod(0o755)
    addresses = {name: plan.address_of(name) for name in STORAGE}
    certificates.build(where.certificates, etcd_addresses=addresses)
    _make_ssh(plan, where)
    where.files.mkdir()
    for name, source in (
        ("etcd-client.crt",) * 2,
        ("etcd-client.key",) * 2,
        ("ca.crt", "etcd-ca.crt"),
    ):
        shutil.copy2(where.certificates / source, where.files / name)
    shutil.copytree(images.cri_dockerd, where.files, dirs_exist_ok=True)
    cluster_api.prepare(plan, where)
    computer.prepare(plan, where)
    where.images.write_text(images.to_json())
    draft = where.plan.with_suffix(".draft")
    draft.write_text(plan.to_json())
    draft.rename(where.plan)


def _make_ssh(plan: Plan, where: LabPaths) -> None:
    """Make the user's key, each node's host key, and the list of known hosts."""
    where.ssh.mkdir(mode=0o700)
    _keygen(where.ssh / "id_ed25519", "lab")
    known = []
    for node in plan.nodes:
        folder = where.host_keys / node.name
        folder.mkdir(parents=True, mode=0o700)
        _keygen(folder / "ssh_host_ed25519_key", f"root@{node.name}")
        kind, key, *_ = (folder / "ssh_host_ed25519_key.pub").read_text().split()
        known.append(f"{node.name},{node.address} {kind} {key}\n")
    (where.ssh / "known_hosts").write_text("".join(known))
    (where.ssh / "config").write_text("User ubuntu\n")
    for file in where.ssh.iterdir():
        file.chmod(0o600)


def _keygen(file: Path, comment: str) -> None:
    linux.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(file))


def _lift_limits(where: LabPaths) -> None:
    for folder in where.disks.glob("*"):
        card.lift(folder)


def _remove(name: str) -> None:
    where = LabPaths(name)
    # Before: a process that waits for a slow card ends when it has written all. After: a node that
    # was about to start may have limited its card meanwhile.
    _lift_limits(where)
    Group.of(name).kill()
    _lift_limits(where)
    for swap in where.disks.glob("*/data/swap/swapfile"):
        linux.swap_off(swap)
    network.remove_all(name)
    linux.run("rm", "-rf", str(where.run), str(where.disks))
    if not any(each.is_dir() for each in paths.RUN.glob("*")):
        # What all labs have in common goes with the last one.
        host.restore_limits()
    for folder in (Group.of().path, paths.RUN, paths.DISKS):
        with contextlib.suppress(OSError):
            folder.rmdir()
