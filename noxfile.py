"""Run the unit tests on each version of Python, with the lowest and the newest dependencies.

``make matrix`` runs all combinations. ``make test`` runs two of them: the lowest dependencies on
the oldest Python, and the newest dependencies on the newest Python. nox skips a Python that is not
installed on this computer, and prints its version.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox
from python_discovery import get_interpreter

nox.needs_version = ">=2026.10"

# The versions in the package's classifiers
PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))

nox.options.sessions = ["unit"]
# By default nox stops at a missing Python if the variable CI is set
nox.options.error_on_missing_interpreters = False

# The folder of pyenv in PATH has only the chosen versions, so all installed versions are added
_PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.*/bin")
_UNPACKED = Path.cwd().glob(".python/3.*/usr/bin")  # see tests/debian_python.py
_PATH = [*map(str, _PYENV), os.environ["PATH"], *map(str, _UNPACKED)]
os.environ["PATH"] = os.pathsep.join(_PATH)


@nox.session(python=PYTHONS, venv_backend="uv", download_python="never")
@nox.parametrize(
    "resolution", [nox.param("lowest-direct", id="lowest"), nox.param("highest", id="newest")]
)
def unit(session: nox.Session, resolution: str) -> None:
    """Run the unit tests on the package as users install it: from a wheel."""
    built = Path(session.virtualenv.location, "dist")
    # uv builds the wheel from the sdist, so files of earlier builds do not get into the wheel
    session.run_install(
        *("uv", "build", "--quiet", "--resolution", resolution, "--out-dir", str(built))
    )
    # With --no-build nothing is compiled. uv chooses only versions of the dependencies that have a
    # wheel for this Python, even for "lowest"
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
    """Run the unit tests twice: on the oldest and on the newest Python of this computer.

    The oldest Python gets the lowest dependencies, the newest Python the newest dependencies.
    """
    here = [python for python in PYTHONS if get_interpreter(python)]
    for python in (PYTHONS[0], PYTHONS[-1]):
        if python not in here:
            session.warn(f"Python {python} is not installed on this computer; found: {here}")
    session.notify(f"unit-{here[0]}(lowest)")
    session.notify(f"unit-{here[-1]}(newest)")
