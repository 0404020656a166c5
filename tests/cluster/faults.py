"""Give nodes of a virtual cluster faults that last as long as a context, and check runs under them.

Under each fault the good nodes finish. The exit code is not 0, and a line says what is wrong with
the bad node. There is no traceback, nothing is left half done, and one run without the fault fixes
the node.
"""

from __future__ import annotations

import base64
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cluster.node_state import LEFTOVERS
from tests.cluster.virtual_cluster import Cluster, Result, limits, wait_for
from tests.lab import linux, network, services

Fault = AbstractContextManager[None]

NOBODY = "192.168.1.9"
"""An address of the LAN that no machine has."""

GOOD_HOSTS = "grep -q ' etcd1' /etc/hosts"


def spoil(cluster: Cluster, *nodes: str) -> None:
    """Remove a name from ``/etc/hosts`` of nodes, which the next run fixes first."""
    for node in nodes:
        cluster.exec(node, "sed -i /etcd1/d /etc/hosts")


def deploy(cluster: Cluster, *nodes: str, data: tuple[str, ...] = ()) -> Result:
    """Run a deploy over some nodes, and return its result. Fail if it shows a traceback."""
    settings = [word for setting in data for word in ("--data", setting)]
    run = cluster.pyinfra("deploy.py", "-y", *settings, *limits(nodes), ok=False, timeout=900)
    assert "Traceback" not in run.text, run.text
    return run


def one_fails(
    cluster: Cluster, bad: str, good: str, *expected: str, data: tuple[str, ...] = ()
) -> Result:
    """Run a deploy over a bad node and a good one: the bad one fails, the good one finishes.

    + expected: texts that the run has to say about the bad node
    """
    spoil(cluster, good)
    run = deploy(cluster, bad, good, data=data)
    assert run.status, run.text
    cluster.exec(good, GOOD_HOSTS)
    assert f"[{good}]  Error" not in run.text, run.text
    for text in expected:
        assert text in lines_of(run, bad), run.text
    return run


def lines_of(run: Result, node: str) -> str:
    """Return the lines of a run about one node."""
    return "\n".join(line for line in run.text.splitlines() if f"[{node}]" in line)


def one_run_fixes(cluster: Cluster, *nodes: str) -> None:
    """Check that one run brings the nodes to what is wanted, and that nothing is left to do."""
    cluster.changed("deploy.py", *limits(nodes))
    assert cluster.announced("deploy.py", *limits(nodes)) == {}


_UNFINISHED = f"""\
{LEFTOVERS}
find /var/cache/apt/archives/partial -mindepth 1
for left in /tmp/[!s]*; do test ! -e "$left" || echo "$left"; done
dpkg --audit
"""


def unfinished(cluster: Cluster, node: str) -> str:
    """List what transactions, apt and dpkg have begun on a node and not finished or removed."""
    return cluster.exec(node, _UNFINISHED)


def originals(cluster: Cluster, node: str) -> set[str]:
    """Return the originals that are kept on a node, each with its checksum."""
    kept = "/var/lib/chaos-engine/originals /boot/firmware/*.bak"
    return set(cluster.exec(node, f"find {kept} -type f -exec sha256sum {{}} +").splitlines())


@pytest.fixture
def bad(deployed: Cluster) -> str:
    """Return the node that gets the fault. Its disk is of limited size."""
    return deployed.carded


@pytest.fixture
def good(deployed: Cluster, bad: str) -> str:
    """Return a node without a fault."""
    return next(node for node in deployed.workers if node != bad)


@pytest.fixture
def nothing_half_done(deployed: Cluster, bad: str, good: str) -> Iterator[None]:
    """Check that a test leaves nothing unfinished on the nodes, and all originals as they were."""
    before = {node: originals(deployed, node) for node in (bad, good)}
    yield
    for node in (bad, good):
        left = unfinished(deployed, node)
        assert not left, f"{node}: {left}"
        assert before[node] <= originals(deployed, node), f"{node}: an original is another one now"


@contextmanager
def service_down(cluster: Cluster, *names: str) -> Iterator[None]:
    """Stop some of the gateway's services: dns, web (the archives), registry."""
    for name in names:
        services.stop(cluster.name, name)
    try:
        yield
    finally:
        cluster.lab("up")


@contextmanager
def service_mute(cluster: Cluster, *names: str) -> Iterator[None]:
    """Replace services by ones that take every question and answer none."""
    ports = {"dns": [("udp", 53)], "web": [("tcp", 80), ("tcp", 443)]}
    with service_down(cluster, *names), ExitStack() as sockets:
        with linux.inside_network(network.namespace(cluster.name)):
            for kind, port in [each for name in names for each in ports[name]]:
                mute = sockets.enter_context(
                    socket.socket(
                        socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
                    )
                )
                mute.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                mute.bind((cluster.status["gateway"], port))
                if kind == "tcp":
                    mute.listen(128)
        yield


@contextmanager
def between(cluster: Cluster, node: str, begin: str, end: str) -> Iterator[None]:
    """Run a shell command on a node before the body, and another one after it."""
    cluster.exec(node, begin)
    try:
        yield
    finally:
        cluster.exec(node, end)


def name_of_nobody(cluster: Cluster, node: str, name: str) -> Fault:
    """Give a public name an address that no machine has, on one node."""
    return between(
        cluster, node, f"echo {NOBODY} {name} >> /etc/hosts", f"sed -i '/ {name}$/d' /etc/hosts"
    )


_HOLD = """\
import fcntl, sys
files = [open(name, "a") for name in sys.argv[1:]]
for file in files:
    fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def apt_locked(cluster: Cluster, node: str) -> Iterator[subprocess.Popen[str]]:
    """Hold dpkg's and apt's locks by another program, as unattended upgrades do.

    Yields that program. It releases the locks when its standard input is closed.
    """
    locks = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock")
    with cluster.start("exec", node, "--", "python3", "-c", _HOLD, *locks) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            holder.stdin.close()


def disk_full(cluster: Cluster, node: str, folder: str, left: int = 0) -> Fault:
    """Fill the file system of FOLDER, but for LEFT KiB."""
    return between(
        cluster,
        node,
        f"cd {folder}; sync; free=$(df -kP . | awk 'NR == 2 {{ print $4 }}'); "
        f"fallocate -l $((free - {left}))K .filled; "
        + ("" if left else "cat /dev/zero > .filled-more 2>/dev/null; ")
        + f"df -kP . | awk 'NR == 2 && $4 > {left} {{ exit 1 }}'",
        f"cd {folder}; rm -f .filled .filled-more",
    )


def read_only(cluster: Cluster, node: str, folder: str) -> Fault:
    """Mount the file system of a mount point read-only, as Linux does after errors."""
    remount = f"$(findmnt -no SOURCE {folder}) {folder}"
    return between(
        cluster, node, f"mount -o remount,ro {remount}", f"mount -o remount,rw {remount}"
    )


def mounted_over(cluster: Cluster, node: str, folder: str, options: str) -> Fault:
    """Mount a tmpfs with these options on a folder. Fill it if the options limit its size."""
    fill = f"; cat /dev/zero > {folder}/filled 2>/dev/null || true" if "size=" in options else ""
    mount = f"set -e; mount -t tmpfs -o {options} tmpfs {folder}{fill}"
    return between(cluster, node, mount, f"umount -l {folder}")


@contextmanager
def cable_pulled(cluster: Cluster, node: str) -> Iterator[None]:
    """Cut the network of one node: connections to it time out."""
    lan, port = network.namespace(cluster.name).name, f"to-{node}"
    linux.run("ip", "-n", lan, "link", "set", port, "down")
    try:
        yield
    finally:
        linux.run("ip", "-n", lan, "link", "set", port, "up")


@contextmanager
def clock_off(cluster: Cluster, node: str, by: str) -> Iterator[None]:
    """Give one node a wrong clock.

    + by: the difference, as libfaketime writes it: "-400d"

    All containers share the kernel's clock. So libfaketime stands in for a wrong one: every program
    that is started meanwhile sees it, but for systemd and programs that do not link libc.
    """
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    there = "/usr/local/lib/faketime-stand-in.so"
    with cluster.start("exec", node, "--", "sh", "-c", f"base64 -d > {there}") as copy:
        copy.communicate(base64.encodebytes(library.read_bytes()).decode())
    assert not copy.returncode
    with between(
        cluster,
        node,
        f"echo {by} > /etc/faketimerc; echo {there} > /etc/ld.so.preload",
        f"rm /etc/ld.so.preload /etc/faketimerc {there}",
    ):
        yield


def sudo_asks(cluster: Cluster, node: str) -> Fault:
    """Make sudo on a node ask for a password."""
    rule, kept = "/etc/sudoers.d/90-cloud-init-users", "/root/sudoers.kept"
    return between(
        cluster,
        node,
        f"cp -p {rule} {kept}; sed -i s/NOPASSWD:// {rule}",
        f"cp -p {kept} {rule}; rm {kept}",
    )


@contextmanager
def running(cluster: Cluster, *nodes: str) -> Iterator[subprocess.Popen[str]]:
    """Run a deploy over some nodes in the background. Read its output from its standard output."""
    command = ("pyinfra", "inventory.py", "deploy.py", "-y", *limits(nodes))
    with cluster.start("run", "--", *command) as run:
        assert run.stdin is not None
        run.stdin.close()
        try:
            yield run
        finally:
            if run.poll() is None:
                run.kill()


@dataclass(frozen=True)
class Waiting:
    """A run that waits for a lock in the middle of an operation on one node."""

    run: subprocess.Popen[str]
    holder: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def line(self, text: str, seconds: float) -> str:
        """Return the next line of the run with this text. Fail if it takes longer than SECONDS."""
        assert self.run.stdout is not None
        watch = threading.Timer(seconds, self.run.kill)
        watch.start()
        for line in self.run.stdout:
            self.lines.append(line)
            if text in line:
                watch.cancel()
                return line.strip()
        raise AssertionError(f"no line has {text!r} within {seconds:.0f} s:\n{''.join(self.lines)}")

    def release(self) -> None:
        """Let the operation go on."""
        assert self.holder.stdin is not None
        self.holder.stdin.close()
        self.holder.wait(20)

    def ended(self, seconds: float) -> Result:
        """Return the run's result. Fail if it takes longer than SECONDS."""
        assert self.run.stdout is not None
        watch = threading.Timer(seconds, self.run.kill)
        watch.start()
        out = "".join([*self.lines, self.run.stdout.read()])
        watch.cancel()
        assert self.run.wait() >= 0, f"it did not end within {seconds:.0f} s:\n{out}"
        assert "Traceback" not in out, out
        return Result(("pyinfra",), self.run.returncode, out, "")


@contextmanager
def waiting_for_apt(cluster: Cluster, bad: str, good: str) -> Iterator[Waiting]:
    """Start a run that waits in the middle of an operation on the bad node.

    A later operation has something to do on that node too.
    """
    cluster.exec(bad, "apt-mark unhold kubelet; chmod 600 /etc/kubernetes/client.crt")
    spoil(cluster, good)
    with apt_locked(cluster, bad) as holder, running(cluster, bad, good) as run:
        wait_for(
            "the operation that waits",
            lambda: cluster.exec(bad, "pgrep -f '[d]pkg --configure' || true"),
            120,
        )
        yield Waiting(run, holder)
