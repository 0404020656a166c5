"""The unit tests on each Python, with the lowest and with the newest of all dependencies.

``make matrix`` runs all of them, ``make test`` its two ends. A Python that is not on this computer
is skipped and named.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox
from python_discovery import get_interpreter

nox.needs_version = ">=2026.10"

# Its classifiers
PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))

nox.options.sessions = ["unit"]
# Nox stops for it where CI is set
nox.options.error_on_missing_interpreters = False

# pyenv's own place in PATH has only the versions that are chosen
_PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.*/bin")
_UNPACKED = Path.cwd().glob(".python/3.*/usr/bin")  # see tests/debian_python.py
_PATH = [*map(str, _PYENV), os.environ["PATH"], *map(str, _UNPACKED)]
os.environ["PATH"] = os.pathsep.join(_PATH)


@nox.session(python=PYTHONS, venv_backend="uv", download_python="never")
@nox.parametrize(
    "resolution", [nox.param("lowest-direct", id="lowest"), nox.param("highest", id="newest")]
)
def unit(session: nox.Session, resolution: str) -> None:
    """Run the unit tests on the package as it is installed elsewhere: from a wheel."""
    built = Path(session.virtualenv.location, "dist")
    # By way of the sdist, so that nothing comes in that an earlier build has left
    session.run_install(
        *("uv", "build", "--quiet", "--resolution", resolution, "--out-dir", str(built))
    )
    # The lowest version is the lowest that has a wheel for this Python: nothing is compiled
    session.install(
        *("--resolution", resolution, "--no-build"),
        *("--requirements", "pyproject.toml", "--extra", "test"),
    )
    session.install("--no-deps", *map(str, built.glob("*.whl")))
    session.run(
        *("pytest", "--quiet", "-n", "2", "--dist", "worksteal", "tests/unit", "tests/preview"),
        *session.posargs,
    )


@nox.session(python=False)
def ends(session: nox.Session) -> None:
    """Run the lowest on the oldest Python that is here, and the newest on the newest."""
    here = [python for python in PYTHONS if get_interpreter(python)]
    for python in (PYTHONS[0], PYTHONS[-1]):
        if python not in here:
            session.warn(f"Python {python} is not on this computer; {here} are")
    session.notify(f"unit-{here[0]}(lowest)")
    session.notify(f"unit-{here[-1]}(newest)")
