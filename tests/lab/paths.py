"""Where the lab keeps things on the computer that it runs on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = Path(__file__).resolve().parent
RUN = Path("/run/chaos-engine-lab")
DISKS = Path("/var/lib/chaos-engine-lab")


def cache() -> Path:
    """Images, packages and keys: what may be used by the next lab (LAB_CACHE overrides)."""
    return Path(os.environ.get("LAB_CACHE") or "/var/cache/chaos-engine-lab").absolute()


@dataclass(frozen=True)
class LabPaths:
    """The folders of the lab NAME."""

    name: str

    @property
    def run(self) -> Path:
        """State that ends with the lab or with this computer's uptime."""
        return RUN / self.name

    @property
    def plan(self) -> Path:
        return self.run / "plan.json"

    @property
    def images(self) -> Path:
        """Which pieces of the cache this lab was started with."""
        return self.run / "images.json"

    @property
    def host_keys(self) -> Path:
        """A folder for each node: its ssh host key, which a reset keeps."""
        return self.run / "host-keys"

    @property
    def public_key(self) -> Path:
        """The public half of the key that user `ubuntu` logs in with."""
        return self.ssh / "id_ed25519.pub"

    @property
    def certificates(self) -> Path:
        """Every certificate and key of the lab: its web server's, and those of etcd."""
        return self.run / "certificates"

    @property
    def web_authority(self) -> Path:
        return self.certificates / "web-ca.crt"

    @property
    def registry(self) -> Path:
        """What the registry of container images is configured with."""
        return self.run / "registry.json"

    @property
    def ssh(self) -> Path:
        """What `lab run` shows as ~/.ssh."""
        return self.run / "ssh"

    @property
    def files(self) -> Path:
        """What `lab run` shows as files/ of the checkout."""
        return self.run / "files"

    @property
    def kubernetes(self) -> Path:
        """What the Kubernetes cluster keeps: the stand-in for etcd, mounted in each worker."""
        return self.run / "kubernetes"

    @property
    def kubectl_cache(self) -> Path:
        """What kubectl remembers of what the API serves."""
        return self.run / "kubectl-cache"

    @property
    def etc(self) -> Path:
        """Files that `lab run` shows in place of this computer's own in /etc."""
        return self.run / "etc"

    @property
    def logs(self) -> Path:
        return self.run / "logs"

    @property
    def disks(self) -> Path:
        return DISKS / self.name

    def disk(self, node: str) -> Path:
        """The disks of one node."""
        return self.disks / node
