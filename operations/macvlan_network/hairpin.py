"""Give the node a link by which it reaches the container on its macvlan network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import IPv4Address

from pyinfra.api.command import QuoteString, StringCommand

from chaos_engine.facts.files import Files
from chaos_engine.facts.haproxy import SCRIPT
from chaos_engine.facts.macvlan import MacvlanLink, MacvlanLinks
from chaos_engine.facts.network import AddressOwners, Interface, InterfaceState
from chaos_engine.facts.observe import NodeError, Read, current, observe
from chaos_engine.facts.repairs import Repairs
from chaos_engine.facts.suspects import Search
from chaos_engine.facts.text import setting
from chaos_engine.operations.engine.arguments import LinkName
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.originals import KEEP, recorded
from chaos_engine.operations.engine.prelude import PRELUDE
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.repairs import Repair, fixes, literal, tell
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.macvlan_network.network import CONTAINER


def reads(
    link: str, parent: str, address: IPv4Address, vip: IPv4Address, script: str
) -> list[Read]:
    """Return what `add_hairpin_link` will observe for the same arguments."""
    return [
        Read.of(MacvlanLinks),
        Read.of(Interface, interface=link),
        Read.of(Interface, interface=parent),
        Read.of(AddressOwners, addresses=((str(address), CONTAINER),)),
        Read.of(Files, paths=(SCRIPT,)),
        Read.of(Repairs),
    ]


@converge(reads=reads)
def add_hairpin_link(
    link: LinkName, parent: LinkName, address: IPv4Address, vip: IPv4Address, script: str
) -> Commands:
    """Have a macvlan link with an address of its own and a route to the container through it.

    + link: its name, at most 15 characters
    + parent: the network interface that both this link and the container are on
    + address: the link's address
    + vip: the container's address
    + script: shell script that sets all of this when it is called with the argument ``hairpin``

    A macvlan link reaches the other links of its parent, but never the parent itself. Without a
    link of its own, the node and the pods on it cannot reach the container. Link, address, route
    and ``arp_ignore`` are each looked at, and only what is missing is set. A link of another name
    that has the address is removed. Raises `NodeError` if the name belongs to an interface of
    another kind, or if another machine has the address.

    **Example:** ``add_hairpin_link(name="Reach the proxy from its node", link="lb-hairpin", ...)``
    """
    links = observe(MacvlanLinks)
    if link not in links and observe(Interface, interface=link):
        raise NodeError(
            f"{link} is a network interface of the node already, but no macvlan link; choose "
            f"another {setting('hairpin_link')}, or remove it"
        )
    differs = link_problems(links, observe(Interface, interface=parent), link, parent, address, vip)
    if not any(f"{address}/32" in one.addresses for one in links.values()):
        owners = observe(AddressOwners, addresses=((str(address), CONTAINER),))
        if owner := owners.get(str(address)):
            raise NodeError(
                f"{address} belongs to the machine with the MAC address {owner}; choose another "
                f"{setting('hairpin_address')}, outside of the router's DHCP range; or, if that "
                "machine "
                f"was the proxy until now, delete its link there: ip link delete {link}"
            )
    if not differs:
        current()[1].noop(f"{link}: as wanted")
        return
    because(f"set {link} up: {'; '.join(differs.values())}")
    found = observe(Files, paths=(SCRIPT,)).get(SCRIPT)
    # another script means other settings: then the change is no repair
    same = found is not None and found.sha256 == hashlib.sha256(script.encode()).hexdigest()
    repaired = repairs(differs, link, parent, address, script) if same else ()
    tell(repaired)
    kept = quote(*(f"net/ipv4/conf/{parent}/{name}" for name in ("arp_ignore", "arp_announce")))
    noted = (
        f"{PRELUDE}{KEEP}for key in {kept}; do sysctl_was $key; done\n"
        + "\n".join(fixes(repaired))
        + f"\nnote link created {quote(link)}; settle\n"
    )
    run = StringCommand("sh -c", QuoteString(script), "sh hairpin").get_raw_value()
    yield StringCommand("sh -c", QuoteString(recorded(f"{noted}{run}\nfixed")))


def repairs(
    differs: Mapping[str, str], link: str, parent: str, address: IPv4Address, script: str
) -> tuple[Repair, ...]:
    """Return the repairs of what differs: a pure function.

    + differs: what `link_problems` returns
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
    """Return what is not as wanted, each thing with what was found: a pure function.

    + links: the node's macvlan links by name
    + parent_state: the parent, ``None`` if it does not exist
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
        differs[f"the route through {link}"] = f"{link} has not just the route to {vip}"
    if found.arp_ignore != 1:
        differs[f"arp_ignore of {link}"] = f"arp_ignore of {link} is not 1"
    return differs
