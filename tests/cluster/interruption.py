"""Interrupt runs at points that have names.

A node can be stopped right before it calls a program. For that a stand-in of the same name comes
first in the node's PATH. It waits at the chosen call, then runs the real program.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

from tests.cluster.operations import REBOOT
from tests.cluster.virtual_cluster import CHECKOUT, LAB, Cluster, wait_for
from tests.lab import nodes

_STOPS = "run/stops"
_APT = "etc/apt/apt.conf.d/99stops"
_LOCK = "run/chaos-engine/lock"

_STAND_IN = """\
#!/bin/sh
# Stand-in for {real}: waits where the test has it stop, then is that program
for stop in /{stops}/*; do
  [ "$(/usr/bin/cat "$stop/program" 2>/dev/null)" = {name} ] || continue
  printf '%s\\n' "$*" | /usr/bin/grep -qEf "$stop/words" || continue
  /usr/bin/rmdir "$stop/armed" 2>/dev/null || continue
  echo $$ >"$stop/pid"; /usr/bin/mv "$stop/pid" "$stop/reached"
  until [ -e "$stop/go" ]; do /usr/bin/sleep 0.05; done
done
exec {real} "$@"
"""


@dataclass(frozen=True)
class Killed:
    """The run is killed at a moment (tests/cluster/killed.py). Its remote command goes on."""

    operation: str
    moment: Literal["before", "sent", "half", "after"]


@dataclass(frozen=True)
class Stopped:
    """The run is killed when its remote command is about to call a program.

    + words: regular expression of the program's arguments
    + fate: what happens to the remote command. *goes on*: it continues while the next run begins.
      *HUP*, *KILL*: its session gets that signal. *stays*: it stops until the next run waits for it
    """

    program: str
    words: str
    fate: Literal["goes on", "HUP", "KILL", "stays"]


@dataclass(frozen=True)
class Met:
    """The run is killed as soon as a shell command succeeds on the node.

    + fate: what happens to the remote command, as for `Stopped`
    """

    condition: str
    fate: Literal["goes on", "KILL"]


@dataclass(frozen=True)
class PowerCut:
    """The node loses its power when a program is about to be called."""

    program: str
    words: str


@dataclass(frozen=True)
class PowerCutInReboot:
    """The node loses its power while it reboots: going *down*, or coming *up*."""

    moment: Literal["down", "up"]


Point = Killed | Stopped | Met | PowerCut | PowerCutInReboot


_END_SESSIONS = (
    "systemctl list-units --plain --no-legend 'session-*.scope' | "
    "while read -r scope _; do systemctl kill --signal=KILL $scope; done"
)
"""Kills all processes of all ssh sessions of a node. Tests have no other ones than pyinfra's."""

# The node has got the command to reboot before the run is killed
_REBOOTING = (
    Killed(REBOOT, "sent"),
    Killed(REBOOT, "after"),
    Stopped("systemctl", "^reboot", "goes on"),
)


class Victim:
    """A node whose deploy is interrupted again and again.

    + run: pyinfra's arguments after the inventory, by default a deploy of this node alone
    """

    def __init__(self, cluster: Cluster, name: str, run: Iterable[str] = ()) -> None:
        self.cluster, self.name = cluster, name
        self.run = (*run,) or ("deploy.py", "--limit", name)
        self._numbers = count()
        self._held: Path | None = None

    @property
    def root(self) -> Path:
        """Return the running node's root folder, as the node sees it."""
        leader = nodes.leader(self.cluster.name, self.name)
        return Path(f"/proc/{leader}/root")

    def interrupt(self, point: Point) -> None:
        """Begin a deploy, and interrupt it at a point. Wait for a reboot that has begun by then.

        Fails if the deploy ends before the point.
        """
        boot = self.cluster.boot_id(self.name)
        self._interrupt(point)
        if point in _REBOOTING:
            wait_for("another boot", partial(self._has_rebooted, boot), 90)

    def _interrupt(self, point: Point) -> None:
        if isinstance(point, Killed):
            with self._run(point.operation, point.moment) as run:
                output, _ = run.communicate(timeout=900)
                assert run.returncode == -9, f"{point} was not reached:\n{output}"
        elif isinstance(point, PowerCutInReboot):
            self._cut_in_reboot(point.moment)
        elif isinstance(point, Met):
            with self._run() as run:
                condition = f"({point.condition}) >/dev/null 2>&1 && echo yes"
                self._reach(run, point, lambda: self.cluster.exec(self.name, condition, ok=False))
                run.kill()
                if point.fate == "KILL":
                    self.cluster.exec(self.name, _END_SESSIONS)
        else:
            with self._stop(point.program, point.words) as stop, self._run() as run:
                self._reach(run, point, (stop / "reached").exists)
                if isinstance(point, PowerCut):
                    nodes.cut(self.cluster.name, self.name)
                    run.kill()
                    self.cluster.power(self.name, "on")
                    return
                run.kill()
                if point.fate == "stays":
                    self._held = stop
                    return
                if point.fate != "goes on":
                    self._end_session((stop / "reached").read_text().strip(), point.fate)
                (stop / "go").touch()

    def deploy(self) -> str:
        """Run a deploy to its end, and return its output."""
        with self._run() as run:
            output, _ = run.communicate(timeout=900)
        assert run.returncode == 0, output
        return output

    @contextmanager
    def _run(self, *moment: str) -> Iterator[subprocess.Popen[str]]:
        """Begin a deploy of this node. Kill it at the end if it still runs."""
        killed = ["-m", "tests.cluster.killed", self.name, *moment]
        run = subprocess.Popen(
            [LAB, "--name", self.cluster.name, "run", "--", sys.executable,
             *(killed if moment else ["-m", "pyinfra"]), self.cluster.inventory, "-y", *self.run],
            cwd=CHECKOUT, env=self.cluster.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            if self._held:
                self._reach(run, "the wait for the earlier run", self._is_awaited)
                (self._held / "go").touch()
                self._held = None
            yield run
        finally:
            run.kill()
            if run.stdout and not run.stdout.closed:
                run.communicate()

    @contextmanager
    def _stop(self, program: str, words: str) -> Iterator[Path]:
        """Make the node stop where it calls a program. Yield the folder where it reports that."""
        number = next(self._numbers)
        stop = self.root / _STOPS / str(number)
        shutil.rmtree(stop, ignore_errors=True)  # another victim may have left it on the same node
        (stop / "armed").mkdir(parents=True)
        (stop / "words").write_text(words + "\n")
        (stop / "program").write_text(program)
        real = next(
            f"/{folder}/{program}"
            for folder in ("usr/sbin", "usr/bin")
            if (self.root / folder / program).exists()
        )
        stand_in = self.root / "usr/local/sbin" / program
        draft = stand_in.with_name(f".{program}")
        draft.write_text(_STAND_IN.format(name=program, real=real, stops=_STOPS))
        draft.chmod(0o755)
        draft.rename(stand_in)
        # apt sets the PATH of dpkg, and so of the packages' scripts
        (self.root / _APT).write_text(
            'DPkg::Path "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";\n'
        )
        try:
            yield stop
        finally:
            for file in (self.root / "usr/local/sbin" / program, self.root / _APT):
                file.unlink(missing_ok=True)

    def _reach(
        self, run: subprocess.Popen[str], what: object, reached: Callable[[], object]
    ) -> None:
        wait_for(str(what), lambda: reached() or run.poll() is not None, 600, pause=0.02)
        if run.poll() is not None and not reached():
            raise AssertionError(f"{what} was not reached:\n{run.communicate()[0]}")

    def _is_awaited(self) -> bool:
        """Tell whether a process of the node waits for this package's lock."""
        try:
            lock = (self.root / _LOCK).stat()
        except OSError:
            return False
        inode = f":{lock.st_ino}"
        lines = Path("/proc/locks").read_text().splitlines()
        return any("->" in line and line.split()[6].endswith(inode) for line in lines)

    def _has_rebooted(self, before: str) -> bool:
        """Tell whether the node has booted again and takes logins."""
        status = json.loads(self.cluster.lab("status", "--json").out)
        node = next(node for node in status["nodes"] if node["name"] == self.name)
        return node["boot_id"] not in (None, before) and bool(node["ssh"])

    def _end_session(self, process: str, signal: str) -> None:
        """Send a signal to all processes in the ssh session of a process of the node."""
        self.cluster.exec(
            self.name,
            f"scope=$(grep -om1 'session-[^/]*[.]scope' /proc/{process}/cgroup) && "
            f"systemctl kill --signal={signal} $scope",
        )

    def _cut_in_reboot(self, moment: str) -> None:
        before = nodes.leader(self.cluster.name, self.name)

        def reached() -> bool:
            now = nodes.leader(self.cluster.name, self.name)
            return now != before and (moment == "down" or now is not None)

        with self._run() as run:
            self._reach(run, f"the reboot ({moment})", reached)
            nodes.cut(self.cluster.name, self.name)
            run.kill()
        self.cluster.power(self.name, "on")
