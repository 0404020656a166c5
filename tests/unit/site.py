"""A user's folder, and pyinfra's command line run in it against stand-ins for nodes.

A run takes hundredths of a second: a process that is forked once has pyinfra's modules, and runs
it again and again. It is one of its own because pyinfra's command line patches Python's threads.
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
"""What the node of this name answers to a read; a `NodeError` is an answer too."""


@dataclass
class Done:
    """A run of pyinfra: what it printed, its exit status, and what it sent to which node."""

    status: int = 0
    text: str = ""
    sent: list[tuple[str, str]] = field(default_factory=list)

    @property
    def said(self) -> str:
        """What it printed, in one line."""
        return " ".join(self.text.split())


class Site:
    """A folder with the files that a user has, as they are shipped."""

    def __init__(self, folder: Path, inventory: str) -> None:
        """Make it, with another inventory."""
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
        """``pyinfra ARGUMENTS``, with nodes that answer so and do nothing; in `Runner`'s process.

        Nothing is patched but what a process and a network are.
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
        util.PYTHON_CODES.clear()  # by name: each folder has its deploy.py
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
    """In place of ssh, and of the one remote command that reads a node."""

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
        patch.setattr(ask, "_ask", answered)
        yield


class Runner:
    """A process that calls a function for names and folders, and gives back what that returns."""

    def __init__(self, function: Callable[[str, Path], Done]) -> None:
        """Fork it."""
        context = multiprocessing.get_context("fork")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, function), daemon=True)
        with warnings.catch_warnings():
            # Python 3.12 warns of xdist's thread, which holds nothing that the fork needs
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()

    def __call__(self, name: str, folder: Path) -> Done:
        """What the function returns; what it raises is raised."""
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
