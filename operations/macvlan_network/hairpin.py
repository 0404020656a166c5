"""Create the network link through which a node reaches its own HAProxy container."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import IPv4Address

from chaos_engine.facts.files import Files
from chaos_engine.facts.haproxy import SCRIPT
from chaos_engine.facts.macvlan import MacvlanLink, MacvlanLinks
from chaos_engine.facts.network import AddressOwners, Interface, InterfaceState
from chaos_engine.facts.observe import NodeError, Read, observe
from chaos_engine.facts.repairs import Repairs
from chaos_engine.facts.suspects import Search
from chaos_engine.facts.text import setting
from chaos_engine.operations import files
from chaos_engine.operations.engine.arguments import LinkName
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.repairs import Repair, literal
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.files import Plan
from chaos_engine.operations.macvlan_network.commands import CONTAINER


@converge(
    reads=lambda link, parent, address, vip, script: [
        Read.of(MacvlanLinks),
        Read.of(Interface, interface=link),
        Read.of(Interface, interface=parent),
        Read.of(AddressOwners, addresses=((str(address), CONTAINER),)),
        Read.of(Files, paths=(SCRIPT,)),
        Read.of(Repairs),
    ]
)
def add_hairpin_link(
    link: LinkName, parent: LinkName, address: IPv4Address, vip: IPv4Address, script: str
) -> Commands:
    """Create a macvlan link for the node itself, with an address and a route to the container.

    + link: the link's name, at most 15 characters
    + parent: the network interface of both the link and the container
    + address: the link's address
    + vip: the container's address
    + script: shell script that sets up the link when it is called with the argument ``hairpin``

    Macvlan links of one parent interface reach each other, but never the parent itself. So the node
    and its pods cannot reach the container without this link. If the link, its address, its route
    or ``arp_ignore`` is not as wanted, the operation runs the script, which repairs the link. If a
    link with another name has the address, the script removes that link. Raises `NodeError` if an
    interface of another kind has the link's name, or if another machine has the address.

    **Example:** ``add_hairpin_link(name="Reach the proxy from its node", link="lb-hairpin", ...)``
    """
    links = observe(MacvlanLinks)
    if link not in links and observe(Interface, interface=link):
        raise NodeError(
            f"the node already has an interface {link}, which is not a macvlan link; choose "
            f"another {setting('hairpin_link')}, or remove that interface"
        )
    differs = link_problems(links, observe(Interface, interface=parent), link, parent, address, vip)
    if not any(f"{address}/32" in one.addresses for one in links.values()):
        owners = observe(AddressOwners, addresses=((str(address), CONTAINER),))
        if owner := owners.get(str(address)):
            raise NodeError(
                f"{address} belongs to the machine with the MAC address {owner}; choose another "
                f"{setting('hairpin_address')}, outside of the router's DHCP range; or, if "
                "that machine was the proxy until now, delete the link on that machine: "
                f"ip link delete {link}"
            )
    if differs:
        because(f"set {link} up: {'; '.join(differs.values())}")
    found = observe(Files, paths=(SCRIPT,)).get(SCRIPT)
    # If the node has a different script, the settings have changed. Then no change is a repair
    same = found is not None and found.sha256 == hashlib.sha256(script.encode()).hexdigest()
    parameters = (f"net/ipv4/conf/{parent}/{name}" for name in ("arp_ignore", "arp_announce"))
    notes = [f"sysctl_was {quote(name)}" for name in parameters]
    yield from files.transaction(
        Plan(),
        apply=quote("sh", "-c", script, "sh", "hairpin"),
        noop=f"{link}: as wanted",
        force=bool(differs),
        before="\n".join([*notes, f"note link created {quote(link)}"]),
        repairs=repairs(differs, link, parent, address, script) if same else (),
    )


def repairs(
    differs: Mapping[str, str], link: str, parent: str, address: IPv4Address, script: str
) -> tuple[Repair, ...]:
    """Return a `Repair` for each problem with the link. This is a pure function.

    + differs: the problems with the link, as `link_problems` returns them
    + link, parent, address, script: as `add_hairpin_link` takes them
    """
    found = []
    for thing in differs:
        interface = parent if thing.endswith(f" {parent}") else link
        name = rf"(^|[^a-zA-Z0-9_-]){literal(interface)}([^a-zA-Z0-9_-]|$)"
        pattern = f"{name}|{literal(str(address))}"
        if thing.startswith("arp_ignore"):
            pattern = rf"conf[./]({literal(interface)}|all|default)[./]arp_ignore"
        search = Search(thing, pattern, link=interface)
        found.append(Repair(thing, script, "link", link, search))
    return tuple(found)


def link_problems(
    links: Mapping[str, MacvlanLink],
    parent_state: InterfaceState | None,
    link: str,
    parent: str,
    address: IPv4Address,
    vip: IPv4Address,
) -> dict[str, str]:
    """Return a dictionary from each wrong thing to a description of the problem.

    This is a pure function.

    + links: the node's macvlan links by name
    + parent_state: the state of the parent interface, ``None`` if it does not exist
    + link, parent, address, vip: as `add_hairpin_link` takes them

    **Example:** ``{"the link lb-hairpin": "lb-hairpin is down"}``
    """
    differs: dict[str, str] = {}
    others = [
        f"{name} has the address {address}"
        for name, other in links.items()
        if name != link and f"{address}/32" in other.addresses
    ]
    if others:
        differs[f"the owner of {address}"] = "; ".join(others)
    if parent_state is None or parent_state.arp_ignore != 1:
        differs[f"arp_ignore of {parent}"] = f"arp_ignore of {parent} is not 1"
    found = links.get(link)
    if found is None:
        return {**differs, f"the link {link}": f"{link} is not there"}
    if (found.parent, found.mode) != (parent, "bridge"):
        differs[f"the parent of {link}"] = f"{link} is on {found.parent} in the mode {found.mode}"
    if not found.up:
        differs[f"the link {link}"] = f"{link} is down"
    if tuple(found.addresses) != (f"{address}/32",):
        addresses = ", ".join(found.addresses) or "none"
        differs[f"the address of {link}"] = f"{link} has the addresses {addresses}"
    if dict(found.routes) != {f"{vip}/32": str(address)}:
        differs[f"the route through {link}"] = f"{link} should have exactly one route, to {vip}"
    if found.arp_ignore != 1:
        differs[f"arp_ignore of {link}"] = f"arp_ignore of {link} is not 1"
    return differs
