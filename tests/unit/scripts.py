"""Run a transaction's script on this computer, below a temporary directory."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from chaos_engine.facts.manifest import DIRECTORY
from chaos_engine.facts.systemd import RECORDS
from chaos_engine.operations.files import File, Plan
from chaos_engine.operations.files.script import compose, payload

OWNER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name


@dataclass
class Sandbox:
    """A directory that stands for a node's file system; units are a log of systemctl's calls."""

    root: Path

    def file(self, name: str, content: str | bytes, **how: object) -> File:
        """A file below the directory, of the user who runs the tests."""
        how = {"owner": OWNER, "group": GROUP, **how}
        return File(str(self.root / name), content, **how)  # type: ignore[arg-type]

    def path(self, name: str) -> Path:
        """The path below the directory."""
        return self.root / name

    @property
    def calls(self) -> list[str]:
        """What systemctl was asked for, in order."""
        log = self.root / "systemctl.log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def manifest(self) -> list[str]:
        """What was noted, without the concern's name."""
        path = self.root / "var/manifest"
        lines = path.read_text().splitlines() if path.exists() else []
        return [" ".join(line.split("\t")[1:4]).replace(str(self.root), "") for line in lines]

    @property
    def leftovers(self) -> list[str]:
        """Staged files and staging directories that are still there."""
        return sorted(
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if ".chaos" in path.name or path.name.startswith("stage.")
        )

    def localise(self, text: str) -> str:
        """The script with the package's own directories moved below the directory."""
        text = text.replace(RECORDS, f"{self.root}/run").replace(DIRECTORY, f"{self.root}/var")
        # programs of the tests are found first
        return text.replace("export PATH=", "export PATH=${PATH:+$PATH:}")

    def apply(
        self, todo: Plan, check: str = "", apply: str = "", before: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run the plan's script; `before` are shell functions that stand in for programs."""
        return self.run(compose(todo, check, apply), todo.write, before)

    def run(
        self, text: str, write: Iterable[File] = (), before: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a script with files on its standard input."""
        # what it is asked about units is no act; none is enabled
        systemctl = (
            "systemctl() { case $1 in show) ;; is-enabled) false ;; "
            f'*) echo "$*" >> {self.root}/systemctl.log ;; esac; }}\n'
        )
        sync = "sync() { :; }\n"  # it waits for the disk
        return subprocess.run(
            ["sh", "-c", systemctl + sync + before + "\n" + self.localise(text)],
            input=payload(write),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
