"""Run a command on the cluster's LAN, and report what it took.

lab run -- python -m tests.bench.timed [--hosts FILE] FOLDER -- COMMAND...

+ --hosts: a file in place of /etc/hosts, which leads to nodes by another way
+ FOLDER: gets the files `out` and `err` with the output, and `result`. That is JSON with status,
  seconds, CPU seconds and peak memory of COMMAND and of all processes that it waited for, and the
  seconds that the processors of the machine worked meanwhile, also for others

The output goes to files: a connection that ssh keeps open would keep a pipe open too.
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
    """Run a command to its end. Return what it took."""
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
        # Of the largest process. Linux has it in KiB
        "memory_mib": used.ru_maxrss / 1024,
    }


def busy_seconds() -> float:
    """Return how many seconds all processors together have worked since the machine's start."""
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
        # Only this process sees the mount, as `lab run` gives it a mount namespace
        linux.bind(options.hosts, Path("/etc/hosts"))
    result = run(options.command, options.folder)
    (options.folder / "result").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
