"""Read the state of cloud-init, and what configures the network if cloud-init is removed."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.observe import ComposedFact, NodeFact, Read, Value
from chaos_engine.facts.systemd import ACTIVE, UnitProperties
from chaos_engine.facts.text import grouped

# While cloud-init runs, its units have jobs in systemd. The script does not read cloud-init's own
# status files, because they do not tell whether cloud-init has died
_COMMAND = """
command -v cloud-init >/dev/null || exit 0
echo installed
case $(systemctl list-jobs --no-legend 'cloud-*' 2>/dev/null) in *cloud-*) echo running ;; esac
if test -e /etc/cloud/cloud-init.disabled || test -e /run/cloud-init/disabled; then
  echo disabled
fi
for file in /etc/netplan/*.yaml /etc/systemd/network/*.network /etc/network/interfaces.d/* \\
  /etc/NetworkManager/system-connections/*; do
  test -f "$file" && echo "network $file"
done
true
"""

# Raspberry Pi Imager writes user-data with `manage_etc_hosts: true`
# (github.com/raspberrypi/rpi-imager/issues/1462). The value `localhost` does not match, because
# cloud-init then changes only one line of /etc/hosts. These files may contain passwords, so only
# the lines that match are sent
_HOSTS = r"""(?i)^ *manage_etc_hosts: *["']?(?:true|yes|on|template)"""
_CONFIGS = (
    "/etc/cloud/cloud.cfg.d/*.cfg",
    "/etc/cloud/cloud.cfg",
    "/boot/firmware/user-data",
    "/var/lib/cloud/instance/cloud-config.txt",
)

_INTERFACES = "/etc/network/interfaces"
_INTERFACE = r"^ *iface +(?:[^l \n]|l[^o \n]|lo[^ \n])"

SERVICES = ("NetworkManager.service", "dhcpcd.service")
"""Services that configure the network."""


@dataclass(frozen=True)
class CloudInitState(Value):
    """The state of cloud-init.

    + running: whether cloud-init is running now; it runs during the first boot
    + manages_hosts: the file that tells cloud-init to write ``/etc/hosts`` at each boot, or ""
    + network: files and services that configure the network even if cloud-init is removed
    """

    running: bool = False
    manages_hosts: str = ""
    network: tuple[str, ...] = ()


class _Installed(NodeFact["tuple[str, ...] | None"]):
    """The lines that `_COMMAND` prints, or ``None`` if cloud-init is not installed."""

    @override
    def command(self) -> str:
        return _COMMAND

    @override
    def parse(self, lines: list[str]) -> tuple[str, ...] | None:
        return tuple(lines) or None


class CloudInit(ComposedFact[CloudInitState]):
    """The state of cloud-init. If cloud-init is not installed, all fields are empty or false.

    **Example:** ``host.get_fact(CloudInit).running``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        return (
            Read.of(_Installed),
            Read.of(Texts, patterns=tuple((path, _HOSTS) for path in _CONFIGS)),
            Read.of(Texts, patterns=((_INTERFACES, _INTERFACE),)),
            Read.of(UnitProperties, units=SERVICES),
        )

    @override
    def compose(
        self,
        lines: tuple[str, ...] | None,
        hosts: dict[str, bytes | None],
        interfaces: dict[str, bytes | None],
        units: dict[str, dict[str, str]],
    ) -> CloudInitState:
        if lines is None:
            return CloudInitState()
        found = grouped(lines, "installed running disabled network")
        managers = [path for path, text in hosts.items() if text]
        return CloudInitState(
            running=bool(found["running"]),
            manages_hosts="" if found["disabled"] else "".join(managers[:1]),
            network=(
                *found["network"],
                *(path for path, text in interfaces.items() if text),
                *(name for name in SERVICES if units[name]["ActiveState"] in ACTIVE),
            ),
        )
