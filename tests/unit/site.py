"""Run pyinfra's command line in a user's folder, against stand-ins for nodes.

A run takes hundredths of a second: one forked process, which has pyinfra's modules, does all runs.
It is a separate process because pyinfra's command line patches Python's threads.
"""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
import pytest
from pyinfra.api import output
from pyinfra.api.command import StringCommand
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import CommandOutput

from chaos_engine.facts.observe import Read, ask

CHECKOUT = Path(__file__).resolve().parents[2]

Answer = Callable[[str, Read], Any]
"""Returns the answer of the node with this name to a read. A `NodeError` is an answer too."""


@dataclass
class Done:
    """A finished run of pyinfra.

    + status: its exit status
    + text: what it printed
    + sent: each command with the name of its node
    """

    status: int = 0
    text: str = ""
    sent: list[tuple[str, str]] = field(default_factory=list)

    @property
    def said(self) -> str:
        """Return what it printed, in one line."""
        return " ".join(self.text.split())


class Site:
    """A folder with the files of a user, as they are shipped."""

    def __init__(self, folder: Path, inventory: str) -> None:
        """Make the folder, with this inventory."""
        self.folder = folder
        folder.mkdir()
        shutil.copy(CHECKOUT / "deploy.py", folder)
        shutil.copytree(
            CHECKOUT / "group_data", folder / "group_data", ignore=lambda *_: ["__pycache__"]
        )
        (folder / "files").mkdir()
        (folder / "inventory.py").write_text(inventory)

    def set(self, group: str, values: Mapping[str, Any]) -> None:
        """Append settings to a group's data."""
        with (self.folder / "group_data" / f"{group}.py").open("a") as file:
            file.writelines(f"{key} = {value!r}\n" for key, value in values.items())

    def run(self, *arguments: str, answer: Answer) -> Done:
        """Run ``pyinfra ARGUMENTS``, in `Runner`'s process.

        + answer: says what nodes answer to reads. They do nothing else

        Only the process and the network are patched.
        """
        import pyinfra
        from pyinfra.context import ctx_config, ctx_host, ctx_inventory, ctx_state
        from pyinfra_cli import util
        from pyinfra_cli.cli import cli

        done, said = Done(), io.StringIO()
        pyinfra.is_cli = True
        output.set_formatter(lambda text, *args, **kwargs: text)
        output.set_echo(lambda message=None, **kwargs: print(message or "", file=said))
        logging.getLogger("pyinfra").handlers.clear()
        util.PYTHON_CODES.clear()  # its key is the name, and each folder has a deploy.py
        contexts: list[Any] = [ctx_config, ctx_host, ctx_inventory, ctx_state]
        for context in contexts:
            context.reset()
        os.chdir(self.folder)
        path = [*sys.path]
        with (
            stand_ins(done.sent, answer),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            try:
                cli.main([*arguments], prog_name="pyinfra")
            except SystemExit as end:
                done.status = int(end.code or 0)
        sys.path[:] = path
        done.text = said.getvalue()
        return done


@contextlib.contextmanager
def stand_ins(sent: list[tuple[str, str]], answer: Answer) -> Iterator[None]:
    """Replace ssh, and the one remote command that reads a node."""

    def connect(self: SSHConnector) -> None:
        return None

    def run(self: SSHConnector, command: StringCommand, *_: Any, **__: Any) -> Any:
        sent.append((self.host.name, str(command)))
        return True, CommandOutput([])

    def answered(host: Any, reads: Iterable[Read]) -> dict[Read, Any]:
        return {read: answer(host.name, read) for read in reads}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SSHConnector, "connect", connect)
        patch.setattr(SSHConnector, "disconnect", connect)
        patch.setattr(SSHConnector, "run_shell_command", run)
        patch.setattr(ask, "_read", answered)
        yield


class Runner:
    """A process that calls a function with a name and a folder, and returns its result."""

    def __init__(self, function: Callable[[str, Path], Done]) -> None:
        """Fork the process."""
        context = multiprocessing.get_context("fork")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, function), daemon=True)
        with warnings.catch_warnings():
            # Python 3.12 warns of xdist's thread, which has no lock that the fork needs
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()

    def __call__(self, name: str, folder: Path) -> Done:
        """Call the function. Return or raise what it returns or raises."""
        self._here.send((name, folder))
        done = self._here.recv()
        if isinstance(done, str):
            raise AssertionError(done)
        assert isinstance(done, Done)
        return done

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()


def _serve(connection: Connection, function: Callable[[str, Path], Done]) -> None:
    gevent.reinit()
    os.environ["PYINFRA_PROGRESS"] = "off"
    while True:
        name, folder = connection.recv()
        try:
            connection.send(function(name, folder))
        except Exception as error:
            connection.send(f"{type(error).__name__}: {error}")
