"""``kubeadm reset``: the node leaves the cluster (cmd/kubeadm/app/cmd/phases/reset)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

from . import api, files, node, preflight, release
from .node import Fatal

_PORT, _SECONDS = 6443, 20.0

_LEFT = """
The reset process does not perform cleanup of CNI plugin configuration,
network filtering rules and kubeconfig files.

For information on how to perform this cleanup manually, please see:
    https://k8s.io/docs/reference/setup-tools/kubeadm/kubeadm-reset/
"""


def run(
    endpoint: str | None, ignored: list[str], *, force: bool, dry_run: bool, temporary: bool
) -> None:
    """Undo what init or join did to this node, and remove what upgrades backed up if TEMPORARY.

    Folders stay, empty: the real one removes what is in them. It also waits 60 s here for members
    of an etcd that is not its own; the stand-in only says what that ends with.
    """
    # Needed to remove containers, of which the stand-in has none
    endpoint = endpoint or _known() or node.detect_socket()
    node.say("[preflight] Running pre-flight checks")
    preflight.root(ignored)
    if not force and not dry_run:
        node.warn(
            "[reset] WARNING: Changes made to this host by 'kubeadm init' or 'kubeadm join' will "
            "be reverted."
        )
        print("[reset] Are you sure you want to proceed? [y/N]: ", end="", flush=True)
        if sys.stdin.readline().strip().lower() != "y":
            raise Fatal("error execution phase preflight: aborted reset operation")
    if node.at(f"{files.ETC}/admin.conf").exists():
        node.warn(
            "[reset] Failed to remove etcd member: could not retrieve the list of etcd endpoints: "
            "context deadline exceeded, please manually remove this etcd member using etcdctl"
        )
    folders = [files.MANIFESTS, files.KUBELET, f"{files.ETC}/pki"]
    folders += [f"{files.ETC}/tmp"] * temporary
    configs = [f"{files.ETC}/{name}" for name in files.KUBECONFIGS]
    stop, delete = ("Would stop", "Would delete") if dry_run else ("Stopping", "Deleting")
    node.say(f"[reset] {stop} the kubelet service")
    node.say(f"[reset] {delete} contents of directories: [{' '.join(folders)}]")
    node.say(f"[reset] {delete} files: [{' '.join(configs)}]")
    if dry_run:
        return
    node.systemctl("stop", "kubelet")
    controls = node.at(f"{files.MANIFESTS}/kube-apiserver.yaml").exists()
    for folder in folders:
        _empty(folder)
    if controls:
        # The real one removes the containers of static pods before it goes on
        api.patiently(lambda: preflight.is_free(_PORT), _SECONDS)
    for path in configs:
        node.at(path).unlink(missing_ok=True)
    node.say(_LEFT)


def _known() -> str | None:
    """Return the runtime's endpoint as an older kubeadm has it from the cluster.

    It reads there what it wrote for this node, if it has the administrator's kubeconfig. Since 1.30
    it looks for sockets only.
    """
    flags = node.at(f"{files.KUBELET}/kubeadm-flags.env")
    if release.MINOR >= 30 or not node.at(f"{files.ETC}/admin.conf").exists() or not flags.exists():
        return None
    found = re.search(r"--container-runtime-endpoint=([^\s\"]+)", flags.read_text())
    return found[1] if found else None


def _empty(folder: str) -> None:
    """Remove what is in a folder, and nothing that is mounted there."""
    place = node.at(folder)
    for mount in reversed(node.at("/proc/mounts").read_text().splitlines()):
        point = mount.split()[1]
        if point.startswith(f"{place}/"):
            subprocess.run(["umount", point], check=False)
    for child in place.iterdir() if place.is_dir() else ():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
