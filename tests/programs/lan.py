"""A LAN of network namespaces with several proxies, each with the start script and a container.

Docker, keepalived and HAProxy have stand-ins. The links, the addresses and the kernel are real.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from chaos_engine.deploys.haproxy import drain_address, drain_mac
from chaos_engine.templates import render

VIP = "192.168.77.60"
PORT = 6443
MARKER = "127.60.0.60"

_HAPROXY = """
import os, socket, sys, threading
name, path, vip = sys.argv[1:]
def serve(family, address, answer):
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(address)
    listening.listen(100)
    def talk(connection):
        with connection:
            for line in connection.makefile():
                connection.sendall(answer(line).encode())
                if family == socket.AF_UNIX:
                    return
    def accept():
        while True:
            connection = listening.accept()[0]
            threading.Thread(target=talk, args=(connection,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
if os.path.exists(path):
    os.unlink(path)
serve(socket.AF_UNIX, path, lambda line: "Name: HAProxy\\n")
serve(socket.AF_INET, (vip, 6443), lambda line: f"{name}\\n")
print("ready", flush=True)
sys.stdin.read()
"""

_CLIENT = """
import socket, sys, time
vip, seconds, patience = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
def ask(connection):
    connection.sendall(b"x\\n")
    answer = connection.recv(100).decode().strip()
    if not answer:
        raise OSError("closed")
    return answer
def connect():
    return socket.create_connection((vip, 6443), patience)
old = connect() if len(sys.argv) > 4 else None
end = time.monotonic() + seconds
print("began", flush=True)
while True:
    began = time.monotonic()
    try:
        with connect() as connection:
            new = ask(connection)
    except OSError as error:
        new = f"error: {error}"
    try:
        kept = ask(old) if old else "-"
    except OSError as error:
        kept = f"error: {error}"
    print(f"{new},{kept},{time.monotonic() - began:.3f}", flush=True)
    if time.monotonic() >= end:
        break
    time.sleep(0.01)
"""


def run(*words: str, namespace: str = "", check: bool = True) -> str:
    """Run a program, in a network namespace if one is given. Return what it printed."""
    inside = ("nsenter", f"--net=/run/netns/{namespace}") if namespace else ()
    done = subprocess.run(
        [*inside, *words], capture_output=True, text=True, timeout=60, check=False
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def wait(until: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something is the case."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@dataclass
class Proxy:
    """A node that is a proxy: a namespace with the start script, and one for its container."""

    name: str
    root: Path
    node: str
    own: IPv4Address
    hairpin: IPv4Address
    others: list[IPv4Address]
    said: str = ""
    container: subprocess.Popen[str] | None = field(default=None)

    def write_script(self) -> None:
        """Write the start script and stand-ins for docker and systemctl."""
        for folder in ("bin", "own", "run/socket"):
            (self.root / folder).mkdir(parents=True)
        self.tell(self.others)
        self.program("docker", 'case "$*" in *State.Pid*) cat "${0%/*}/../pid" ;; esac')
        self.program("systemctl", "exit 3")
        script = render(
            "haproxy_start.sh.j2",
            path=f"{self.root}/bin:{os.environ['PATH']}",
            container="lb-haproxy",
            image="haproxy:3.0",
            network="lb-network",
            vip=VIP,
            port=PORT,
            mac="02:42:ac:8f:4c:ff",
            parent="eth0",
            link="lb-hairpin",
            hairpin=self.hairpin,
            log=f"{self.root}/log",
            run_directory=f"{self.root}/log/run",
            own=f"{self.root}/own",
            checksum="",
            confined="",
            run=f"{self.root}/run",
            conf="/proc/sys/net/ipv4/conf",
            several=True,
            namespace=f"{self.node}c",
            drain_mac=drain_mac(self.hairpin),
            drain_address=drain_address(self.hairpin),
            subnet="192.168.77.0/24",
            prefix=24,
            gateway="192.168.77.1",
            marker=MARKER,
            vrrp="haproxy_vrrp.service",
            tries=20,
            node=self.own,
            index_seen=f"{self.root}/run/ifindex",
        )
        (self.root / "haproxy_start.sh").write_text(script)
        (self.root / "haproxy_start.sh").chmod(0o755)

    def tell(self, others: list[IPv4Address]) -> None:
        """Tell the proxy of the others, by their hairpin addresses, as a deploy does."""
        line = " ".join(f"{drain_address(one)}={drain_mac(one)}" for one in others)
        (self.root / "own/peers").write_text(f"{line}\n")

    def program(self, name: str, text: str) -> None:
        """Write a program that the script finds first."""
        (self.root / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.root / "bin" / name).chmod(0o755)

    @property
    def path(self) -> str:
        """Return the path of the script."""
        return str(self.root / "haproxy_start.sh")

    def call(self, *words: str) -> int:
        """Run the script on the node. Return its status."""
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.node}", self.path, *words],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        self.said += done.stderr
        return done.returncode

    def start(self) -> None:
        """Start the container, as its unit does."""
        assert self.call("ended") == 0
        socket = f"{self.root}/run/socket/admin.sock"
        self.container = subprocess.Popen(
            ["unshare", "--net", "sh", "-c",
             'ip link set lo up; echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind; '
             # A container has it from the node, where Docker sets it
             'echo 1 >/proc/sys/net/ipv4/ip_forward; exec "$@"', "sh",
             sys.executable, "-c", _HAPROXY, self.name, socket, VIP],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.container.stdout
        assert self.container.stdout.readline() == "ready\n"
        (self.root / "pid").write_text(f"{self.container.pid}\n")
        (self.root / "run/id").write_text("aa")
        assert self.call("links") == 0, self.said

    def end(self) -> None:
        """Have the container end, as a crash does."""
        if self.container:
            self.container.kill()
            self.container.communicate()
            self.container = None

    def elect(self) -> None:
        """Have keepalived choose this node."""
        run("ip", "address", "replace", f"{MARKER}/32", "dev", "lo", namespace=self.node)
        assert self.call("follow", "INSTANCE", "api", "MASTER", "100") == 0, self.said

    def dismiss(self) -> None:
        """Have keepalived choose another node."""
        run("ip", "address", "delete", f"{MARKER}/32", "dev", "lo", namespace=self.node)
        assert self.call("follow", "INSTANCE", "api", "BACKUP", "100") == 0, self.said

    def inside(self, *words: str) -> str:
        """Run a program in the container's network namespace. Return what it printed."""
        assert self.container
        return run(*words, namespace=f"{self.node}c")

    def up(self, link: str = "api") -> bool:
        """Tell whether a link of the container is up."""
        flags = re.search("<(.*)>", self.inside("ip", "-o", "link", "show", link))
        return flags is not None and "UP" in flags[1].split(",")

    def address(self) -> str:
        """Return what the container says of its address on the LAN, "" if it has none."""
        return self.inside("ip", "-o", "-4", "address", "show", "dev", "api")


@dataclass
class Lan:
    """A LAN with a client and proxies, which are asked each second whether they are alive."""

    client: str
    proxies: list[Proxy]
    asleep: set[str] = field(default_factory=set)
    """The names of the proxies that are not asked."""

    def ask_each_second(self, until: threading.Event) -> None:
        """Ask each proxy, as its keepalived does."""
        while not until.wait(1):
            for one in self.proxies:
                if one.name not in self.asleep:
                    one.call("alive")

    @contextmanager
    def asking(
        self, seconds: float, *more: str, patience: float = 3
    ) -> Iterator[list[tuple[str, str, float]]]:
        """Have the client ask again and again meanwhile, on a new connection and on an old one.

        + seconds: how long it begins to ask
        + more: any word, to ask on a connection that was made at the beginning too
        + patience: how many seconds it waits for a connection or an answer

        The list has who answered on the new one, on the old one, and in which time.
        """
        answers: list[tuple[str, str, float]] = []
        client = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.client}", sys.executable, "-c", _CLIENT, VIP,
             str(seconds), str(patience), *more],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert client.stdout
        assert client.stdout.readline() == "began\n"
        yield answers
        # communicate() would lose what readline() has read ahead
        for line in client.stdout:
            new, kept, took = line.rstrip().split(",")
            answers.append((new, kept, float(took)))
        assert client.wait(60) == 0

    def who(self) -> str:
        """Return which proxy answers the client, or an error."""
        with self.asking(0.001, patience=1) as answers:
            pass
        return answers[0][0]


@contextmanager
def lan(root: Path, proxies: int = 2) -> Iterator[Lan]:
    """Make a LAN with a client and proxies, whose containers run."""
    prefix = f"ce{os.getpid()}"
    names = [f"{prefix}{name}" for name in ("lan", "c", *map(str, range(1, proxies + 1)))]
    hairpins = [IPv4Address(f"192.168.77.{220 + number}") for number in range(1, proxies + 1)]
    made = [
        Proxy(f"p{number}", root / f"p{number}", f"{prefix}{number}",
              IPv4Address(f"192.168.77.{10 + number}"), hairpin,
              [other for other in hairpins if other != hairpin])
        for number, hairpin in enumerate(hairpins, 1)
    ]  # fmt: skip
    try:
        for name in names:
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", names[0], "link", "add", "br0", "type", "bridge")
        run("ip", "-n", names[0], "link", "set", "br0", "up")
        for number, name in enumerate(names[1:], 10):
            port = f"port{number}"
            run("ip", "-n", names[0], "link", "add", port, "type", "veth",
                "peer", "name", "eth0", "netns", name)  # fmt: skip
            run("ip", "-n", names[0], "link", "set", port, "master", "br0", "up")
            run("ip", "-n", name, "address", "add", f"192.168.77.{number}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
        for one in made:
            one.write_script()
            one.start()
        whole = Lan(names[1], made)
        ended = threading.Event()
        asking = threading.Thread(target=whole.ask_each_second, args=(ended,))
        asking.start()
        try:
            yield whole
        finally:
            ended.set()
            asking.join()
    finally:
        for one in made:
            one.end()
            one.call("ended")
        for name in names:
            run("ip", "netns", "delete", name, check=False)
