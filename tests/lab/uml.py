"""Machines with a kernel of their own on a lab's LAN, for what this computer's may lack: NFS.

User-mode Linux is Linux as a program: Debian's package has NFS's client and server as modules, and
needs neither hardware for it nor a module of this computer's. Such a machine is a real one in all
that matters here: who waits for a dead server sleeps in its kernel, not in this computer's.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import builders, cache, image, linux, network, services
from tests.lab.cgroup import Group
from tests.lab.image import Images
from tests.lab.paths import LabPaths
from tests.lab.plan import Plan

_KERNEL_SUITE = "bookworm"
"""Its program needs no more than a C library as old as that."""
_MAC = "02:00:00:00:01"

_NETWORK = """\
[Unit]
DefaultDependencies=no
Before=network-pre.target network.target network-online.target ssh.service
Wants=network-pre.target
After=systemd-remount-fs.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'ip link set lo up; ip link set vec0 name eth0; ip link set eth0 up; \\
  ip address add {address}/{prefix} broadcast + dev eth0; ip route add default via {gateway}'
"""


# A kernel that starts itself anew finds its own network card taken. So a reboot switches it off
_REBOOT = """\
[Unit]
SuccessAction=poweroff-force
"""


@dataclass(frozen=True)
class Machine:
    """A machine of the lab PLAN. It has the LAN's HOSTth address, and MIB of memory."""

    plan: Plan
    name: str
    host: int
    mib: int = 256

    @property
    def address(self) -> str:
        return self.plan.address(self.host)

    @property
    def folder(self) -> Path:
        """What `lab down` removes."""
        return LabPaths(self.plan.name).disk(f"{self.name}-uml")

    @property
    def _group(self) -> Group:
        return Group.of(self.plan.name, f"{self.name}-uml")

    def make(self, layers: Sequence[Path], files: Mapping[str, str]) -> None:
        """Make its disk of LAYERS (topmost first), and of FILES, by path, which are root's."""
        shutil.rmtree(self.folder, ignore_errors=True)
        top, seen = self.folder / "top", self.folder / "seen"
        for folder in (top, seen):
            folder.mkdir(parents=True)
        unit = "etc/systemd/system/lab-eth0.service"
        texts = _NETWORK.format(
            address=self.address, prefix=self.plan.network.prefixlen, gateway=self.plan.gateway
        )
        reboot = "etc/systemd/system/systemd-reboot.service.d/lab.conf"
        own = {unit: texts, reboot: _REBOOT, "etc/hostname": f"{self.name}\n"}
        for path, text in {**own, **files}.items():
            target = top / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            target.chmod(0o600 if path.endswith("_key") else 0o644)
        wants = top / "etc/systemd/system/sysinit.target.wants"
        wants.mkdir()
        (wants / "lab-eth0.service").symlink_to("../lab-eth0.service")
        lower = ":".join(str(layer) for layer in (top, *layers, kernel() / "layer"))
        # The overlay is seen by this one command alone
        linux.run(
            "unshare", "--mount", "sh", "-ec",
            'mount -t overlay -o "lowerdir=$1" overlay "$2"; mke2fs -q -t ext4 -d "$2" "$3" 2G',
            "sh", lower, str(seen), str(self._disk),
        )  # fmt: skip

    def power_on(self) -> None:
        """Switch it on; it comes up in its own time."""
        lan, tap = network.namespace(self.plan.name).name, f"uml-{self.name}"
        if self.is_on:
            return
        self._group.kill()
        for words in (
            ("tuntap", "add", tap, "mode", "tap"),
            ("link", "set", tap, "master", "lan", "up"),
            # Its network card takes no frames larger than those on the wire, and drops them
            ("link", "set", "lan", "gso_max_segs", "1"),
        ):
            linux.run("sh", "-c", 'ip -n "$@" 2>&1 || [ "$2" = tuntap ]', "sh", lan, *words)
        services.spawn(
            self._group,
            "nsenter",
            f"--net=/run/netns/{lan}",
            str(kernel() / "usr/bin/linux.uml"),
            f"mem={self.mib}M",
            f"ubd0={self._disk}",
            *("root=/dev/ubda", "rw"),
            f"uml_dir={self.folder}",
            f"umid={self.name}",
            f"vec0:transport=tap,ifname={tap},depth=64,mac={_MAC}:{self.host:02x}",
            *("con=null", "con0=fd:0,fd:1", "ssl=null"),
            log=LabPaths(self.plan.name).logs / f"{self.name}-uml.log",
        )

    @property
    def is_on(self) -> bool:
        return self._group.alive()

    def cut(self) -> None:
        """Take its power away."""
        self._group.kill()

    def freeze(self) -> None:
        """Have it do nothing any more: its neighbours' packets get no answer."""
        self._group.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        (self._group.path / "cgroup.freeze").write_text("0")

    @property
    def _disk(self) -> Path:
        return self.folder / "disk.img"


def kernel() -> Path:
    """Return where the cache has the kernel, and its modules as a layer."""
    return cache.piece(
        "uml", [_KERNEL_SUITE, Path(builders.__file__)], _unpack, what="user-mode Linux"
    )


def _unpack(place: Path) -> None:
    root = place / "root"
    builders.unpack(_KERNEL_SUITE, ["user-mode-linux"], root)
    (place / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/linux.uml").rename(place / "usr/bin/linux.uml")
    (place / "layer/usr/lib").mkdir(parents=True)
    (root / "usr/lib/uml/modules").rename(place / "layer/usr/lib/modules")
    shutil.rmtree(root)


def nfs_server(machine: Machine, images: Images, export: str, key: str) -> None:
    """Make MACHINE's disk that of an NFS server. Root may write its EXPORT, and log in with KEY."""
    suite = machine.plan.suite
    top = image.layer(suite, images.base, "nfs")
    host_key = machine.folder.with_suffix(".key")
    host_key.unlink(missing_ok=True)
    linux.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host_key))
    machine.make(
        [top / "layer", images.base / "layer"],
        {
            "etc/exports": f"{export} *(rw,sync,no_subtree_check,no_root_squash)\n",
            f"{export.lstrip('/')}/.keep": "",
            "root/.ssh/authorized_keys": key,
            "etc/ssh/ssh_host_ed25519_key": host_key.read_text(),
        },
    )
