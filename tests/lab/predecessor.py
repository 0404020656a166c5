"""A worker as this project's predecessor left it: Ansible playbooks, and commands of a README.

The scripts and files in ``legacy/`` do again, in the same order, what both did: same paths, modes,
units, options, links, networks. They were written anew after the playbooks KubeNodes.yaml and
ProxyNode.yaml, the files that these copied, and the READMEs beside them. Known, not guessed, are
hence: all paths, modes and owners; the keys and values of ``daemon.json``, ``10-all.conf``,
``haproxy.cfg`` and all units, but for comments and the sandboxing of ``syslog.service``; how the
container and the hairpin link are made; that nothing is held. Reconstructed is what the sources
leave out and a working node had to have: the Gluster client; names of the storage nodes (from the
LAN's resolver); HAProxy's files of errors; its service enabled under its real name; both files of
apt's sources together. The playbooks as they were published do not run, so what a node carries is
what some earlier state of them, and their author's hands, did.
"""

from __future__ import annotations

import io
import subprocess
import tarfile

from tests.lab import linux, nodes, paths
from tests.lab.apiserver import CONTROLLERS, VIP
from tests.lab.disk import Disks
from tests.lab.errors import LabError
from tests.lab.paths import LabPaths
from tests.lab.plan import SITE, STORAGE, WORKERS, Node, Plan
from tests.lab.progress import say

PROXY = "pi5"
"""The worker that is the proxy too."""

_FILES = paths.LAB / "legacy"
_INSIDE = "/run/lab-legacy"
_HAIRPIN = 222
_MOUNT_SECONDS = 60


def servers(node: str) -> list[str]:
    """The servers of a worker's volume: another one first for each worker."""
    first = STORAGE[WORKERS.index(node) % len(STORAGE)]
    return [first, *(name for name in STORAGE if name != first)]


def values(plan: Plan, node: Node) -> dict[str, str]:
    """What stands for each ``@NAME@`` in the scripts and files."""
    primary, *backups = servers(node.name)
    machines = ((plan.address_of(name), name) for name in SITE)
    return {
        "NODE": node.name,
        "PRIMARY": primary,
        "BACKUPS": ":".join(backups),
        "LOG_SERVER": plan.address_of(STORAGE[-1]),
        "SUBNET": plan.subnet,
        "GATEWAY": plan.gateway,
        "VIP": plan.address(VIP),
        "HAIRPIN": plan.address(_HAIRPIN),
        "WORKERS": "\n".join(f"{address}\t{name}.example.net {name}" for address, name in machines),
        "CONTROLLERS": "\n".join(
            f"\tserver {name} {plan.address_of(name)}:6443 check" for name in CONTROLLERS
        ),
    }


def ensure(plan: Plan, node: Node) -> None:
    """Give a fresh worker what its predecessor left, through the reboot in the middle of it."""
    disks = Disks.of(plan, node.name)
    if disks.is_legacy():
        return
    say(f"{node.name}: what Ansible left ...")
    _run(plan, node, "work-node")
    _reboot(plan, node)
    if node.name == PROXY:
        if plan.storage:
            linux.wait_until(
                lambda: not nodes.run(plan.name, node.name, *_ON_GLUSTER).returncode,
                seconds=_MOUNT_SECONDS,
                otherwise=f"{node.name} has nothing mounted on /var/log",
            )
        _run(plan, node, "proxy-node")
    nodes.run(plan.name, node.name, "sync", "-f", "/", "/boot/firmware")
    disks.mark_legacy()
    say(f"{node.name}: what Ansible left: done")


_ON_GLUSTER = ("findmnt", "--types", "fuse.glusterfs", "/var/log")


def bundle(plan: Plan, node: Node) -> bytes:
    """The scripts and files for a worker, and the user's own, as a tar archive."""
    content = io.BytesIO()
    known = values(plan, node)
    own = LabPaths(plan.name).files
    with tarfile.open(fileobj=content, mode="w") as tar:
        for path in sorted(path for path in _FILES.rglob("*") if path.is_file()):
            text = path.read_text()
            for name, value in known.items():
                text = text.replace(f"@{name}@", value)
            _add(tar, str(path.relative_to(_FILES)), text.encode())
        for name in ("ca.crt", "etcd-client.crt", "etcd-client.key"):
            _add(tar, f"files/{name}", (own / name).read_bytes())
        architecture = linux.run("dpkg", "--print-architecture").strip()
        tarball = own / f"cri-dockerd-0.3.17.{architecture}.tgz"
        _add(tar, "files/cri-dockerd.tgz", tarball.read_bytes())
    return content.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o700
    tar.addfile(info, io.BytesIO(data))


def _run(plan: Plan, node: Node, script: str) -> None:
    """Run one of the scripts inside the node; its folder there is in RAM."""
    command = f"mkdir -p {_INSIDE} && tar -C {_INSIDE} -xf - && {_INSIDE}/{script}"
    done = subprocess.run(
        nodes.inside(plan.name, node.name, ["sh", "-c", command]),
        input=bundle(plan, node),
        capture_output=True,
        check=False,
    )
    nodes.run(plan.name, node.name, "rm", "-rf", _INSIDE)
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise LabError(f"{node.name}: legacy/{script} failed: {said[-1000:]}")


def _reboot(plan: Plan, node: Node) -> None:
    before = nodes.boot_id(plan.name, node.name)
    nodes.run(plan.name, node.name, "systemctl", "reboot")
    linux.wait_until(
        lambda: nodes.boot_id(plan.name, node.name) not in (before, None),
        seconds=150,
        otherwise=f"{node.name} does not come back from its reboot",
    )
    nodes.wait_for_ssh(plan, node)
