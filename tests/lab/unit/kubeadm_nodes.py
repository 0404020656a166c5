"""The stand-in for kubeadm on a node that is a folder, with its own etcd and API server."""

from __future__ import annotations

import base64
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.lab import certificates, etcd, kubernetes_repository
from tests.lab.control_plane.api import Refused

CONTAINERD, SHIM = "/var/run/containerd/containerd.sock", "/var/run/cri-dockerd.sock"
KUBELET = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
TOKEN = "abcdef.0123456789abcdef"
NODE = {"name": "pi1", "criSocket": f"unix://{SHIM}"}
JOIN: dict[str, Any] = {
    "apiVersion": "kubeadm.k8s.io/v1beta4",
    "kind": "JoinConfiguration",
    "nodeRegistration": NODE,
    "discovery": {
        "bootstrapToken": {
            "apiServerEndpoint": "k8s:6443",
            "token": TOKEN,
            "caCertHashes": [f"sha256:{'0' * 64}"],
        }
    },
}


def programs(versions: Iterable[str], folder: Callable[[str], Path]) -> dict[str, Path]:
    """The program by its version; FOLDER makes a folder."""
    found = {}
    for version in versions:
        tree = folder("kubeadm")
        kubernetes_repository.fill(tree, "kubeadm", version)
        found[version] = tree / "usr/bin/kubeadm"
    return found


def issue(folder: Path) -> Path:
    """Write the certificates of a cluster, whose server is this computer, into a folder."""
    certificates.build(folder, etcd_addresses={"etcd1": "127.0.0.1"})
    certificates.api_server(folder, "pi1", names=("localhost",), addresses=("127.0.0.1",))
    return folder


class Service(ThreadingHTTPServer):
    """Serves what HANDLE answers, JSON, until it is shut down."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if context is not None:
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, path: str, body: Any) -> Any:
        return {}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that leave."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    do_PATCH = do_POST

    def _answer(self, body: Any) -> None:
        assert isinstance(self.server, Service)
        status, found = 200, None
        try:
            found = self.server.answer(self.path, body)
        except Refused as refused:
            status, found = refused.code, refused.status
        content = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class Etcd(Service):
    """As much of etcd as its gateway has of keys, and its version."""

    version = "3.5.30"

    def __init__(self, context: ssl.SSLContext) -> None:
        self.keys: dict[str, str] = {}
        super().__init__(context)

    def answer(self, path: str, body: Any) -> Any:
        if path == "/version":
            return {"etcdserver": self.version, "etcdcluster": "3.5.0"}
        if path == "/v3/kv/put":
            self.keys[body["key"]] = body["value"]
            return {}
        if path == "/v3/kv/deleterange":
            return {"deleted": "1"} if self.keys.pop(body["key"], None) else {}
        assert path == "/v3/kv/range"
        first, end = (base64.b64decode(body.get(name, "")) for name in ("key", "range_end"))
        found = {
            key: value
            for key, value in self.keys.items()
            if first <= base64.b64decode(key) < (end or first + b"\0")
        }
        return {"kvs": [{"key": key, "value": value} for key, value in found.items()]}

    def get(self, key: str) -> Any:
        """The object that the cluster keeps at a key."""
        encoded = base64.b64encode(f"/registry/{key}".encode()).decode()
        return json.loads(base64.b64decode(self.keys[encoded]))


@dataclass
class Node:
    """A node in a folder, and what it finds on the network."""

    root: Path
    program: Path
    version: str
    etcd: Etcd
    api: Service
    kubelet: Service
    sockets: list[socket.socket] = field(default_factory=list)

    def run(self, *arguments: str, give: str = "") -> tuple[int, str]:
        """Run kubeadm; its status and all that it printed."""
        done = subprocess.run(
            [sys.executable, self.program, *arguments],
            env={"PATH": str(self.root / "bin"), "LAB_KUBEADM_ROOT": str(self.root)},
            input=give,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout

    def write(self, path: str, content: str | bytes) -> Path:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def read(self, path: str) -> Any:
        return yaml.safe_load((self.root / path.lstrip("/")).read_text())

    def config(self, *documents: dict[str, Any]) -> str:
        """Write a configuration; its path."""
        return str(self.write("kubeadm.yaml", yaml.safe_dump_all(documents)))

    def serve(self, path: str) -> None:
        """Listen at a socket as a gRPC server, which greets with its settings."""
        server = socket.socket(socket.AF_UNIX)
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        server.bind(str(place))
        server.listen()
        self.sockets.append(server)
        threading.Thread(target=_greet, args=(server,), daemon=True).start()

    @property
    def init(self) -> list[dict[str, Any]]:
        """The documents of a configuration for init, as the package's."""
        api = f"kubeadm.k8s.io/v1beta{4 if int(self.version.split('.')[1]) >= 31 else 3}"
        arguments: Any = {"node-ip": "127.0.0.1"}
        if api.endswith("4"):
            arguments = [{"name": name, "value": value} for name, value in arguments.items()]
        external = {
            "endpoints": [f"https://127.0.0.1:{self.etcd.server_port}"],
            "caFile": "/etc/kubernetes/ca.crt",
            "certFile": "/etc/kubernetes/client.crt",
            "keyFile": "/etc/kubernetes/client.key",
        }
        port = self.api.server_port
        return [
            {
                "apiVersion": api,
                "kind": "InitConfiguration",
                "localAPIEndpoint": {"advertiseAddress": "127.0.0.1", "bindPort": port},
                "nodeRegistration": {
                    **NODE,
                    "kubeletExtraArgs": arguments,
                    "ignorePreflightErrors": self.ignored,
                },
            },
            {
                "apiVersion": api,
                "kind": "ClusterConfiguration",
                "kubernetesVersion": f"v{self.version}",
                "controlPlaneEndpoint": f"localhost:{port}",
                "etcd": {"external": external},
            },
            {**KUBELET, "healthzPort": self.kubelet.server_port},
        ]

    @property
    def ignored(self) -> list[str]:
        """What depends on the computer that the tests run on, and not on the node."""
        ports = (self.api.server_port, 10250, 10257, 10259)
        return ["IsPrivilegedUser", "NumCPU", "Mem", *(f"Port-{port}" for port in ports)]

    def join(self, **control: Any) -> dict[str, Any]:
        """JoinConfiguration of the cluster that this node has made, or of none."""
        found = re.findall(r"(sha256:\w+)", self.run("token", "create", "--print-join-command")[1])
        token = {
            "apiServerEndpoint": f"localhost:{self.api.server_port}",
            "token": TOKEN,
            "caCertHashes": found,
        }
        endpoint = {"advertiseAddress": "127.0.0.1", "bindPort": self.api.server_port}
        return {
            **JOIN,
            "nodeRegistration": {**NODE, "ignorePreflightErrors": self.ignored},
            "discovery": {"bootstrapToken": token},
            "timeouts": {"discovery": "1s"},
            **({"controlPlane": {**control, "localAPIEndpoint": endpoint}} if control else {}),
        }


def _greet(server: socket.socket) -> None:
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            with client, suppress(OSError):
                client.recv(100)
                client.sendall(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))


@contextmanager
def running(
    program: Path, version: str, issued: Path, api_server: type[Service] = Service
) -> Iterator[Node]:
    """A node as the package leaves it: with its programs, both sockets, and etcd's certificates."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(issued / "etcd-server-etcd1.crt", issued / "etcd-server-etcd1.key")
    server.load_verify_locations(issued / "etcd-ca.crt")
    server.verify_mode = ssl.CERT_REQUIRED
    api = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    api.load_cert_chain(issued / "api-server-pi1.crt", issued / "api-server-pi1.key")
    # A path of a socket may have 107 characters
    root = Path(tempfile.mkdtemp(prefix="node-"))
    node = Node(root, program, version, Etcd(server), api_server(api), Service())
    for name in ("ip", "iptables", "mount", "nsenter", "conntrack", "systemctl", "umount"):
        node.write(f"bin/{name}", "#!/bin/sh\n").chmod(0o755)
    node.write("bin/kubelet", f"#!/bin/sh\necho Kubernetes v{version}\n").chmod(0o755)
    for name in ("openssl", "sh"):
        (root / "bin" / name).symlink_to(str(shutil.which(name)))
    node.write("proc/swaps", "Filename Type Size Used Priority\n")
    node.write("proc/mounts", "")
    node.write("proc/sys/net/ipv4/ip_forward", "1\n")
    node.write(
        "proc/1/cmdline", "/usr/local/bin/cri-dockerd\0--container-runtime-endpoint\0fd://\0"
    )
    for name, source in (("ca.crt", "etcd-ca.crt"), ("client.crt", "etcd-client.crt"),
                         ("client.key", "etcd-client.key")):  # fmt: skip
        node.write(f"etc/kubernetes/{name}", (issued / source).read_bytes())
    for name, content, _ in etcd.link({"etcd1": "127.0.0.1"}, issued):
        node.write(f"usr/lib/lab/cluster/{name}", content)
    node.write("usr/lib/lab/cluster/endpoints", f"https://127.0.0.1:{node.etcd.server_port}\n")
    (root / "etc/cni/net.d").mkdir(parents=True)
    for path in (CONTAINERD, SHIM):
        node.serve(path)
    try:
        yield node
    finally:
        _stop(node)


def _stop(node: Node) -> None:
    for service in (node.etcd, node.api, node.kubelet):
        service.shutdown()
        service.server_close()
    for each in node.sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
    shutil.rmtree(node.root)
