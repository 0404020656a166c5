"""Run pyinfra's command line in a separate process, without the second that its imports take."""

from __future__ import annotations

import functools
import importlib.metadata
import multiprocessing
import os
import runpy
import sys
import warnings
from multiprocessing.process import BaseProcess
from pathlib import Path

import gevent.subprocess  # type: ignore[import-untyped]
from pyinfra.connectors import util


def start(folder: Path, *arguments: str, out: Path, err: Path | None = None) -> BaseProcess:
    """Start ``pyinfra ARGUMENTS`` in FOLDER as the leader of a session.

    The process is a fork of this one, which has pyinfra's modules already. Its output goes to the
    files OUT and ERR, by default all to OUT.
    """
    process = multiprocessing.get_context("fork").Process(
        target=_main, args=(folder, arguments, out, err)
    )
    with warnings.catch_warnings():
        # Python 3.12 warns of xdist's thread, which has no lock that the fork needs
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    return process


def _main(folder: Path, arguments: tuple[str, ...], out: Path, err: Path | None) -> None:
    os.setsid()
    os.chdir(folder)
    with out.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if err:
        with err.open("w") as file:
            os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.argv = ["pyinfra", *arguments]
    gevent.reinit()
    setattr(util, "Popen", gevent.subprocess.Popen)  # noqa: B010  (`nodes` has put another there)
    # gevent searches all installed packages for each module that it patches
    setattr(importlib.metadata, "entry_points", functools.cache(importlib.metadata.entry_points))  # noqa: B010
    runpy.run_module("pyinfra", run_name="__main__", alter_sys=True)
