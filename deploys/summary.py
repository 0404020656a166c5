"""End a run of this package's deploys with a summary: what became of each node."""

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
    local_path,
    merge_lines,
    origin,
)
from chaos_engine.deploys.values import LocalFileOrNone
from chaos_engine.facts.observe import Preparation, current, part
from chaos_engine.operations.engine.summary import preparing, summarize


class SummarySettings(Settings):
    """Settings of the summary, which every deploy has."""

    summary_file: LocalFileOrNone = Field(
        "",
        description="file on your computer for the summary of a preview or run, as JSON: what "
        "became of each node, and the reasons of each operation; none by default",
    )


def summarized(function: Callable[..., None]) -> Callable[..., None]:
    """Make a run that calls this deploy, or `check`, end with a summary.

    Raises `SettingsError` for a ``chaos_summary_file`` that cannot be written.
    """

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> None:
        at = part(Preparation)
        if at.phase or at.depth:  # called by another deploy
            function(*args, **kwargs)
            return
        with preparing():
            try:
                summarize(_file())
                function(*args, **kwargs)
            except SettingsError as error:
                raise _error_of_all_hosts(error) from None

    return call


def _error_of_all_hosts(error: SettingsError) -> SettingsError:
    """Return the one error of a run, with the current host's mistakes added to it.

    pyinfra prints the first error that was raised. It does so when all hosts have added theirs, as
    no host waits for anything before.
    """
    state, host = current()
    mistakes, shared = _mistakes.setdefault(state, ({}, SettingsError()))
    mistakes[host.name] = error.lines
    ordered = {one.name: mistakes[one.name] for one in state.inventory if one.name in mistakes}
    shared.set_lines(*merge_lines(ordered))
    return shared


_mistakes: WeakKeyDictionary[State, tuple[dict[str, Sequence[str]], SettingsError]] = (
    WeakKeyDictionary()
)


def _file() -> str:
    host, key = current()[1], f"{PREFIX}summary_file"
    if not hasattr(host.data, key):
        return ""
    path = SummarySettings.resolve(by="summary").summary_file
    file = local_path(path)
    if path and (file.is_dir() or not os.access(file.parent, os.W_OK | os.X_OK)):
        what = "is a folder" if file.is_dir() else "cannot be made"
        raise SettingsError(
            f"{origin(host, key)}: {key} = {path!r}: that file {what}; name one in a folder "
            "that you may write to"
        )
    return str(file) if path else ""
