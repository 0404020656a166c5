"""make demo: start a virtual cluster, deploy it as a user would, and show what was seen on it.

The table at the end comes from plain commands over ssh and on the servers
(`tests.cluster.seen`), not from the package itself.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time

from tests.cluster import seen
from tests.cluster.virtual_cluster import CHECKOUT, LAB, Cluster


def main() -> int:
    """Run the demo; 0 if everything that was looked at is as it should be."""
    begin = time.monotonic()
    cluster = Cluster("demo")
    say("A virtual cluster: storage nodes and fresh workers in network namespaces")
    print(f"$ {LAB.relative_to(CHECKOUT)} --name {cluster.name} up", flush=True)
    cluster.up()
    say("What the deploy would do")
    show(cluster, "deploy.py", "--dry")
    say("The deploy, through the one reboot")
    status = show(cluster, "deploy.py", "-y")
    say("Once more: nothing is left to change")
    status |= show(cluster, "deploy.py", "-y")
    say("The package's own look")
    status |= show(cluster, "chaos_engine.deploys.verify", "-y")
    say("What was seen on each node and on the servers, with plain commands")
    failures = table(cluster)
    print(f"\n{time.monotonic() - begin:.0f} s in all. The cluster is still up:")
    print("  tests/lab/lab --name demo run -- ssh pi1")
    print("  tests/lab/lab --name demo run -- pyinfra inventory.py deploy.py --dry --limit pi1")
    print("  tests/lab/lab --name demo down")
    return 1 if failures or status else 0


def say(text: str) -> None:
    """A headline."""
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def show(cluster: Cluster, *arguments: str) -> int:
    """Run pyinfra in the cluster, with the command and its output shown; its exit status."""
    run = ("--name", cluster.name, "run", "--", "pyinfra", "inventory.py")
    words = (*run, *arguments, *cluster.limit)
    print(f"$ {shlex.join((str(LAB.relative_to(CHECKOUT)), *words))}", flush=True)
    done = subprocess.run([str(LAB), *words], stdin=subprocess.DEVNULL, check=False)
    return done.returncode


def table(cluster: Cluster) -> int:
    """Print the table, a line a concern and a column a node, and what was seen; the failures."""
    failures = []
    concerns = seen.CONCERNS | seen.PROXY_CONCERNS
    width = max(map(len, concerns))
    print(f"{'':{width}}  {'  '.join(cluster.workers)}")
    for concern, look in concerns.items():
        marks, said = [], ""
        for node in cluster.workers:
            if concern in seen.PROXY_CONCERNS and node != seen.PROXY:
                marks.append("")
                continue
            try:
                said = look(cluster, node, cluster.host(node)) or said
                marks.append("ok")
            except Exception as error:  # whatever a broken node makes of a look is a finding
                marks.append("NO")
                failures.append(f"{node}, {concern}: {error!r}")
        cells = "  ".join(
            f"{mark:{len(node)}}" for node, mark in zip(cluster.workers, marks, strict=True)
        )
        print(f"{concern:{width}}  {cells}  {said}", flush=True)
    for failure in failures:
        print(failure)
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
