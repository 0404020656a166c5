"""Run facts, operations and deploys on several nodes that are all this computer."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pyinfra.api import arguments, connectors
from pyinfra.api.command import StringCommand
from pyinfra.api.config import Config
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.operation import OperationMeta
from pyinfra.api.operations import run_ops
from pyinfra.api.state import State, StateStage
from pyinfra.connectors import util
from pyinfra.connectors.local import LocalConnector
from pyinfra.connectors.util import CommandOutput
from pyinfra.context import ctx_host, ctx_state

# pyinfra looks these up anew for each inventory and each operation
for module, name in ((connectors, "entry_points"), (arguments, "all_global_arguments")):
    setattr(module, name, functools.cache(getattr(module, name)))
# gevent's Popen forks, which takes ten times as long in a process with so many modules
setattr(util, "Popen", subprocess.Popen)  # noqa: B010


class Connector(LocalConnector):
    """A connector that runs commands on this computer and remembers them."""

    def run_shell_command(
        self, command: StringCommand, *args: Any, **kwargs: Any
    ) -> tuple[bool, CommandOutput]:
        """Run it, and remember it as a log shows it."""
        self.host.connector_data.setdefault("commands", []).append(str(command))
        return super().run_shell_command(command, *args, **kwargs)


class Nodes:
    """A run of pyinfra, stage by stage, without its command line."""

    def __init__(
        self,
        *names: str,
        data: Mapping[str, Any] | None = None,
        hosts: Mapping[str, Mapping[str, Any]] | None = None,
        groups: Mapping[str, tuple[list[str], Mapping[str, Any]]] | None = None,
        override: Mapping[str, Any] | None = None,
        changes: bool = True,
    ) -> None:
        """Connect to nodes.

        + names: names of the nodes, "pi1" by default
        + data: data of all hosts
        + hosts: data of single hosts, by name
        + groups: hosts and data of each group, by name
        + override: data as of ``--data``
        + changes: whether operations are prepared before the first change; false as under ``-y``
        """
        pairs = [(name, dict((hosts or {}).get(name, {}))) for name in names or ("pi1",)]
        grouped = {name: (members, dict(more)) for name, (members, more) in (groups or {}).items()}
        inventory: Any = Inventory(  # type: ignore[no-untyped-call]
            (pairs, dict(data or {})), override_data=dict(override or {}), **grouped
        )
        config = Config()  # type: ignore[no-untyped-call]
        self.state = State(inventory, config, check_for_changes=changes)
        for host in inventory:
            host.connector = Connector(self.state, host)
            host.connected = True
            self.state.activate_host(host)
        self.state.set_stage(StateStage.Prepare)

    def __getitem__(self, name: str) -> Host:
        host = self.state.inventory.get_host(name)
        assert host is not None
        return host

    @contextmanager
    def on(self, name: str = "pi1") -> Any:
        """Make pyinfra work for this node while the ``with`` block lasts."""
        with ctx_state.use(self.state), ctx_host.use(self[name]):
            yield self[name]

    def prepare(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Call a function for each node, as pyinfra runs a deploy file."""
        for host in self.state.inventory:
            with self.on(host.name):
                function(*args, **kwargs)

    def execute(self) -> None:
        """Execute all operations that were registered."""
        self.state.set_stage(StateStage.Execute)
        self.state.is_executing = True
        with ctx_state.use(self.state):
            run_ops(self.state)

    def commands(self, name: str = "pi1") -> list[str]:
        """Return the commands that were run on a node."""
        found: list[str] = self[name].connector_data.get("commands", [])
        return found

    def operations(self, name: str = "pi1") -> list[str]:
        """Return the names of a node's operations, in order."""
        return [operation for operation, _ in self._operations(name)]

    def planned(self, name: str = "pi1") -> list[str]:
        """Return the names of a node's operations that a preview lists as changes."""
        return [operation for operation, meta in self._operations(name) if meta._maybe_is_change]

    def changed(self, name: str = "pi1") -> list[str]:
        """Return the names of a node's operations that changed it."""
        return [
            operation
            for operation, meta in self._operations(name)
            if meta.is_complete() and meta.did_change()
        ]

    def _operations(self, name: str) -> Iterator[tuple[str, OperationMeta]]:
        for op, data in self.state.ops[self[name]].items():
            # Other nodes may have an operation of another name at the same place in the order
            own = data.global_arguments["name"]
            names = self.state.op_meta[op].names
            yield next(n for n in names if own is None or n.endswith(own)), data.operation_meta

    @property
    def failed(self) -> set[str]:
        """Return the names of the nodes that failed."""
        return {host.name for host in self.state.failed_hosts}
