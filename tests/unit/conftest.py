"""Set up hypothesis and the coreutils that scripts find.

`--hypothesis-profile=default` searches further. With ``UNIT_UUTILS=1`` tests of modules that run
programs run twice, the second time with uutils' coreutils instead of GNU's (Debian's package
rust-coreutils).
"""

from __future__ import annotations

import gc
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import gevent.signal  # type: ignore[import-untyped]
import pytest

from chaos_engine.facts.observe import batch
from tests.unit.scripts import Sandbox
from tests.unit.userlands import uutils_folder, wanted

os.environ["APT_CONFIG"] = str(Path(__file__).parent / "apt.conf")


def pytest_collection(session: pytest.Session) -> None:
    """Set up hypothesis before tests are imported, and not in xdist's process that runs none."""
    from hypothesis import HealthCheck, settings

    # A test must not fail because the computer is busy, and two runs must find the same
    settings.register_profile(
        "unit",
        max_examples=50,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    if not session.config.getoption("--hypothesis-profile", None):
        settings.load_profile("unit")


@pytest.fixture(autouse=True)
def asked_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend to be root, as deploys refuse other users. They change only what a test has made."""
    from chaos_engine.facts.node import AsRoot

    monkeypatch.setattr(AsRoot, "command", lambda self: "echo yes")


@pytest.fixture(autouse=True)
def nobody_waits(request: pytest.FixtureRequest) -> Iterator[None]:
    """Release processes that still wait at a FIFO of the test, as they would wait forever."""
    has_folder = "tmp_path" in request.fixturenames
    folder = request.getfixturevalue("tmp_path") if has_folder else None
    yield
    for path in folder.rglob("*") if folder else ():
        if stat.S_ISFIFO(path.lstat().st_mode):
            with suppress(OSError):  # no process reads it
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


@pytest.fixture(autouse=True)
def children_are_left_to_their_popen() -> Iterator[None]:
    """Have gevent wait for no child of the process any more.

    From gevent's first Popen on, as of `chaos_engine.operations.rolling.kubectl`, its loop waits
    for each child. It would take the exit status from the other Popen of later tests, which then
    reports 0. pyinfra's own command has gevent's Popen only.
    """
    yield
    # reset_sigchld of gevent's loop alone does not end that, as was seen with gevent 26.9
    gevent.signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Exclude all imported modules from garbage collection, which would search them each time."""
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of a module that runs programs with both coreutils."""
    used = vars(metafunc.module).values()
    if wanted() and (subprocess in used or Sandbox in used):
        metafunc.parametrize("coreutils", ["gnu", "uutils"], indirect=True)


@pytest.fixture(scope="session")
def uutils(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with uutils' programs under their usual names."""
    return uutils_folder(tmp_path_factory.mktemp("uutils"))


@pytest.fixture(autouse=True)
def coreutils(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put uutils' coreutils first in the PATH if the test asks for them."""
    if getattr(request, "param", "gnu") == "uutils":
        folder = str(request.getfixturevalue("uutils"))
        monkeypatch.setenv("PATH", folder, prepend=":")
        monkeypatch.setattr(batch, "PATH", f"{folder}:{batch.PATH}")
