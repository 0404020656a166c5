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
        description="names of packages to remove. A pin prevents apt from installing these "
        "packages again, except for apparmor and lvm2",
    )

    @property
    @override
    def removes_cloud_init(self) -> bool:
        return "cloud-init" in self.packages_absent

    @field_validator("packages_absent")
    @classmethod
    def _not_needed(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse a list of packages to remove if a work node needs one of them."""
        if needed := [name for name in names if NEEDED.fullmatch(name)]:
            raise ValueError(
                f"a work node needs {', '.join(needed)}; do not list packages that it needs"
            )
        return names


@concern("Packages", PackagesSettings, undo=UNDO)
def packages(settings: PackagesSettings) -> None:
    """Remove packages that a work node does not need, and prevent their reinstallation.

    The default list removes unattended-upgrades, so the operator has to install security updates,
    with the deploy `updates`.
    The default list does not remove apparmor, which protects the node and does not write to the
    SD card.
    """
    host = current()[1]
    connected_to = str(host.data.get("ssh_hostname") or host.name)
    remove_packages(
        name="Remove packages",
        names=settings.packages_absent,
        mdns=connected_to.rstrip(".").endswith(".local"),
    )
