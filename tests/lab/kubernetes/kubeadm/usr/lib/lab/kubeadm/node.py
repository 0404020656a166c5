"""What kubeadm asks of the node that it runs on, and how it talks to whoever called it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SOCKETS = (
    "unix:///var/run/containerd/containerd.sock",
    "unix:///var/run/crio/crio.sock",
    "unix:///var/run/cri-dockerd.sock",
)
"""Where kubeadm looks for a container runtime (constants_unix.go), in the order of its message."""

_ROOT = Path(os.environ.get("LAB_KUBEADM_ROOT", "/"))


class Fatal(Exception):
    """What ends kubeadm; STATUS is its exit status, 3 for a configuration that is not valid."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def at(path: str) -> Path:
    """Return where PATH of the node is: below LAB_KUBEADM_ROOT, which tests set, or there."""
    return _ROOT / path.lstrip("/")


def warn(text: str) -> None:
    """Log a warning as klog does."""
    now = time.time()
    stamp = time.strftime("%m%d %H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1e6):06d}"
    print(f"W{stamp} {os.getpid():7d} stand-in.go:1] {text}", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print a line of kubeadm's own report."""
    print(text, flush=True)


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, as Go's tabwriter does for kubeadm."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        say("   ".join(cells).rstrip())


def seconds(duration: str) -> float:
    """Return a duration of Go's, such as ``1m30s``, in seconds."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    parts = re.findall(r"([0-9.]+)(ms|[smh])", duration)
    if duration != "0" and "".join(map("".join, parts)) != duration:
        raise Fatal(f'time: invalid duration "{duration}"')
    return sum(float(number) * units[unit] for number, unit in parts)


def systemctl(*arguments: str) -> bool:
    """Run systemctl; return whether it succeeded."""
    command = ["systemctl", *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def in_path(program: str) -> bool:
    return shutil.which(program) is not None


def hostname() -> str:
    return socket.gethostname().lower()


def default_address() -> str:
    """Return the address by which this node would reach others, "0.0.0.0" without a route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: a datagram socket only looks up the route
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "0.0.0.0"
        return str(probe.getsockname()[0])


def detect_socket() -> str:
    """Return the endpoint of the only container runtime, containerd's if there is none."""
    found = [endpoint for endpoint in SOCKETS if _answers(endpoint)]
    if len(found) > 1:
        raise Fatal(
            "found multiple CRI endpoints on the host. Please define which one do you wish to use "
            "by setting the 'criSocket' field in the kubeadm configuration file: "
            + ", ".join(found)
        )
    return found[0] if found else SOCKETS[0]


def runtime_problem(endpoint: str) -> str:
    """Return why no gRPC server answers at ENDPOINT, or ""."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
    path = str(at(endpoint.removeprefix("unix://")))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        try:
            client.connect(path)
            client.sendall(preface)
            # The head of a frame; 4 is that of SETTINGS, which the server begins with
            greeting = client.recv(9, socket.MSG_WAITALL)
        except OSError as error:
            return f"dial unix {path}: connect: {str(error.strerror or error).lower()}"
    return "" if greeting[3:4] == b"\x04" else "the server does not speak gRPC"


def sandbox_image(endpoint: str) -> str | None:
    """Return the image of cri-dockerd's pause containers, None where that cannot be told.

    The real kubeadm asks the runtime. What it would say is the program's flag, or its default
    (`defaultSandboxImage` in core/sandbox_helpers.go, 0.3.17 to 0.4.3).
    """
    if not endpoint.endswith("/cri-dockerd.sock"):
        return None
    for process in at("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # ended meanwhile
            continue
        if words[0].endswith("/cri-dockerd"):
            return _flag(words, "--pod-infra-container-image") or "registry.k8s.io/pause:3.10"
    return None


def write(path: str, content: bytes | str, mode: int = 0o600) -> None:
    """Write a file of the node, and the folders above it."""
    target = at(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)


def openssl(*arguments: str, give: bytes = b"") -> bytes:
    """Run openssl and return what it prints; GIVE is its input."""
    done = subprocess.run(["openssl", *arguments], input=give, capture_output=True, check=False)
    if done.returncode:
        raise Fatal(f"openssl {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _answers(endpoint: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(at(endpoint.removeprefix("unix://"))))
        except OSError:
            return False
    return True


def _flag(words: Sequence[str], name: str) -> str | None:
    for index, word in enumerate(words):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and index + 1 < len(words):
            return words[index + 1]
    return None
