"""Read whether cloud-init runs, and what else configures the network."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.text import grouped

# While cloud-init runs, its units have jobs in systemd. Its own status files are not read, because
# they do not tell whether it has died. Raspberry Pi Imager writes user-data with
# `manage_etc_hosts: true` (github.com/raspberrypi/rpi-imager/issues/1462). The value `localhost` is
# not searched for: with it cloud-init changes only one line of /etc/hosts.
_COMMAND = r"""
systemctl list-jobs --no-legend 'cloud-*' 2>/dev/null | grep -q cloud- && echo running
if ! test -e /etc/cloud/cloud-init.disabled && ! test -e /run/cloud-init/disabled; then
  grep -lisE "^ *manage_etc_hosts: *[\"']?(true|yes|on|template)" \
    /etc/cloud/cloud.cfg.d/*.cfg /etc/cloud/cloud.cfg /boot/firmware/user-data \
    /var/lib/cloud/instance/cloud-config.txt | head -n 1 | sed 's/^/hosts /'
fi
for file in /etc/netplan/*.yaml /etc/systemd/network/*.network /etc/network/interfaces.d/* \
  /etc/NetworkManager/system-connections/*; do
  test -f "$file" && echo "network $file"
done
grep -lsE '^ *iface +([^l ]|l[^o ]|lo[^ ])' /etc/network/interfaces | sed 's/^/network /'
for unit in NetworkManager dhcpcd; do
  systemctl is-active -q $unit 2>/dev/null && echo "network $unit.service"
done
true
"""


@dataclass(frozen=True)
class CloudInitState(Value):
    """The state of cloud-init.

    + running: whether it runs now, as during the first boot
    + manages_hosts: the file that tells it to write ``/etc/hosts`` at each boot, "" if none does
    + network: files and services that configure the network without cloud-init
    """

    running: bool = False
    manages_hosts: str = ""
    network: tuple[str, ...] = ()


class CloudInit(NodeFact[CloudInitState]):
    """The state of cloud-init; all fields are empty if it is not installed.

    **Example:** ``host.get_fact(CloudInit).running``
    """

    program = "cloud-init"

    @override
    def command(self) -> str:
        return _COMMAND

    @override
    def parse(self, lines: list[str]) -> CloudInitState:
        """Read the lines ``running``, ``hosts FILE`` and ``network FILE``."""
        found = grouped(lines, "running hosts network")
        return CloudInitState(
            bool(found["running"]), "".join(found["hosts"]), tuple(found["network"])
        )
