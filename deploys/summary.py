"""The summary that a run of this package's deploys ends with: node by node what became of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import Field
from pyinfra.api.state import State

from chaos_engine.deploys.settings import (
    PREFIX,
    Settings,
    SettingsError,
    controller_path,
    origin,
    together,
)
from chaos_engine.deploys.values import LocalFileOrNone
from chaos_engine.facts.observe import Preparation, current, part
from chaos_engine.operations.engine.summary import preparing, summarize


class SummarySettings(Settings):
    """Settings of the summary; of any deploy."""

    summary_file: LocalFileOrNone = Field(
        "",
        description="file on your computer for the summary of a preview or run, as JSON: what "
        "became of each node, and the reasons of each operation; none by default",
    )


def summarized(function: Callable[..., None]) -> Callable[..., None]:
    """Have a run that calls this deploy, or check, end with a summary.

    Raises `SettingsError` for a ``chaos_summary_file`` that cannot be written.
    """

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> None:
        at = part(Preparation)
        if at.phase or at.depth:  # within another one
            function(*args, **kwargs)
            return
        with preparing():
            try:
                summarize(_file())
                function(*args, **kwargs)
            except SettingsError as error:
                raise _of_all_hosts(error) from None

    return call


def _of_all_hosts(error: SettingsError) -> SettingsError:
    """The one error of a run that has mistakes, with the current host's among them.

    pyinfra prints the first error when all hosts have come to what is wrong on this computer, for
    none waits before that.
    """
    state, host = current()
    mistakes, shared = _found.setdefault(state, ({}, SettingsError()))
    mistakes[host.name] = error.lines
    ordered = {one.name: mistakes[one.name] for one in state.inventory if one.name in mistakes}
    shared.say(*together(ordered))
    return shared


_found: WeakKeyDictionary[State, tuple[dict[str, Sequence[str]], SettingsError]] = (
    WeakKeyDictionary()
)


def _file() -> str:
    host, key = current()[1], f"{PREFIX}summary_file"
    if not hasattr(host.data, key):
        return ""
    path = SummarySettings.resolve(by="summary").summary_file
    file = controller_path(path)
    if path and (file.is_dir() or not os.access(file.parent, os.W_OK | os.X_OK)):
        what = "is a directory" if file.is_dir() else "cannot be made"
        raise SettingsError(
            f"{origin(host, key)}: {key} = {path!r}: that file {what}; name one in a directory "
            "that you may write to"
        )
    return str(file) if path else ""
