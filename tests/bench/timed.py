"""Run a command on the cluster's LAN and say what it took.

lab run -- python -m tests.bench.timed [--hosts FILE] FOLDER -- COMMAND...

+ --hosts: a file that stands in place of /etc/hosts, which leads to nodes by another way
+ FOLDER: gets what COMMAND prints, `out` and `err`, and `result`, JSON: its status, seconds, CPU
  seconds and peak memory, of all processes that it has waited for too, and for how many seconds
  the processors of the machine were at work meanwhile, for whomever

What it prints goes to files, for a connection that ssh keeps open would keep a pipe open too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from pathlib import Path

from tests.lab import linux


def run(command: list[str], folder: Path) -> dict[str, float]:
    """Run a command to its end; what it took."""
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        begin, busy = time.monotonic(), busy_seconds()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, used = os.wait4(process.pid, 0)
        seconds, busy = time.monotonic() - begin, busy_seconds() - busy
    return {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "machine_seconds": busy,
        # of the largest process, in KiB on Linux
        "memory_mib": used.ru_maxrss / 1024,
    }


def busy_seconds() -> float:
    """For how long the machine's processors have been at work since its start, all together."""
    user, nice, system, _, _, irq, softirq = Path("/proc/stat").read_text().split()[1:8]
    return sum(map(int, (user, nice, system, irq, softirq))) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Read the command line, run, write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if options.hosts:
        # The mounts are this process's own: `lab run` has seen to that
        linux.bind(options.hosts, Path("/etc/hosts"))
    result = run(options.command, options.folder)
    (options.folder / "result").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
