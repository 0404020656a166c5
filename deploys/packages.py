"""Remove packages that a work node does not need."""

from __future__ import annotations

from pydantic import Field, field_validator
from typing_extensions import override

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.site import CloudInitSettings
from chaos_engine.facts.observe import current
from chaos_engine.operations.engine.arguments import PackageName
from chaos_engine.operations.packages import NEEDED, remove_packages
from chaos_engine.operations.packages.packages import UNDO


class PackagesSettings(CloudInitSettings):
    """Settings of `packages`."""

    packages_absent: tuple[PackageName, ...] = Field(
        (
            "avahi-daemon",
            "cloud-init",
            "lvm2",
            "modemmanager",
            "plymouth",
            "snapd",
            "unattended-upgrades",
        ),
        description="names of packages to remove and to keep out",
    )

    @property
    @override
    def removes_cloud_init(self) -> bool:
        return "cloud-init" in self.packages_absent

    @field_validator("packages_absent")
    @classmethod
    def _not_needed(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse packages that a work node needs."""
        if needed := [name for name in names if NEEDED.fullmatch(name)]:
            raise ValueError(f"a work node needs {', '.join(needed)}; take it out")
        return names


@concern("Packages", PackagesSettings, undo=UNDO)
def packages(settings: PackagesSettings) -> None:
    """Remove what a work node does not need, and keep it out.

    Without unattended-upgrades, the operator has to install security updates. apparmor is not in
    the default list, since it protects the node and writes nothing to the card.
    """
    host = current()[1]
    connected_to = str(host.data.get("ssh_hostname") or host.name)
    remove_packages(
        name="Remove packages",
        names=settings.packages_absent,
        mdns=connected_to.rstrip(".").endswith(".local"),
    )
