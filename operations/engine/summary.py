"""Print a summary at the end of a run: each node's result, the reasons, and what to do next."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyinfra
from pyinfra import logger
from pyinfra.api.host import Host
from pyinfra.api.operation import OperationMeta
from pyinfra.api.state import BaseStateCallback, State, StateStage
from pyinfra.api.util import format_text
from typing_extensions import override

from chaos_engine.facts.observe import Value, current, of_host
from chaos_engine.facts.text import printable, title_of
from chaos_engine.operations.engine.reasons import Reasons

Result = Literal[
    "as wanted", "to be changed", "changed", "refused", "failed", "not finished", "not reached"
]

_COLOURS = {"as wanted": "green", "to be changed": "yellow", "changed": "green"}
"""The colour of each good result. Other results are red."""

_STYLES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Verdict:
    """The reasons why a host does not succeed.

    + refusal: why the run refuses the host and changes nothing on it; "" if it is not refused
    + failures: the host's other problems, without duplicates
    """

    refusal: str = ""
    failures: list[str] = field(default_factory=list)

    def fail(self, why: str) -> None:
        """Add a problem to `failures`, unless it is there already."""
        if why not in self.failures:
            self.failures.append(why)


SHOWN = 6
"""The summary names at most this many operations of a node."""

LEAVE_NODE = "Leave node as it is"
"""The name of the operation for a deploy that has nothing to do on a node."""

REFUSE_NODE = "Refuse node"
"""The name of the operation that makes a refused node fail."""


@dataclass(frozen=True)
class Outcome(Value):
    """The result of a run or a preview on a node.

    + result: the result, in one or two words
    + why: what is wrong with the node and what to do about it, "" if all is well
    + operations: the operations that have changed the node or, in a preview, would change it. A key
      is an operation's name, and the value has the operation's reasons
    """

    result: Result
    why: str = ""
    operations: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """Return the outcome as one line of the summary."""
        names = [name.rpartition(" | ")[2] for name in self.operations]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        did = f"{len(names)} operation{'s' * (len(names) > 1)}: {', '.join(names[:SHOWN])}{more}"
        if not self.why:
            return f"{self.result}{f' by {did}' if names else ''}"
        before = f" (before that, changed by {did})" if names else ""
        return f"{self.result}: {self.why}{before if self.result != 'refused' else ''}"

    @property
    def well(self) -> bool:
        """Tell whether the node's result is a good one."""
        return self.result in _COLOURS


def outcome(state: State, host: Host, prepared: bool = True) -> Outcome:
    """Return the outcome of a run or a preview on a host.

    + prepared: whether pyinfra has loaded all deploy files for the host. If not, pyinfra does not
      know all of the host's operations yet
    """
    if host not in state.activated_hosts:
        return Outcome("not reached", "see the reason above, under Connecting")
    verdict = of_host(Verdict, host)
    executed = state.current_stage > StateStage.Prepare
    order = [op for op in state.get_op_order() if op in state.ops[host]]  # type: ignore[no-untyped-call]
    metas = {op: state.ops[host][op].operation_meta for op in order}
    titles = {
        op: title_of(state.get_op_meta(op).names, state.ops[host][op].global_arguments["name"])
        for op in order
    }
    changed = (titles[op] for op in order if _changes(metas[op], executed))
    changing = _with_reasons(changed, of_host(Reasons, host).printed.get(executed, {}))
    if verdict.refusal:
        changing = {name: why for name, why in changing.items() if not name.endswith(REFUSE_NODE)}
        return Outcome("refused", verdict.refusal, changing)
    is_failed = host in state.failed_hosts
    if verdict.failures or is_failed:
        why = "; ".join(verdict.failures) or "its output above says why"
        ended = [op for op in order if executed and is_failed and metas[op].is_complete()]
        if failed := [op for op in ended if not metas[op].did_succeed()]:
            why = f"{titles[failed[-1]].rpartition(' | ')[2]}: {why}"
        return Outcome("failed", why, changing)
    not_begun = [op for op in order if executed and not metas[op].is_complete()]
    if not_begun:
        why = f"{len(not_begun)} of {len(order)} operations were not begun; run again"
        return Outcome("not finished", why, changing)
    if not executed and not prepared:
        return Outcome("not finished", "the run ended before this node was prepared; run again")
    verb: Result = "changed" if executed else "to be changed"
    return Outcome(verb if changing else "as wanted", operations=changing)


def _changes(meta: OperationMeta, executed: bool) -> bool:
    """Tell whether an operation has changed its host.

    + executed: whether the run has begun to execute operations. If not, the function tells whether
      the operation will probably change its host
    """
    if executed:
        return meta.is_complete() and meta.did_change()
    return bool(meta._maybe_is_change)


def _with_reasons(
    titles: Iterable[str], printed: Mapping[str, Sequence[str]]
) -> dict[str, Sequence[str]]:
    """Return the reasons of each operation, by the operation's name.

    + titles: the operations' names. A repeated name gets a number: "Do it (2)"
    + printed: the printed reasons, by the operation's name
    """
    found: dict[str, Sequence[str]] = {}
    for title in titles:
        others = sum(name == title or name.startswith(f"{title} (") for name in found)
        found[f"{title} ({others + 1})" if others else title] = tuple(printed.get(title, ()))
    return found


def advice(outcomes: Mapping[str, Outcome], previewed: bool) -> str:
    """Return what the user has to do after a run or a preview, "" if there is nothing to do.

    + outcomes: the outcome of each host, by the host's name
    + previewed: whether the run was a preview

    This is a pure function.
    """
    bad = [name for name, found in outcomes.items() if not found.well]
    if bad:
        again = " ".join(f"--limit {shlex.quote(name)}" for name in bad)
        return f"fix the problems above and run again; to run only on these nodes: {again}"
    if previewed and any(found.operations for found in outcomes.values()):
        return "nothing was changed; to make these changes, run again without --dry"
    return ""


class Summary(BaseStateCallback):
    """A pyinfra callback that prints a run's summary, and writes the outcomes into files.

    + stopped: if true, the callback prints no summary and writes no files
    + refused: the names of the refused hosts
    """

    def __init__(self) -> None:
        self.stopped = False
        self.refused: set[str] = set()
        self._files: dict[str, set[str]] = {}
        self._lines = _Ready(self.refused)
        self._done = False
        logger.addFilter(self._lines)

    def write_to(self, file: str, host: str) -> None:
        """Register a file on this computer, into which the summary will write the host's outcome.

        If the file exists, it is removed at once. Otherwise the outcomes of an earlier run would
        stay in the file if this run ended without a summary.
        """
        if file not in self._files:
            Path(file).unlink(missing_ok=True)
        self._files.setdefault(file, set()).add(host)

    @override
    def host_disconnect(self, state: State, host: Host) -> None:  # type: ignore[override]
        """Print the summary if this host is the last to disconnect.

        pyinfra calls this method for each host.
        """
        others = (one for one in state.activated_hosts if one is not host)
        if self.stopped or self._done or any(one.connected for one in others):
            return
        self._done = True
        logger.removeFilter(self._lines)
        concerned = [one for one in state.inventory if state.is_host_in_limit(one)]
        wanted = state.current_op_file_number + 1 if pyinfra.is_cli else 0
        outcomes = {
            one.name: outcome(state, one, prepared=self._lines.ready[one.name] >= wanted)
            for one in concerned
        }
        previewed = state.current_stage == StateStage.Prepare
        prefixes = {one.name: one.print_prefix for one in concerned}
        logger.info("--> Nodes:")
        for name, found in outcomes.items():
            text = format_text(printable(found.line), _COLOURS.get(found.result, "red"))
            logger.info(f"{prefixes[name]}{text}")
        if next_step := advice(outcomes, previewed):
            logger.info(f"Next: {next_step}")
        for path, names in self._files.items():
            write(Path(path), previewed, {n: o for n, o in outcomes.items() if n in names})


def write(path: Path, previewed: bool, outcomes: Mapping[str, Outcome]) -> None:
    """Write outcomes into a JSON file on this computer, completely or not at all.

    + previewed: whether the run was a preview
    + outcomes: the outcome of each host, by the host's name

    **Example:** ``{"preview": true, "nodes": {"pi1": {"result": "to be changed", "why": "",
    "operations": {"Worker | Docker | Run Docker": ["hold docker.io"]}}}}``
    """
    nodes = {name: found.to_json() for name, found in outcomes.items()}
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_text(json.dumps({"preview": previewed, "nodes": nodes}, indent=2) + "\n")
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        logger.error(f"{path} could not be written: {error.strerror}")


def summarize(file: str = "") -> Summary:
    """Make the current run end with a summary, and return the run's `Summary`.

    + file: path of a file on this computer, "" for no file. The summary writes the current host's
      outcome into the file
    """
    state, host = current()
    known = [one for one in state.callback_handlers if isinstance(one, Summary)]
    if not known:
        known = [Summary()]
        state.add_callback_handler(known[0])  # type: ignore[no-untyped-call]
    if file:
        known[0].write_to(file, host.name)
    return known[0]


@contextmanager
def preparing() -> Iterator[None]:
    """Print no summary if the ``with`` block raises an exception.

    The block prepares a host. An exception in it ends the whole run.
    """
    try:
        yield
    except Exception:
        summarize().stopped = True
        raise


def mark_refused(reason: str) -> None:
    """Remember that the current host is refused.

    + reason: what was found on the host and what to do about it

    pyinfra's exit code will not be 0. pyinfra's "Ready" line for the host is not printed.
    """
    state, host = current()
    of_host(Verdict).refusal = reason
    # pyinfra's exit code depends on this set. `fail_hosts` would make pyinfra ask whether to go on
    state.failed_hosts.add(host)
    summarize().refused.add(host.name)


def fall_short(why: str) -> None:
    """Remember a problem of the current host. The host's other operations go on.

    + why: what is wrong, as the summary prints it

    pyinfra's exit code will not be 0.
    """
    state, host = current()
    of_host(Verdict).fail(why)
    state.failed_hosts.add(host)


class _Ready(logging.Filter):
    """A log filter that counts the "Ready" lines of each host, and hides them for refused hosts.

    pyinfra prints a "Ready" line each time it has loaded a deploy file for a host.
    """

    def __init__(self, refused: Collection[str]) -> None:
        super().__init__()
        self.ready: Counter[str] = Counter()
        self._refused = refused

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        line = re.match(r"\[(.*?)\] +Ready: ", _STYLES.sub("", record.getMessage()))
        if not line:
            return True
        self.ready[line[1]] += 1
        return line[1] not in self._refused
