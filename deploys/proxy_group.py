"""The inventory's group of the proxy: one host that owns the address of the Kubernetes API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chaos_engine.deploys.settings import SettingsError
from chaos_engine.facts.observe import current

GROUP = "proxy"


def check_proxy_group() -> None:
    """Refuse a host that is not in the group ``proxy``, and a group of more than one host.

    Raises `SettingsError`: two nodes with one address would take it from each other.
    """
    _, host, _ = current()
    inventory: Any = host.inventory
    problem = unfit(host.name, [one.name for one in inventory.groups.get(GROUP, [])])
    if problem:
        raise SettingsError(problem)


def unfit(name: str, members: Sequence[str]) -> str:
    """Why the host cannot be the proxy, "" if it can: a pure function.

    + name: the host's name in the inventory
    + members: the names of the hosts in the group ``proxy``
    """
    if name not in members:
        others = f", which is {', '.join(members)}" if members else ""
        return (
            f"{name}: not in the inventory's group {GROUP}{others}; leave it out with --limit "
            f"{GROUP}, or make it the proxy in inventory.py"
        )
    if len(members) > 1:
        return (
            f"{name}: the inventory's group {GROUP} has {len(members)} hosts: "
            f"{', '.join(members)}; only one can have the address, leave one in inventory.py"
        )
    return ""
