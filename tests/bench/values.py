"""Turn the site's values into variables of Ansible: inventory, group data and defaults."""

from __future__ import annotations

import runpy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chaos_engine.deploys.hosts_file import addresses
from chaos_engine.deploys.proxy import ProxySettings
from chaos_engine.deploys.settings import PREFIX, Settings
from chaos_engine.deploys.worker import WorkerSettings

_GROUPS = ("all", "workers", "proxy")


def group_data(checkout: Path) -> dict[str, Any]:
    """Return all settings of the site's group data, the proxy's too."""
    found: dict[str, Any] = {}
    for group in _GROUPS:
        found |= runpy.run_path(str(checkout / "group_data" / f"{group}.py"))
    return {key: value for key, value in found.items() if key.startswith(PREFIX)}


def settings(model: type[Settings], data: dict[str, Any]) -> Any:
    """Return the settings of a role, from those of the site."""
    names = (key.removeprefix(PREFIX) for key in data)
    return model(**{name: data[PREFIX + name] for name in names if name in model.model_fields})


def inventory(checkout: Path, hosts: Iterable[str], files: Path) -> dict[str, Any]:
    """Return an inventory for Ansible, to be written as JSON, with all variables of the playbook.

    + hosts: names of the nodes
    + files: folder of the files that are put on nodes as they are
    """
    hosts, data = list(hosts), group_data(checkout)
    proxy = runpy.run_path(str(checkout / "inventory.py"))["proxy"]
    worker, balancer = settings(WorkerSettings, data), settings(ProxySettings, data)
    common = {
        **worker.model_dump(mode="json"),
        **balancer.model_dump(mode="json"),
        "hosts_entries": addresses(worker),
        "kubernetes_packages": list(worker.held_packages),
        "bench_files": str(files),
        "ansible_user": "ubuntu",
        "ansible_become": True,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return {
        "all": {
            "vars": common,
            "children": {
                "workers": {"hosts": {name: {} for name in hosts}},
                "proxy": {"hosts": {name: {} for name in proxy if name in hosts}},
            },
        }
    }
