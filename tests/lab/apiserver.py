"""What a worker's stand-in for kube-apiserver needs, beyond the program in the image."""

from __future__ import annotations

import os
from pathlib import Path

from tests.lab import certificates
from tests.lab.plan import Node, Plan

CONTROLLERS = ("pi1", "pi4", "pi7")
"""The workers on which it starts with the node; on the others by systemctl."""
VIP = 60
"""The number on the LAN of the address that the controllers share."""

_UNIT = "lab-apiserver.service"
_UNITS = "etc/systemd/system"


def provision(plan: Plan, node: Node, issued: Path, root: Path) -> None:
    """Give the worker with its files below ROOT a certificate from ISSUED and, maybe, the start."""
    pair = certificates.api_server(
        issued,
        node.name,
        names=(node.name, "k8s", "kubernetes", "localhost"),
        addresses=(node.address, plan.address(VIP), "127.0.0.1"),
    )
    for source, mode in zip(pair, (0o644, 0o600), strict=True):
        _write(root / f"etc/lab-apiserver/server{source.suffix}", source.read_bytes(), mode)
    wanted = root / _UNITS / "multi-user.target.wants" / _UNIT
    wanted.parent.mkdir(parents=True, exist_ok=True)
    wanted.unlink(missing_ok=True)
    if node.name in CONTROLLERS:
        # What `systemctl enable` makes
        wanted.symlink_to(f"/{_UNITS}/{_UNIT}")


def _write(target: Path, content: bytes, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(content)
