"""Print a summary with the result of each node at the end of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import Field
from pyinfra.api.state import State

from chaos_engine.deploys import settings
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.deploys.values import LocalFileOrNone
from chaos_engine.facts.observe import Preparation, current, of_host
from chaos_engine.operations.engine.summary import preparing, summarize


class SummarySettings(settings.Settings):
    """Settings of the summary at the end of a run. They apply to every deploy."""

    summary_file: LocalFileOrNone = Field(
        "",
        description="file on your computer to which a preview or a run writes its summary as JSON; "
        "the summary has the result of each node and the reasons of each operation. By default no "
        "file is written",
    )


def summarized(function: Callable[..., None]) -> Callable[..., None]:
    """Decorate a function. A run that calls the function prints a summary at the end.

    + function: a deploy, or another function that a deploy file calls

    The decorated function raises `SettingsError` if ``chaos_summary_file`` cannot be written.
    """

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> None:
        at = of_host(Preparation)
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
    """Add the current host's mistakes to one error for all hosts, and return this error.

    pyinfra prints only one error of a run: the error of the first host that fails. Each host checks
    its settings before it waits for its node for the first time. So all hosts have added their
    mistakes before pyinfra prints the error.
    """
    state, host = current()
    mistakes, shared = _mistakes.setdefault(state, ({}, SettingsError()))
    mistakes[host.name] = error.lines
    ordered = {one.name: mistakes[one.name] for one in state.inventory if one.name in mistakes}
    shared.set_lines(*settings.merge_lines(ordered))
    return shared


_mistakes: WeakKeyDictionary[State, tuple[dict[str, Sequence[str]], SettingsError]] = (
    WeakKeyDictionary()
)


def _file() -> str:
    """Return the path of the summary's file on this computer, or "" if no file is set."""
    host, key = current()[1], f"{settings.PREFIX}summary_file"
    if not hasattr(host.data, key):
        return ""
    path = SummarySettings.resolve(by="summary").summary_file
    file = settings.local_path(path)
    if path and (file.is_dir() or not os.access(file.parent, os.W_OK | os.X_OK)):
        what = "this path is a folder" if file.is_dir() else "this file cannot be created"
        raise SettingsError(
            f"{settings.origin(host, key)}: {key} = {path!r}: {what}; choose a file in a folder "
            "that you may write to"
        )
    return str(file) if path else ""
