"""Check the inventory's groups: every node is in ``workers``, and one of them in ``proxy``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chaos_engine.deploys.settings import SettingsError
from chaos_engine.deploys.summary import summarized
from chaos_engine.facts.observe import current

WORKERS = "workers"
GROUP = "proxy"
ONE_FOR_ALL = ("chaos_vip", "chaos_vip_name", "chaos_vip_port")


@summarized
def check_groups() -> None:
    """Refuse the current host if its groups are wrong, or if hosts differ in the API's address.

    Raises `SettingsError` for:

    + a host that is neither in ``workers`` nor in ``proxy``: ``deploy.py`` would skip it
    + a host in ``proxy`` but not in ``workers``: it would not get the settings of ``workers``
    + hosts with different addresses, names or ports of the API
    """
    host = current()[1]
    if WORKERS not in host.groups:
        if GROUP in host.groups:
            raise SettingsError(
                f"{host.name}: in the inventory's group {GROUP}, but not in {WORKERS}, so it would "
                f"miss what group_data/{WORKERS}.py says; name it in {WORKERS} too, in inventory.py"
            )
        raise SettingsError(
            f"{host.name}: not in the inventory's group {WORKERS}, only in "
            f"{', '.join(host.groups) or 'all'}, so nothing would be done to it; name it in "
            f"{WORKERS} in inventory.py, or leave it out with --exclude {host.name}"
        )
    for key in ONE_FOR_ALL:
        values = {other.name: other.data.get(key) for other in host.inventory}
        if problem := disagreement(key, {name: v for name, v in values.items() if v is not None}):
            raise SettingsError(problem)


def disagreement(key: str, values: Mapping[str, object]) -> str:
    """Say that hosts have different values of a setting, "" if they do not: a pure function.

    + key: the setting, as "chaos_vip"
    + values: value of the setting by host
    """
    first: dict[str, str] = {}
    for name, value in values.items():
        first.setdefault(str(value), name)
    if len(first) < 2:
        return ""
    found = ", ".join(f"{value} for {name}" for value, name in first.items())
    return f"{key}: it is {found}; all nodes reach one API: give it once, in group_data/all.py"


def check_proxy_group() -> None:
    """Refuse the current host if it is not the only host in the group ``proxy``.

    Two proxies would take the API's address from each other. Raises `SettingsError`.
    """
    host = current()[1]
    inventory: Any = host.inventory
    problem = proxy_problem(host.name, [one.name for one in inventory.groups.get(GROUP, [])])
    if problem:
        raise SettingsError(problem)


def proxy_problem(name: str, members: Sequence[str]) -> str:
    """Say why the host cannot be the proxy, "" if it can: a pure function.

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
