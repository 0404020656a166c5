"""The lab's network: a LAN in a namespace of its own, and a namespace for each computer on it.

No namespace has a route to this computer's own network, so at run time nothing leaves the lab.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from tests.lab.errors import LabError
from tests.lab.linux import run
from tests.lab.plan import Plan

_NAMESPACES = Path("/run/netns")
_BRIDGE = "lan"
COMPUTER = "computer"
"""The name, in the lab's namespaces, of the computer that `lab run` runs commands as."""


def namespace(lab: str, computer: str = "lan") -> Path:
    """Return the network namespace of a computer of the lab, or of its LAN (the gateway)."""
    return _NAMESPACES / f"ce-{lab}-{computer}"


def ensure_lan(plan: Plan) -> None:
    """Make the LAN with its gateway, which has the registry's address too, unless it is there."""
    lan = namespace(plan.name).name
    prefix = plan.network.prefixlen
    if _has_address(lan, _BRIDGE, plan.gateway):
        return
    remove_namespace(plan.name, "lan")
    run("ip", "netns", "add", lan)
    commands = [
        "link set lo up",
        # No spanning tree, no waiting: a port forwards from its first moment.
        f"link add {_BRIDGE} type bridge forward_delay 0 stp_state 0",
        f"address add {plan.gateway}/{prefix} dev {_BRIDGE}",
        f"address add {plan.registry}/{prefix} dev {_BRIDGE}",
        f"link set {_BRIDGE} up",
    ]
    run("ip", "-n", lan, "-batch", "-", stdin="\n".join(commands) + "\n")


def attach(plan: Plan, computer: str, address: str, mac: str) -> None:
    """Give COMPUTER a fresh network namespace with `eth0` on the LAN.

    Fresh, because what a node made in its network (bridges, macvlan links, packet filters) is
    gone after a real power cycle too.
    """
    lan, own = namespace(plan.name).name, namespace(plan.name, computer).name
    port = f"to-{computer}"
    # The kernel takes a namespace's end of a link away in its own time, perhaps just now; this is
    # done at once. A link that stays fails to be added below.
    if _has_link(lan, port):
        with contextlib.suppress(LabError):
            run("ip", "-n", lan, "link", "delete", port)
    remove_namespace(plan.name, computer)
    run("ip", "netns", "add", own)
    run("ip", "-n", lan, "link", "add", port, "type", "veth", "peer", "name", "eth0",
        "address", mac, "netns", own)  # fmt: skip
    run("ip", "-n", lan, "link", "set", port, "master", _BRIDGE, "up")
    commands = [
        "link set lo up",
        f"address add {address}/{plan.network.prefixlen} broadcast + dev eth0",
        "link set eth0 up",
        f"route add default via {plan.gateway}",
    ]
    run("ip", "-n", own, "-batch", "-", stdin="\n".join(commands) + "\n")


def ensure_computer(plan: Plan) -> None:
    """Put the computer that `lab run` runs commands as on the LAN, unless it is there."""
    if not _has_address(namespace(plan.name, COMPUTER).name, "eth0", plan.computer):
        attach(plan, COMPUTER, plan.computer, "02:00:00:00:00:02")


def remove_all(lab: str) -> None:
    """Remove every namespace of the lab; whatever is in it goes with it."""
    # The name of another lab may begin with this one's, so the rest must be a computer's.
    for path in sorted(_NAMESPACES.glob(f"ce-{lab}-*")):
        computer = path.name.removeprefix(f"ce-{lab}-")
        if "-" not in computer:
            remove_namespace(lab, computer)


def remove_namespace(lab: str, computer: str) -> None:
    """Remove one namespace of the lab, if it is there."""
    path = namespace(lab, computer)
    if path.exists():
        run("ip", "netns", "delete", path.name)


def _has_link(space: str, link: str) -> bool:
    return any(each["ifname"] == link for each in json.loads(run("ip", "-n", space, "-j", "link")))


def _has_address(space: str, link: str, address: str) -> bool:
    try:
        links = json.loads(run("ip", "-n", space, "-j", "address"))
    except LabError:  # no such namespace, or a name that an interrupted `ip` has left
        return False
    return any(
        each.get("local") == address
        for found in links
        if found["ifname"] == link
        for each in found["addr_info"]
    )
