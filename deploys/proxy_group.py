"""Check the inventory's groups: all nodes must be in ``workers``, and at most one in ``proxy``."""

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
    """Check the current host's groups, and that all hosts have the same address of the API.

    Raises `SettingsError` if:

    + the host is neither in ``workers`` nor in ``proxy``
    + the host is in ``proxy`` but not in ``workers``, so it would not get the settings of the group
      ``workers``
    + hosts have different settings for the address, name or port of the API
    """
    host = current()[1]
    if WORKERS not in host.groups:
        if GROUP in host.groups:
            raise SettingsError(
                f"{host.name}: in the inventory's group {GROUP}, but not in {WORKERS}, so the host "
                f"would not get the settings in group_data/{WORKERS}.py; add the host to {WORKERS} "
                "in inventory.py too"
            )
        raise SettingsError(
            f"{host.name}: not in the inventory's group {WORKERS}, only in "
            f"{', '.join(host.groups) or 'all'}; add the host to {WORKERS} in inventory.py, or "
            f"exclude it with --exclude {host.name}"
        )
    for key in ONE_FOR_ALL:
        values = {other.name: other.data.get(key) for other in host.inventory}
        if problem := disagreement(key, {name: v for name, v in values.items() if v is not None}):
            raise SettingsError(problem)


def disagreement(key: str, values: Mapping[str, object]) -> str:
    """Return an error if hosts have different values of a setting, "" otherwise: a pure function.

    + key: the setting's key, such as "chaos_vip"
    + values: the setting's value by host name
    """
    first: dict[str, str] = {}
    for name, value in values.items():
        first.setdefault(str(value), name)
    if len(first) < 2:
        return ""
    found = ", ".join(f"{value} for {name}" for value, name in first.items())
    return (
        f"{key}: the value is {found}, but all nodes use the same API; set {key} once, in "
        "group_data/all.py"
    )


def check_proxy_group() -> None:
    """Raise `SettingsError` if the current host is not the only host in the group ``proxy``.

    Two proxies would both claim the address of the Kubernetes API.
    """
    host = current()[1]
    inventory: Any = host.inventory
    problem = proxy_problem(host.name, [one.name for one in inventory.groups.get(GROUP, [])])
    if problem:
        raise SettingsError(problem)


def proxy_problem(name: str, members: Sequence[str]) -> str:
    """Return the reason why a host cannot be the proxy, "" if it can: a pure function.

    + name: the host's name in the inventory
    + members: the names of the hosts in the group ``proxy``
    """
    if name not in members:
        others = f", which has only {', '.join(members)}" if members else ""
        return (
            f"{name}: not in the inventory's group {GROUP}{others}; exclude this host with --limit "
            f"{GROUP}, or make it the proxy in inventory.py"
        )
    if len(members) > 1:
        return (
            f"{name}: the inventory's group {GROUP} has {len(members)} hosts: "
            f"{', '.join(members)}; only one host can have the API's address: remove the others "
            "from the group in inventory.py"
        )
    return ""
