"""How hypothesis runs here; `--hypothesis-profile=default` searches further."""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

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
