"""The stand-in for kube-apiserver in a process of its own, as on a node of a lab."""

from __future__ import annotations

import contextlib
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path

from tests.cluster.api_client import Target
from tests.lab import apiserver, certificates, plan
from tests.lab.control_plane.store import Store

SUBNET = "10.20.30.0/24"


@dataclass(frozen=True)
class Server:
    """A server that listens, on this computer."""

    process: subprocess.Popen[str]
    folder: Path
    manifest: Path
    port: int
    began: float

    @property
    def ca(self) -> str:
        return str(self.folder / "kubernetes-ca.crt")

    @property
    def readyz(self) -> Path:
        return self.folder / "readyz"

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    def target(self, host: str = "127.0.0.1") -> Target:
        return Target.parse(f"{host}:{self.port}", ca=self.ca)

    def get(self, connection: HTTPSConnection, path: str) -> tuple[int, str, str | None]:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers["Server-Name"]

    def connect(self) -> HTTPSConnection:
        context = ssl.create_default_context(cafile=self.ca)
        return HTTPSConnection("127.0.0.1", self.port, context=context, timeout=5)


def make_folder(folder: Path) -> Path:
    """Give a folder the certificates of a lab, and the files of its nodes pi4 and pi5."""
    certificates.build(folder, etcd_addresses={})
    lab = plan.make(name="unit", subnet=SUBNET)
    for name in ("pi4", "pi5"):
        root = folder / ("root" if name == "pi4" else name)
        apiserver.provision(lab, lab.node(name), folder, root)
    return folder


@contextlib.contextmanager
def running(folder: Path, *, ready: bool = True) -> Iterator[Server]:
    """A server with the files that `provision` gave to pi4, once it listens or even is READY."""
    files = folder / "root/etc/lab-apiserver"
    manifest = Path(tempfile.mkstemp(".yaml", "kube-apiserver-", folder)[1])
    manifest.write_text("image: registry.k8s.io/kube-apiserver:v1.36.2\n")
    (folder / "store").mkdir(exist_ok=True)
    (folder / "store/start-seconds").write_text("0")
    command = [
        *(sys.executable, "-m", "control_plane.apiserver", "--name", "pi4"),
        *("--address", "127.0.0.1", "--port", "0", "--manifest", str(manifest)),
        *("--certificate", str(files / "server.crt"), "--key", str(files / "server.key")),
        *("--client-ca", str(files / "ca.crt"), "--readyz", str(folder / "readyz")),
        *("--store", str(folder / "store")),
    ]
    with subprocess.Popen(
        command,
        cwd=folder / "root/usr/lib/lab",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            found = re.fullmatch(r"pi4 listens at port (\d+)\n", said)
            assert found, said + process.stdout.read()
            server = Server(process, folder, manifest, int(found[1]), time.monotonic())
            while ready and status(server) != 200:
                time.sleep(0.05)
            yield server
        finally:
            process.kill()


def status(server: Server, path: str = "/readyz") -> int:
    """Return the status that a client without certificate gets."""
    with contextlib.closing(server.connect()) as connection:
        return server.get(connection, path)[0]
