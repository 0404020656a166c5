"""Run the script of a transaction on this computer, in a temporary folder."""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from chaos_engine.facts.manifest import DIRECTORY
from chaos_engine.facts.systemd import RECORDS
from chaos_engine.operations.engine.shell import PRELUDE
from chaos_engine.operations.files import File, Plan
from chaos_engine.operations.files.script import compose, payload

PLACES = "".join(re.findall(r"^ +(?:[A-Z_]+=\S+ ?)+\n", PRELUDE, re.MULTILINE))
"""What the prelude says of the places of this package's files, for functions that need no more."""

OWNER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name


def forbid_mounts(folder: Path) -> None:
    """Write stand-ins for unshare and mount into a folder that is the first one of a script's PATH.

    With them a script needs no root, and has its tools see the folders of this computer.
    """
    for name, does in (("unshare", 'shift; exec "$@"'), ("mount", "exit 1")):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)


def change_of(file: Path) -> tuple[int, int]:
    """Return the number of a file's inode, and when the inode changed last, in ns since 1970.

    Both stay the same when the file is read; a whole `stat` has the time of the last read.
    """
    found = file.stat()
    return found.st_ino, found.st_ctime_ns


@dataclass
class Sandbox:
    """A folder that stands for a node's file system. Calls of systemctl go to a log."""

    root: Path

    def file(self, name: str, content: str | bytes, **how: object) -> File:
        """Return a file in the folder, owned by the user who runs the tests."""
        how = {"owner": OWNER, "group": GROUP, **how}
        return File(str(self.root / name), content, **how)  # type: ignore[arg-type]

    def path(self, name: str) -> Path:
        """Return a path in the folder."""
        return self.root / name

    @property
    def calls(self) -> list[str]:
        """Return the arguments of each call of systemctl that changes something, in order."""
        log = self.root / "systemctl.log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def manifest(self) -> list[str]:
        """Return the lines of the manifest, without the concern's name."""
        path = self.root / "var/manifest"
        lines = path.read_text().splitlines() if path.exists() else []
        return [" ".join(line.split("\t")[1:4]).replace(str(self.root), "") for line in lines]

    @property
    def leftovers(self) -> list[str]:
        """Return staged files and staging folders that are still there."""
        return sorted(
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if ".chaos" in path.name or path.name.startswith("stage.")
        )

    def localise(self, text: str) -> str:
        """Return a script with the package's own folders moved into the folder."""
        text = text.replace(RECORDS, f"{self.root}/run").replace(DIRECTORY, f"{self.root}/var")
        # The tests' programs have to be found first
        return text.replace("export PATH=", "export PATH=${PATH:+$PATH:}")

    def apply(
        self, todo: Plan, check: str = "", apply: str = "", before: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a plan's script. `before` has shell functions that stand in for programs."""
        return self.run(compose(todo, check, apply), todo.write, before)

    def run(
        self, text: str, write: Iterable[File] = (), before: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a script with files on its standard input."""
        # Questions about units are not logged. No unit is enabled
        systemctl = (
            "systemctl() { case $1 in show) ;; is-enabled) false ;; "
            f'*) echo "$*" >> {self.root}/systemctl.log ;; esac; }}\n'
        )
        sync = "sync() { :; }\n"  # the real one waits for the disk
        return subprocess.run(
            ["sh", "-c", systemctl + sync + before + "\n" + self.localise(PLACES + text)],
            input=payload(tuple(write)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
