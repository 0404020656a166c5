"""What a worker needs for its part in a Kubernetes cluster, beyond its image.

`control_plane` has the programs. They do nothing before the node joins: the stand-in for kubelet
runs from then on, and the one for kube-apiserver where `/etc/kubernetes/manifests` has it.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.lab import certificates
from tests.lab.paths import LAB
from tests.lab.plan import Node, Plan

CONTROLLERS = ("pi1", "pi4", "pi7")
"""The workers that are the controllers of the site."""
VIP = 60
"""The number on the LAN of the address that the controllers share."""
STORE = "/var/lib/lab-etcd"
"""Where workers have mounted what the cluster keeps."""

_PROGRAMS = LAB / "control_plane"
_UNITS = "etc/systemd/system"
_CREDENTIALS = "etc/lab-apiserver"
_STARTED_WITH = {"lab-kubelet.service": "kubelet.service.wants"}


def provision(plan: Plan, node: Node, issued: Path, root: Path) -> None:
    """Give the worker with its files below ROOT the programs, and certificates from ISSUED: a
    server's, the authority's, and the administrator's, as kubeadm would make them."""
    server = certificates.api_server(
        issued,
        node.name,
        names=(node.name, "k8s", "kubernetes", "localhost"),
        addresses=(node.address, plan.address(VIP), "127.0.0.1"),
    )
    given = {"server": server[0].stem, "ca": "kubernetes-ca", "admin": "kubernetes-admin"}
    for name, source in given.items():
        certificate, key = (issued / f"{source}{suffix}" for suffix in (".crt", ".key"))
        _write(root / _CREDENTIALS / f"{name}.crt", certificate.read_bytes(), 0o644)
        if name != "ca":
            _write(root / _CREDENTIALS / f"{name}.key", key.read_bytes(), 0o600)
    for program in _PROGRAMS.glob("*.py"):
        _write(root / "usr/lib/lab/control_plane" / program.name, program.read_bytes(), 0o644)
    for unit in _PROGRAMS.glob("*.service"):
        _write(root / _UNITS / unit.name, unit.read_bytes(), 0o644)
    for unit_name, folder in _STARTED_WITH.items():
        # What `systemctl enable` makes
        wanted = root / _UNITS / folder / unit_name
        wanted.parent.mkdir(parents=True, exist_ok=True)
        wanted.unlink(missing_ok=True)
        wanted.symlink_to(f"/{_UNITS}/{unit_name}")


def _write(target: Path, content: bytes, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
