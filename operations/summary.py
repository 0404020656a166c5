"""The last block of a run: what became of each node, why, and what to do now."""

from __future__ import annotations

import json
import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pyinfra import logger
from pyinfra.api.state import BaseStateCallback, StateStage
from pyinfra.api.util import format_text
from typing_extensions import override

from chaos_engine.facts.observe import Value, current, view_of
from chaos_engine.facts.text import printable, title_of

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.api.state import State

Result = Literal[
    "as wanted", "to be changed", "changed", "refused", "failed", "not finished", "not reached"
]

_COLOURS: Mapping[Result, str] = {
    "as wanted": "green",
    "to be changed": "yellow",
    "changed": "green",
}
"""All others are red."""


REFUSE_NODE = "Refuse node"
"""The name of the one operation that a refused node has."""


@dataclass(frozen=True)
class Outcome(Value):
    """What became of a node.

    + result: in one or two words
    + why: what is wrong with it and what to do about that, "" if nothing is
    + operations: those that change it, or did, each with its reasons
    """

    result: Result
    why: str = ""
    operations: Mapping[str, Sequence[str]] | None = None

    @property
    def line(self) -> str:
        """It in a line."""
        names = [name.rpartition(" | ")[2] for name in self.operations or {}]
        did = f"{len(names)} operation{'s' * (len(names) > 1)}: {', '.join(names)}" if names else ""
        if not self.why:
            return f"{self.result}{f' by {did}' if did else ''}"
        before = f" (before that, changed by {did})" if did else ""
        return f"{self.result}: {self.why}{before if self.result != 'refused' else ''}"

    @property
    def well(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.result in _COLOURS


def outcome(state: State, host: Host) -> Outcome:
    """What became of a host in a run that is over, or would in one that was previewed."""
    if host not in state.activated_hosts:
        return Outcome("not reached", "the reason stands at the top, under Connecting")
    view = view_of(host)
    executed = state.current_stage > StateStage.Prepare
    order = [op for op in state.get_op_order() if op in state.ops[host]]  # type: ignore[no-untyped-call]
    metas = {op: state.ops[host][op].operation_meta for op in order}
    titles = {
        op: title_of(state.get_op_meta(op).names, state.ops[host][op].global_arguments["name"])
        for op in order
    }

    def changes(op: str) -> bool:
        meta = metas[op]
        if executed:
            return meta.is_complete() and meta.did_change()
        return bool(meta._maybe_is_change)

    told = view.told.get(executed, {})
    changing = {titles[op]: tuple(told.get(titles[op], ())) for op in order if changes(op)}
    if view.refusal:
        changing = {name: why for name, why in changing.items() if not name.endswith(REFUSE_NODE)}
        return Outcome("refused", view.refusal, changing)
    if executed:
        failed = [op for op in order if metas[op].is_complete() and not metas[op].did_succeed()]
        if failed and host in state.failed_hosts:
            said = "; ".join(view.failures) or "what it printed stands above"
            return Outcome("failed", f"{titles[failed[-1]].rpartition(' | ')[2]}: {said}", changing)
        left = [op for op in order if not metas[op].is_complete()]
        if left:
            why = f"{len(left)} of {len(order)} operations were not begun; run again"
            return Outcome("not finished", why, changing)
    if view.failures:
        return Outcome("failed", "; ".join(view.failures), changing)
    verb: Result = "changed" if executed else "to be changed"
    return Outcome(verb if changing else "as wanted", operations=changing)


def advice(outcomes: Mapping[str, Outcome], previewed: bool) -> str:
    """What to do after a run, "" if there is nothing: a pure function.

    + outcomes: by host
    + previewed: whether it was a preview
    """
    bad = [name for name, found in outcomes.items() if not found.well]
    if bad:
        again = " ".join(f"--limit {shlex.quote(name)}" for name in bad)
        return f"do what is said there, and run again; for these alone: {again}"
    if previewed and any(found.operations for found in outcomes.values()):
        return "nothing was changed yet; without --dry it is"
    return ""


class Summary(BaseStateCallback):
    """Prints the block, and writes the files that were asked for, when a run's hosts disconnect."""

    def __init__(self) -> None:
        self.stopped = False
        self.files: dict[str, set[str]] = {}
        self._filters: list[logging.Filter] = []
        self._done = False

    def leave_out(self, lines: logging.Filter) -> None:
        """Filter what pyinfra prints, until the hosts disconnect."""
        self._filters.append(lines)
        logger.addFilter(lines)

    @override
    def host_disconnect(self, state: State, host: Host) -> None:  # type: ignore[override]
        """Called by pyinfra for each host, in the end only."""
        others = (one for one in state.activated_hosts if one is not host)
        if self.stopped or self._done or any(one.connected for one in others):
            return
        self._done = True
        for lines in self._filters:
            logger.removeFilter(lines)
        concerned = [one for one in state.inventory if state.is_host_in_limit(one)]
        outcomes = {one.name: outcome(state, one) for one in concerned}
        previewed = state.current_stage == StateStage.Prepare
        prefixes = {one.name: one.print_prefix for one in concerned}
        logger.info("--> Nodes:")
        for name, found in outcomes.items():
            text = format_text(printable(found.line), _COLOURS.get(found.result, "red"))
            logger.info(f"{prefixes[name]}{text}")
        if next_step := advice(outcomes, previewed):
            logger.info(f"Next: {next_step}")
        for path, names in self.files.items():
            write(Path(path), previewed, {n: o for n, o in outcomes.items() if n in names})


def write(path: Path, previewed: bool, outcomes: Mapping[str, Outcome]) -> None:
    """Write what became of nodes to a file on this computer, as JSON, whole or not at all.

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
    """Have the run that is at work end with a summary, once.

    + file: a file on this computer that the current host's outcome is written to, "" for none
    """
    state, host, _ = current()
    known = [one for one in state.callback_handlers if isinstance(one, Summary)]
    if not known:
        known = [Summary()]
        state.add_callback_handler(known[0])  # type: ignore[no-untyped-call]
    if file:
        known[0].files.setdefault(file, set()).add(host.name)
    return known[0]


@contextmanager
def preparing() -> Iterator[None]:
    """While it lasts, what shall be done to a host is found out. An error in that stops the run of
    all hosts, and nothing has become of any."""
    try:
        yield
    except Exception:
        summarize().stopped = True
        raise


def refuse(reason: str) -> None:
    """Say that the current host is refused, and have pyinfra's exit code and lines say no other.

    + reason: what was found on it and what to do about it
    """
    state, host, view = current()
    view.refusal = reason
    # pyinfra's exit code looks at this set. Failing the host would ask for a confirmation
    state.failed_hosts.add(host)
    summarize().leave_out(_NotReady(host.print_prefix))


def fall_short(why: str) -> None:
    """Say what is wrong with the current host that keeps it from no further operation: the
    summary and the exit code tell it."""
    state, host, view = current()
    if why not in view.failures:
        view.failures.append(why)
    state.failed_hosts.add(host)


class _NotReady(logging.Filter):
    """Leaves out the line by which pyinfra calls a host ready that was refused.

    + name: what pyinfra prints before each line of that host
    """

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        words = record.getMessage()
        return not (words.startswith(self.name) and "Ready:" in words)
