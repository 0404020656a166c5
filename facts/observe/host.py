"""Find pyinfra's current host, store objects for a host during a run, and print warnings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

from pyinfra import logger
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.api.util import format_text
from pyinfra.context import ctx_host, ctx_state

from chaos_engine.facts.text import named, printable

P = TypeVar("P")


def current() -> tuple[State, Host]:
    """Return pyinfra's current state and current host."""
    return cast("State", ctx_state.get()), cast("Host", ctx_host.get())  # type: ignore[no-untyped-call]


def of_host(kind: type[P], host: Host | None = None) -> P:
    """Return the object in which a module stores data about a host during a run.

    + kind: the object's class. The first call for a host creates the object, without arguments
    + host: by default the current host

    **Example:** ``of_host(Reasons).given``
    """
    # A dictionary with hosts as keys would not work, because pyinfra's `host` is one proxy object
    # for all greenlets
    data = (host or current()[1]).connector_data.setdefault("chaos_engine", {})
    if kind not in data:
        data[kind] = kind()
    return cast(P, data[kind])


PREFIX = "chaos_"
"""The prefix of the names of settings in ``host.data``."""


@dataclass
class _AtWork:
    """The concern (a subject such as "docker") whose deploy or operation runs on a host now.

    + concern: the concern's name, "" if none runs
    """

    concern: str = ""


def concern_at_work() -> str:
    """Return which concern, such as "docker", works on the current host now, "" if none does."""
    has_host = ctx_host.isset()  # type: ignore[no-untyped-call]
    return of_host(_AtWork).concern if has_host else ""


@contextmanager
def working_for(concern: str) -> Iterator[None]:
    """Attribute the current host's changes and messages to a concern until the block ends."""
    at_work = of_host(_AtWork)
    outer, at_work.concern = at_work.concern, concern
    try:
        yield
    finally:
        at_work.concern = outer


def in_words(message: str) -> str:
    """Return a message in which each setting has the name that the user knows.

    The function `chaos_engine.facts.text.setting` has marked the names in the message. A user of a
    concern's deploy knows the name of the setting, such as ``chaos_vip``. A user who calls an
    operation without a deploy knows the name of the operation's argument, such as ``vip``.
    """
    return named(message, PREFIX if concern_at_work() else "")


class _Warned(set[str]):
    """The warnings that were printed about a host."""


_warned: WeakKeyDictionary[State, set[str]] = WeakKeyDictionary()
"""The warnings about settings that each run has printed. A key is pyinfra's state of a run."""


def warn(message: str, of_node: bool = True) -> None:
    """Print a warning, unless the run has already printed the same warning.

    + of_node: whether the warning is about the current host. Otherwise the warning is about
      settings, and is printed once for all hosts, without a host's name
    """
    state, host = current()
    # The message may quote output of a node, and users of the node may have put any text there
    message = printable(in_words(message))
    printed = of_host(_Warned) if of_node else _warned.setdefault(state, set())
    if message in printed:
        return
    printed.add(message)
    text = format_text(f"Warning: {message}", fg="yellow")
    if of_node:
        host.log(text)
    else:
        logger.info(f"    {text}")
