"""The disks of a node: what survives reboots and power cuts, and what a fresh one holds."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import apiserver, card, etcd, linux
from tests.lab.card import Card
from tests.lab.card_speed import SPEEDS
from tests.lab.paths import LabPaths
from tests.lab.plan import Node, Plan

_SWAP_BYTES = 64 * 1024 * 1024
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
BRICKS = "/srv/gluster"
_LAYER = "layer"
_DOCKERS = ("docker", "containerd")
"""What Docker keeps, by folder in /var/lib."""


@dataclass(frozen=True)
class Disks:
    """The folders of one node, all below FOLDER; with a CARD, all but swap is on that. A fresh one
    holds what `save` has put into the folder LIKE, on top of its image."""

    folder: Path
    card: Card | None = None
    like: Path | None = None

    @classmethod
    def of(cls, plan: Plan, name: str) -> Disks:
        """Return the disks of the node NAME."""
        folder = LabPaths(plan.name).disk(name)
        size = plan.cards.get(name)
        like = Path(plan.like) if plan.like and name in plan.workers else None
        speed = SPEEDS.get(plan.card_speed)
        return cls(folder, None if size is None else Card(folder, size, speed), like)

    @property
    def scratch(self) -> Path:
        return self.folder / "tmp"

    @property
    def swap_file(self) -> Path:
        return self.folder / "data/swap/swapfile"

    @property
    def _provisioned(self) -> Path:
        """Exists once a fresh disk has got everything that makes it this node's."""
        return self.folder / "provisioned"

    @property
    def _legacy(self) -> Path:
        """Exists once a worker has got what its predecessor left."""
        return self.folder / "legacy"

    def binds(self, role: str) -> list[tuple[Path, str]]:
        """Return the folders that are mounted in the node, and where."""
        data = self.folder / "data"
        # On a card, too: swap would keep it from being taken out.
        swap = (self.swap_file.parent, "/var/swap")
        if self.card is not None:
            return [swap, (self.card.boot, card.BOOT)]
        if role == "worker":
            # Docker's own overlays, which an overlay cannot hold.
            return [*((data / name, f"/var/lib/{name}") for name in _DOCKERS), swap]
        # Bricks need extended attributes that an overlay keeps for itself. What the cluster and
        # the database remember is here too, so that a reset gives a storage node a new system
        # but leaves it the member that the others know.
        return [
            (data / "bricks", BRICKS),
            (data / "glusterd", "/var/lib/glusterd"),
            (data / "etcd", "/var/lib/etcd"),
        ]

    def mount(self, layers: Sequence[Path]) -> Path:
        """Mount the node's root file system, over LAYERS or a copy of them; return where it is."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        if self.like is not None:
            layers = [self.like / _LAYER, *layers]
        if self.card is not None:
            self.card.insert(layers, cached=self.like is None)
            return self.card.root
        upper, work, root = self.folder / "upper", self.folder / "work", self.folder / "root"
        for folder in (upper, work, root):
            folder.mkdir(exist_ok=True)
        linux.overlay(root, lower=layers, upper=upper, work=work)
        return root

    def save(self, folder: Path) -> None:
        """Copy to FOLDER what a worker that is off has on its disk, but for swap."""
        draft = folder.with_suffix(".draft")
        linux.run("rm", "-rf", str(draft), str(folder))
        draft.mkdir(parents=True)
        linux.run("cp", "-a", str(self.folder / "upper"), str(draft / _LAYER))
        for name in _DOCKERS:
            linux.run("cp", "-a", str(self.folder / "data" / name), str(draft / name))
        draft.rename(folder)

    def wipe(self, *, keep_data: bool) -> None:
        """Make the disk fresh; with KEEP_DATA the plain folders stay as they are."""
        linux.swap_off(self.swap_file)
        if self.card is not None:
            self.card.discard()
        for name in (
            "legacy",
            "provisioned",
            "upper",
            "work",
            "root",
            "tmp",
            *([] if keep_data else ["data"]),
        ):
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def is_provisioned(self) -> bool:
        return self._provisioned.exists()

    def mark_provisioned(self) -> None:
        self._provisioned.touch()

    def is_legacy(self) -> bool:
        return self._legacy.exists()

    def mark_legacy(self) -> None:
        self._legacy.touch()


def provision(
    root: Path, disks: Disks, plan: Plan, node: Node, paths: LabPaths, archive_key: Path
) -> None:
    """Make the fresh image mounted at ROOT the node's own, unless that has been done."""
    if disks.is_provisioned():
        return
    if disks.card is not None:
        disks.card.fill_boot(root)
        for name in _DOCKERS if disks.like is not None else ():
            linux.run("cp", "-a", f"{disks.like}/{name}/.", f"{root}/var/lib/{name}")
    for source, target in disks.binds(node.role):
        below = root / target.lstrip("/")
        below.mkdir(parents=True, exist_ok=True)
        if not source.exists():
            source.parent.mkdir(parents=True, exist_ok=True)
            # With owners and modes; the name comes last, as a copy may be interrupted.
            draft = source.with_suffix(".draft")
            linux.run("rm", "-rf", str(draft))
            saved = None if disks.like is None else disks.like / source.name
            held = saved if saved is not None and saved.exists() else below
            linux.run("cp", "-a", str(held), str(draft))
            draft.rename(source)
    write = _Writer(root)
    write.text("etc/hostname", f"{node.name}\n")
    write.text("etc/hosts", _hosts(plan, node))
    write.text("etc/resolv.conf", f"nameserver {plan.gateway}\n")
    write.text("etc/machine-id", f"{uuid.uuid4().hex}\n")
    for name in ("ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"):
        key = paths.host_keys / node.name / name
        write.text(f"etc/ssh/{name}", key.read_text(), mode=key.stat().st_mode & 0o777)
    (root / "home/ubuntu/.ssh").mkdir(mode=0o700, exist_ok=True)
    os.chown(root / "home/ubuntu/.ssh", 1000, 1000)
    write.text(
        "home/ubuntu/.ssh/authorized_keys", paths.public_key.read_text(), mode=0o600, owner=1000
    )
    write.binary("usr/share/keyrings/lab-archive-keyring.gpg", archive_key.read_bytes())
    authority = paths.web_authority.read_text()
    write.text("usr/local/share/ca-certificates/lab.crt", authority)
    write.text(_CERTIFICATES, (root / _CERTIFICATES).read_text() + authority)
    if node.role == "worker":
        apiserver.provision(plan, node, paths.certificates, root)
        for name, content, mode in etcd.link(plan.storage_addresses, paths.certificates):
            write.binary(f"usr/lib/lab/cluster/{name}", content, mode=mode)
        _provision_worker(root, disks, plan, node)
    else:
        _provision_storage(write, plan, node, paths)
    if disks.card is not None:
        disks.card.synchronise()
    disks.mark_provisioned()


def _provision_worker(root: Path, disks: Disks, plan: Plan, node: Node) -> None:
    write = _Writer(root)
    if node.name in plan.sudo_password:
        write.text("etc/sudoers.d/90-cloud-init-users", "ubuntu ALL=(ALL) ALL\n", mode=0o440)
    disks.swap_file.unlink(missing_ok=True)
    with disks.swap_file.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        # Written, not only reserved: the kernel refuses swap files with holes.
        os.posix_fallocate(file.fileno(), 0, _SWAP_BYTES)
    linux.run("mkswap", "--quiet", str(disks.swap_file))
    if node.name == plan.swap:
        write.text("etc/lab-swap", "")


def _provision_storage(write: _Writer, plan: Plan, node: Node, paths: LabPaths) -> None:
    write.text("etc/default/etcd", etcd.unit(node.name, plan.storage_addresses))
    owner = _user(write.root, "etcd")
    for name in ("ca.crt", "server.crt", "server.key"):
        issued = {"ca.crt": "etcd-ca.crt"}.get(
            name, name.replace("server", f"etcd-server-{node.name}")
        )
        text = (paths.certificates / issued).read_text()
        write.text(f"etc/etcd/tls/{name}", text, mode=0o600, owner=owner)


def _hosts(plan: Plan, node: Node) -> str:
    """Return /etc/hosts as Ubuntu has it; storage nodes know each other and the workers too."""
    lines = ["127.0.0.1 localhost", f"127.0.1.1 {node.name}", "", "::1 ip6-localhost ip6-loopback"]
    if node.role == "storage":
        lines += [f"{plan.address_of(name)} {name}" for name in plan.known if name != node.name]
        lines[1] = f"{node.address} {node.name}"
    return "\n".join(lines) + "\n"


def _user(root: Path, name: str) -> int:
    for line in (root / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return int(fields[2])
    raise KeyError(name)


@dataclass(frozen=True)
class _Writer:
    """Writes files of a node by path, with their mode from the first byte."""

    root: Path

    def text(self, path: str, text: str, *, mode: int = 0o644, owner: int = 0) -> None:
        self.binary(path, text.encode(), mode=mode, owner=owner)

    def binary(self, path: str, content: bytes, *, mode: int = 0o644, owner: int = 0) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # Never through a symbolic link: it would be followed on this computer, not in the node.
        target.unlink(missing_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            os.fchown(descriptor, owner, owner)
            file.write(content)
