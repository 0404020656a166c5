"""Write the report's files when the run ends, once for all nodes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import gevent  # type: ignore[import-untyped]
from pyinfra import logger
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host
from pyinfra.api.state import BaseStateCallback, State
from pyinfra.api.util import format_text
from typing_extensions import override

from chaos_engine.facts.observe import current
from chaos_engine.facts.text import printable
from chaos_engine.operations.engine.summary import summarize
from chaos_engine.operations.report import history
from chaos_engine.operations.report.contents import (
    Found,
    NodeReport,
    Report,
    node_report,
    sample_of,
    unread_report,
)
from chaos_engine.operations.report.fixes import documents
from chaos_engine.operations.report.page import html

PAGE, VALUES = "index.html", "report.json"
"""The names of two files in the report's folder. The third file is `history.NAME`."""

ASK_SECONDS = 20
"""Timeout in seconds. `Ending` tries again to connect to unreachable hosts. When the last host
disconnects, `Ending` waits at most this long for the new connections."""

_NOT_FINISHED = "the run ended before this node was read; run again"


class Ending(BaseStateCallback):
    """A pyinfra callback that writes the report when the last host disconnects.

    + folder: the folder of the report's files
    + origin: a text with the name of the host that called `begin` first, and the source of the
      host's setting `report_dir`. Example: "pi1, group workers"
    + ratings: the endurance of each host's card, by the host's name. The endurance is the number of
      TB that can be written, according to the card's maker; ``None`` if unknown
    + found: what was read on each host, by the host's name. For a host that was not read, the value
      is a text with the reason
    """

    def __init__(self, state: State, folder: Path, origin: str) -> None:
        self.folder, self.origin = folder, origin
        self.ratings: dict[str, float | None] = {}
        self.found: dict[str, Found | str] = {}
        self._summary = summarize()
        self._done = False
        concerned = [one for one in state.inventory if state.is_host_in_limit(one)]
        # pyinfra has printed why it could not connect to these hosts, but does not keep the reason.
        # So a second attempt finds the reason
        self._asked = {
            one.name: gevent.spawn(ask_again, one)
            for one in concerned
            if one not in state.activated_hosts
        }

    @override
    def host_disconnect(self, state: State, host: Host) -> None:  # type: ignore[override]
        """Write the report's files if this host is the last to disconnect.

        pyinfra calls this method for each host. If a file cannot be written, the exit code of
        pyinfra is not 0.
        """
        others = (one for one in state.activated_hosts if one is not host)
        if self._summary.stopped or self._done or any(one.connected for one in others):
            return
        self._done = True
        gevent.joinall(list(self._asked.values()), timeout=ASK_SECONDS)
        for name, asked in self._asked.items():
            self.found[name] = asked.value or "it does not answer"
            asked.kill(block=False)
        names = [one.name for one in state.inventory if state.is_host_in_limit(one)]
        try:
            report = write(self, names, Path(state.cwd or "."), round(time.time()))
        except OSError as error:
            path = error.filename or self.folder
            logger.error(
                f"the report could not be written: {path}: {error.strerror}; fix that and run again"
            )
            # pyinfra has chosen its exit code already. gevent raises this SystemExit in the main
            # greenlet in place of pyinfra's own. If a host has failed, the exit code is 1 anyway
            if not state.failed_hosts:
                raise SystemExit(1) from None
            return
        for warning in report.warnings:
            logger.warning(format_text(f"Warning: {printable(warning)}", "yellow"))
        logger.info(f"Report: {self.folder / PAGE}")


def write(found: Ending, names: Iterable[str], site: Path, now: int) -> Report:
    """Write the report's files, and return the report.

    + names: the names of all nodes that the report is about
    + site: the folder in which pyinfra runs
    + now: the present time, in seconds since 1970

    ``report.json`` is written first, then the history, then the page. ``report.json`` and the page
    are replaced completely or not at all. Raises ``OSError`` if a file cannot be written.
    """
    folder = found.folder
    earlier, warnings = history.read(folder / history.NAME)
    nodes: list[NodeReport] = []
    samples = {}
    for name in names:
        one = found.found.get(name, _NOT_FINISHED)
        before = earlier.get(name, [])
        if isinstance(one, str):
            nodes.append(unread_report(name, one, before))
            continue
        nodes.append(node_report(name, one, before, now, found.ratings.get(name)))
        if one.card is not None:
            samples[name] = sample_of(one.card, now)
    report = Report(now, tuple(nodes), tuple(warnings))
    replace(folder / VALUES, json.dumps(report.to_json(), indent=1) + "\n")
    if samples:
        history.append(folder / history.NAME, now, samples)
    replace(folder / PAGE, html(report, documents(site, folder)))
    return report


def replace(path: Path, text: str) -> None:
    """Write a file completely or not at all. If writing fails, raise ``OSError`` with the path."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with new.open("wb") as file:
            # A node may send bytes that are not UTF-8
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def begin(folder: Path, origin: str) -> Ending:
    """Make the current run end with a report, and return the run's `Ending`.

    + folder: the folder of the report's files
    + origin: a text with the current host's name and the source of the host's setting `report_dir`,
      such as "pi1, group workers"

    The first host's call creates the folder, checks the folder with a probe file, and creates the
    `Ending`. Later calls in this run return the same `Ending`, with the first host's folder. Raises
    ``OSError`` with the path if nothing can be written in the folder.
    """
    state, _ = current()
    known = [one for one in state.callback_handlers if isinstance(one, Ending)]
    if known:
        return known[0]
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".{PAGE}.{os.getpid()}"
    probe.write_bytes(b"")
    probe.unlink()
    with (folder / history.NAME).open("ab"):
        pass
    ending = Ending(state, folder, origin)
    state.add_callback_handler(ending)  # type: ignore[no-untyped-call]
    return ending


def ask_again(host: Host) -> str:
    """Try again to connect to a host that pyinfra could not reach.

    Returns the error of this attempt. If the attempt succeeds, returns a text that asks the user to
    run again.
    """
    try:
        host.connector.connect()
    except ConnectError as error:
        return str(error.args[0]) if error.args else type(error).__name__
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    with suppress(Exception):
        disconnect = getattr(host.connector, "disconnect", None)
        if disconnect:
            disconnect()
    return "it did not answer when the run began, but it answered a moment later; run again"
