"""How hypothesis runs here (`--hypothesis-profile=default` searches further), and whose coreutils
scripts find.

Tests of modules that run programs run twice with ``UNIT_UUTILS=1``, the second time with uutils'
coreutils in place of GNU's: Debian's package rust-coreutils.
"""

from __future__ import annotations

import gc
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from chaos_engine.facts.observe import batch
from tests.unit.scripts import Sandbox
from tests.unit.userlands import uutils_folder, wanted

os.environ["APT_CONFIG"] = str(Path(__file__).parent / "apt.conf")


def pytest_collection(session: pytest.Session) -> None:
    """Before tests are imported, and not in the process of xdist that only hands them out."""
    from hypothesis import HealthCheck, settings

    # A busy computer is no reason to fail, and a run finds what the run before found
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
    """Deploys are refused where nobody is root; here they change what a test has made."""
    from chaos_engine.facts.node import AsRoot

    monkeypatch.setattr(AsRoot, "command", lambda self: "echo yes")


@pytest.fixture(autouse=True)
def nobody_waits(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let go whoever still waits at a FIFO that the test has made: it would wait for ever."""
    has_folder = "tmp_path" in request.fixturenames
    folder = request.getfixturevalue("tmp_path") if has_folder else None
    yield
    for path in folder.rglob("*") if folder else ():
        if stat.S_ISFIFO(path.lstat().st_mode):
            with suppress(OSError):  # nobody reads it
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def pytest_collection_finish() -> None:
    """What is imported by now stays: Python need not go through it for garbage again and again."""
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have each test of a module that runs programs do so with the coreutils of both."""
    used = vars(metafunc.module).values()
    if wanted() and (subprocess in used or Sandbox in used):
        metafunc.parametrize("coreutils", ["gnu", "uutils"], indirect=True)


@pytest.fixture(scope="session")
def uutils(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with uutils' programs under their usual names."""
    return uutils_folder(tmp_path_factory.mktemp("uutils"))


@pytest.fixture(autouse=True)
def coreutils(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose coreutils programs find: GNU's, or those of uutils first."""
    if getattr(request, "param", "gnu") == "uutils":
        folder = str(request.getfixturevalue("uutils"))
        monkeypatch.setenv("PATH", folder, prepend=":")
        monkeypatch.setattr(batch, "PATH", f"{folder}:{batch.PATH}")
