"""The stand-in for kubeadm, on a node that is a folder, with an etcd and an API server of its own.

Texts are those that real ones printed (1.36.2, on nodes of this package), but for those of 1.28.
"""

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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from tests.lab import certificates, etcd, kubernetes_repository

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")

OLD, NEW = "1.28.15", "1.36.2"
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


@pytest.fixture(scope="module")
def kubeadms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The program by its version."""
    found = {}
    for version in (OLD, NEW):
        tree = tmp_path_factory.mktemp("kubeadm")
        kubernetes_repository.fill(tree, "kubeadm", version)
        found[version] = tree / "usr/bin/kubeadm"
    return found


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
        content = json.dumps(self.server.answer(self.path, body)).encode()
        self.send_response(200)
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
        assert path == "/v3/kv/range"
        value = self.keys.get(body["key"])
        return {"kvs": [] if value is None else [{"key": body["key"], "value": value}]}


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
        api = f"kubeadm.k8s.io/v1beta{4 if self.version == NEW else 3}"
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


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    certificates.build(folder, etcd_addresses={"etcd1": "127.0.0.1"})
    certificates.api_server(folder, "pi1", names=("localhost",), addresses=("127.0.0.1",))
    return folder


@pytest.fixture
def version() -> str:
    """Of kubeadm and kubelet; tests say it by parametrization."""
    return NEW


@pytest.fixture
def node(kubeadms: dict[str, Path], issued: Path, version: str) -> Iterator[Node]:
    """A node as the package leaves it: with its programs, both sockets, and etcd's certificates."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(issued / "etcd-server-etcd1.crt", issued / "etcd-server-etcd1.key")
    server.load_verify_locations(issued / "etcd-ca.crt")
    server.verify_mode = ssl.CERT_REQUIRED
    api = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    api.load_cert_chain(issued / "api-server-pi1.crt", issued / "api-server-pi1.key")
    # A path of a socket may have 107 characters
    root = Path(tempfile.mkdtemp(prefix="node-"))
    node = Node(root, kubeadms[version], version, Etcd(server), Service(api), Service())
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
    yield node
    for service in (node.etcd, node.api, node.kubelet):
        service.shutdown()
        service.server_close()
    for each in node.sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
    shutil.rmtree(root)


def changed(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of a document with another value at a path such as ``discovery.bootstrapToken``;
    without the field for None."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    *above, last = path.split(".")
    place = copy
    for name in above:
        place = place.setdefault(name, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return copy


INIT = {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "InitConfiguration"}
CLUSTER = {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration"}
GROUP = 'schema.GroupVersionKind{Group:"kubeadm.k8s.io", Version:"v1beta4", Kind:"%s"}'
PIN = "discovery.bootstrapToken.caCertHashes"


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (JOIN, ""),
        (INIT, ""),
        ({**KUBELET, "featureGates": {"ExtendWebSocketsToKubelet": False}}, ""),
        ({**KUBELET, "containerLogMaxSize": "1Gi", "shutdownGracePeriod": "1m30s"}, ""),
        (
            {**INIT, "nonsense": 1},
            f"error: error unmarshaling configuration {GROUP % 'InitConfiguration'}: strict "
            'decoding error: unknown field "nonsense"',
        ),
        (
            changed(INIT, "nodeRegistration.crisocket", "unix:///run/cri-dockerd.sock"),
            'unknown field "nodeRegistration.crisocket"',
        ),
        (
            changed(CLUSTER, "apiServer.extraVolumes", [{"name": "a", "path": "/a"}]),
            'unknown field "apiServer.extraVolumes[0].path"',
        ),
        ({**KUBELET, "featureGate": {}}, 'unknown field "featureGate"'),
        (
            {**KUBELET, "featureGates": {"ExtendWebSocketsToKubelet": "false"}},
            "json: cannot unmarshal string into Go struct field KubeletConfiguration.featureGates"
            ".ExtendWebSocketsToKubelet of type bool",
        ),
        (
            changed(INIT, "localAPIEndpoint.bindPort", "6443"),
            "json: cannot unmarshal string into Go struct field InitConfiguration.localAPIEndpoint"
            ".bindPort of type int32",
        ),
        (
            changed(JOIN, "controlPlane.certificateKey", int("1" * 64)),
            "cannot unmarshal number into Go struct field JoinConfiguration.controlPlane"
            ".certificateKey of type string",
        ),
        (
            changed(INIT, "nodeRegistration.kubeletExtraArgs", {"node-ip": "192.168.1.50"}),
            "json: cannot unmarshal object into Go struct field",
        ),
        ({**KUBELET, "syncFrequency": "1 minute"}, 'time: invalid duration "1 minute"'),
        (
            changed(JOIN, PIN, None),
            f'error: {PIN}: Invalid value: "": using token-based discovery without caCertHashes '
            "can be unsafe. Set unsafeSkipCAVerification as true",
        ),
        (changed(JOIN, "discovery.bootstrapToken.token", "x"), "the bootstrap token is invalid"),
        (changed(JOIN, "discovery.bootstrapToken", None), "bootstrapToken or file must be set"),
        (changed(JOIN, "controlPlane.certificateKey", "0" * 63), "certificate key must be"),
        (changed(JOIN, "nodeRegistration.name", "Pi_1"), "a lowercase RFC 1123 subdomain"),
        (changed(INIT, "localAPIEndpoint.advertiseAddress", "pi1"), "ip address is not valid"),
        (changed(CLUSTER, "networking.podSubnet", "10.244.0.0/25"), "the size of pod subnet"),
        (changed(CLUSTER, "controlPlaneEndpoint", "k8s:x"), "hostport is not valid"),
        (
            changed(CLUSTER, "etcd.external.endpoints", ["http://etcd1:2379"])
            | {"etcd": {"external": {"endpoints": ["http://etcd1:2379"], "caFile": "/ca.crt"}}},
            "the URL must be using the HTTPS scheme",
        ),
        (
            {**CLUSTER, "kubernetesVersion": "v1.28.15"},
            "this version of kubeadm only supports deploying clusters with the control plane "
            "version >= 1.35.0. Current version: v1.28.15",
        ),
        (
            {**INIT, "apiVersion": "kubeadm.k8s.io/v1beta9"},
            "unknown configuration APIs: []schema.GroupVersionKind",
        ),
        ({**INIT, "apiVersion": "kubeadm.k8s.io/v1beta2"}, "uses an old API spec"),
        ({"kind": "InitConfiguration"}, "kind and apiVersion is mandatory"),
    ],
)
def test_a_configuration_is_decoded_strictly(
    node: Node, document: dict[str, Any], complaint: str
) -> None:
    status, said = node.run("config", "validate", "--config", node.config(document))
    assert (status == 0) == (complaint == ""), said
    assert complaint in said
    assert (said == "ok\n") == (complaint == "")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("apiVersion: a/v1\nkind: A\nkind: B\n", 'key "kind" already set in map'),
        ("a: b: c\n", "error converting YAML to JSON: yaml"),
        ("---\n# nothing\n", "no kind or apiVersion found"),
    ],
)
def test_yaml_that_is_none(node: Node, content: str, complaint: str) -> None:
    path = node.write("kubeadm.yaml", content)
    status, said = node.run("config", "validate", "--config", str(path))
    assert (status, complaint in said) == (1, True), said


def test_a_configuration_that_is_not_there(node: Node) -> None:
    assert "no such file or directory" in node.run("config", "validate", "--config=/none")[1]
    assert "the --config flag is mandatory" in node.run("config", "validate")[1]


def test_values_that_are_not_valid_have_a_status_of_their_own(node: Node) -> None:
    document = changed(JOIN, "controlPlane.certificateKey", "x")
    assert node.run("config", "validate", "--config", node.config(document))[0] == 3


def test_an_older_version_of_the_configuration_is_warned_of(node: Node) -> None:
    path = node.config({**INIT, "apiVersion": "kubeadm.k8s.io/v1beta3"})
    status, said = node.run("config", "validate", "--config", path)
    assert status == 0
    assert 'your configuration file uses a deprecated API spec: "kubeadm.k8s.io/v1beta3"' in said


@pytest.mark.parametrize("version", [OLD])
def test_a_newer_version_of_the_configuration_is_refused(node: Node, version: str) -> None:
    status, said = node.run("config", "validate", "--config", node.config(INIT))
    assert (status, "experimental API spec" in said) == (1, True)


@pytest.mark.parametrize(
    "command",
    [
        ("init",),
        ("reset", "-f"),
        ("reset", "--dry-run"),
        ("join", "k8s:6443", "--token", TOKEN, "--discovery-token-ca-cert-hash", "sha256:0"),
    ],
)
def test_of_two_sockets_one_has_to_be_chosen(node: Node, command: tuple[str, ...]) -> None:
    status, said = node.run(*command)
    assert status == 1
    assert said.startswith(
        "error: found multiple CRI endpoints on the host. Please define which one do you wish to "
        "use by setting the 'criSocket' field in the kubeadm configuration file: "
        f"unix://{CONTAINERD}, unix://{SHIM}\n"
    )
    assert not (node.root / "etc/kubernetes/admin.conf").exists()


def initialised(node: Node, *more: str) -> str:
    """Have a node make a cluster; what kubeadm printed."""
    status, said = node.run("init", "--config", node.config(*node.init), *more)
    assert status == 0, said
    return said


def test_init_writes_what_a_controller_has(node: Node) -> None:
    said = initialised(node, "--upload-certs")
    assert "Your Kubernetes control-plane has initialized successfully!" in said
    assert (
        'detected that the sandbox image "registry.k8s.io/pause:3.10" of the container runtime is '
        "inconsistent with that used by kubeadm. It is recommended to use "
        '"registry.k8s.io/pause:3.10.2" as the CRI sandbox image.'
    ) in said
    assert "[WARNING FileExisting-socat]: socat not found in system path" in said
    etc = node.root / "etc/kubernetes"
    assert {path.name for path in etc.glob("*.conf")} == {
        *("admin.conf", "super-admin.conf", "kubelet.conf"),
        *("controller-manager.conf", "scheduler.conf"),
    }
    assert {path.stat().st_mode & 0o777 for path in etc.glob("*.conf")} == {0o600}
    assert {path.name for path in (etc / "manifests").iterdir()} == {
        *("kube-apiserver.yaml", "kube-controller-manager.yaml", "kube-scheduler.yaml")
    }
    flags = (node.root / "var/lib/kubelet/kubeadm-flags.env").read_text()
    assert flags == 'KUBELET_KUBEADM_ARGS="--node-ip=127.0.0.1"\n'
    kubelet = node.read("var/lib/kubelet/config.yaml")
    assert kubelet["containerRuntimeEndpoint"] == f"unix://{SHIM}"
    assert kubelet["healthzPort"] == node.kubelet.server_port
    instance = node.read("var/lib/kubelet/instance-config.yaml")
    assert instance == {**KUBELET, "containerRuntimeEndpoint": f"unix://{SHIM}"}


def test_the_administrator_has_the_apis_shared_address_and_a_certificate_of_its_ca(
    node: Node,
) -> None:
    initialised(node)
    admin = node.read("etc/kubernetes/admin.conf")
    cluster, user = admin["clusters"][0]["cluster"], admin["users"][0]["user"]
    assert cluster["server"] == f"https://localhost:{node.api.server_port}"
    authority = base64.b64decode(cluster["certificate-authority-data"])
    assert authority == (node.root / "etc/kubernetes/pki/ca.crt").read_bytes()
    certificate = x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"]))
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    assert certificate.subject.rfc4514_string() == "CN=kubernetes-admin,O=kubeadm:cluster-admins"
    context = ssl.create_default_context(cadata=authority.decode())
    with socket.create_connection(("127.0.0.1", node.api.server_port)) as client:
        context.wrap_socket(client, server_hostname="localhost").close()


@pytest.mark.parametrize(
    ("folder", "seen"),
    [
        ("/etc/kubernetes", {"/etc/kubernetes"}),
        ("/etc/kubernetes/etcd", {"/etc/kubernetes/etcd"}),
        ("/etc/kubernetes/pki/etcd", set()),
    ],
)
def test_the_api_servers_pod_sees_the_whole_folder_of_etcds_certificates(
    node: Node, folder: str, seen: set[str]
) -> None:
    documents = node.init
    external = documents[1]["etcd"]["external"]
    for name in ("caFile", "certFile", "keyFile"):
        file = Path(external[name]).name
        node.write(f"{folder}/{file}", (node.root / "etc/kubernetes" / file).read_bytes())
        external[name] = f"{folder}/{file}"
    status, said = node.run("init", "--config", node.config(*documents))
    assert status == 0, said
    pod = node.read("etc/kubernetes/manifests/kube-apiserver.yaml")
    volumes = {each["name"]: each["hostPath"]["path"] for each in pod["spec"]["volumes"]}
    assert {path for name, path in volumes.items() if name.startswith("etcd-certs-")} == seen
    assert volumes["k8s-certs"] == "/etc/kubernetes/pki"
    command = pod["spec"]["containers"][0]["command"]
    assert f"--etcd-certfile={folder}/client.crt" in command


def test_empty_fields_of_kubelets_configuration_get_lost(node: Node) -> None:
    """As by omitempty in Go; kubelet's default is in force then."""
    documents = node.init
    gates = {"ExtendWebSocketsToKubelet": False}
    documents[2] |= {"enforceNodeAllocatable": [], "featureGates": gates}
    status, said = node.run("init", "--config", node.config(*documents))
    assert status == 0, said
    kubelet = node.read("var/lib/kubelet/config.yaml")
    assert "enforceNodeAllocatable" not in kubelet
    assert kubelet["featureGates"] == gates


def test_unknown_fields_are_only_warned_of_by_init(node: Node) -> None:
    documents = node.init
    documents[0]["nonsense"] = 1
    status, said = node.run("init", "--config", node.config(*documents))
    assert status == 0, said
    assert 'strict decoding error: unknown field "nonsense"' in said


@pytest.mark.parametrize("version", [OLD])
def test_an_older_kubeadm(node: Node, version: str) -> None:
    said = initialised(node)
    assert '"registry.k8s.io/pause:3.9" as the CRI sandbox image.' in said
    flags = (node.root / "var/lib/kubelet/kubeadm-flags.env").read_text()
    assert f"--container-runtime-endpoint=unix://{SHIM} " in flags
    assert "--pod-infra-container-image=registry.k8s.io/pause:3.9" in flags
    assert not (node.root / "etc/kubernetes/super-admin.conf").exists()
    assert not (node.root / "var/lib/kubelet/instance-config.yaml").exists()
    # It finds the socket in what it wrote itself
    assert node.run("reset", "-f")[0] == 0


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("proc/sys/net/ipv4/ip_forward", "0\n",
         "[ERROR FileContent--proc-sys-net-ipv4-ip_forward]: /proc/sys/net/ipv4/ip_forward "
         "contents are not set to 1"),
        ("etc/kubernetes/manifests/kube-apiserver.yaml", "",
         "[ERROR FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml]: "
         "/etc/kubernetes/manifests/kube-apiserver.yaml already exists"),
        ("bin/kubelet", "#!/bin/sh\necho Kubernetes v1.37.0\n",
         "[ERROR KubeletVersion]: the kubelet version is higher than the control plane version."),
    ],
)  # fmt: skip
def test_a_node_that_is_not_ready_for_it(node: Node, path: str, content: str, said: str) -> None:
    node.write(path, content)
    status, out = node.run("init", "--config", node.config(*node.init))
    assert status == 1
    assert said in out
    assert "error: error execution phase preflight: preflight checks failed" in out
    assert not (node.root / "etc/kubernetes/admin.conf").exists()


def test_a_file_of_etcds_certificates_is_missing(node: Node) -> None:
    (node.root / "etc/kubernetes/ca.crt").unlink()
    _, said = node.run("init", "--config", node.config(*node.init))
    absent = "[ERROR ExternalEtcdClientCertificates]: /etc/kubernetes/ca.crt doesn't exist"
    assert absent in said


def test_a_runtime_that_does_not_answer(node: Node) -> None:
    node.sockets[-1].shutdown(socket.SHUT_RDWR)
    _, said = node.run("init", "--config", node.config(*node.init))
    assert "[ERROR CRI]: could not connect to the container runtime" in said
    assert "cri-dockerd.sock: connect: connection refused" in said


def test_swap_is_warned_of(node: Node) -> None:
    node.write("proc/swaps", "Filename Type\n/var/swap file\n")
    assert "[WARNING Swap]: swap is supported for cgroup v2 only." in initialised(node)


def test_an_old_etcd_is_refused(node: Node) -> None:
    """Debian 13's."""
    node.etcd.version = "3.5.16"
    path = node.config(*node.init)
    status, said = node.run("init", "--config", path)
    assert status == 1
    assert (
        "\t[ERROR ExternalEtcdVersion]: this version of kubeadm only supports external etcd "
        "version >= 3.5.24-0. Current version: 3.5.16\n"
    ) in said
    ignored = "--ignore-preflight-errors=ExternalEtcdVersion"
    status, said = node.run("init", "--config", path, ignored)
    assert (status, "[WARNING ExternalEtcdVersion]" in said) == (0, True), said


@pytest.mark.parametrize("version", [OLD])
def test_an_old_kubeadm_takes_an_old_etcd(node: Node, version: str) -> None:
    node.etcd.version = "3.5.16"
    initialised(node)


def leave(node: Node) -> None:
    """Make the node one that has not joined; the cluster goes on."""
    assert node.run("reset", "-f", "--cri-socket", f"unix://{SHIM}")[0] == 0


def test_a_worker_joins(node: Node) -> None:
    said = initialised(node)
    token = re.findall(r"--token ([a-z0-9.]+)", said)[0]
    join = changed(node.join(), "discovery.bootstrapToken.token", token)
    leave(node)
    status, said = node.run("join", "--config", node.config(join))
    assert status == 0, said
    assert "This node has joined the cluster:" in said
    assert [path.name for path in (node.root / "etc/kubernetes").glob("*.conf")] == ["kubelet.conf"]
    assert [path.name for path in (node.root / "etc/kubernetes/pki").iterdir()] == ["ca.crt"]
    kubelet = node.read("var/lib/kubelet/config.yaml")
    assert kubelet["healthzPort"] == node.kubelet.server_port, "the cluster's, of init's file"

    status, said = node.run("join", "--config", node.config(join))
    assert status == 1
    assert "[ERROR FileAvailable--etc-kubernetes-kubelet.conf]" in said


def test_the_command_that_init_and_token_print_joins_with_a_socket(node: Node) -> None:
    initialised(node)
    _, said = node.run("token", "create", "--print-join-command")
    leave(node)
    words = said.split()[1:]
    assert node.run(*words)[1].startswith("error: found multiple CRI endpoints on the host.")
    ignored = f"--ignore-preflight-errors={','.join(node.ignored)}"
    status, said = node.run(*words, "--cri-socket", f"unix://{SHIM}", ignored)
    assert status == 0, said


def test_a_controller_joins_with_what_controllers_share(node: Node) -> None:
    said = initialised(node, "--upload-certs")
    key = re.findall(r"--certificate-key (\w+)", said)[0]
    token = re.findall(r"--token ([a-z0-9.]+)", said)[0]
    own = {name: (node.root / f"etc/kubernetes/{name}").read_bytes()
           for name in ("ca.crt", "client.crt", "client.key", "pki/sa.key")}  # fmt: skip
    join = changed(node.join(certificateKey=key), "discovery.bootstrapToken.token", token)
    leave(node)
    (node.root / "etc/kubernetes/client.key").unlink()
    status, said = node.run("join", "--config", node.config(join))
    assert status == 0, said
    assert "a new control plane instance was created" in said
    for name, content in own.items():
        assert (node.root / f"etc/kubernetes/{name}").read_bytes() == content
    assert (node.root / "etc/kubernetes/client.key").stat().st_mode & 0o777 == 0o600
    assert (node.root / "etc/kubernetes/manifests/kube-apiserver.yaml").exists()


@pytest.mark.parametrize(("with_config", "status"), [(False, 1), (True, 0)])
def test_kubeadms_own_hint_spoils_the_secret_where_etcd_is_external(
    node: Node, with_config: bool, status: int
) -> None:
    """``init phase upload-certs`` without --config takes etcd for its own, and joins then fail."""
    initialised(node, "--upload-certs")
    more = ("--config", node.config(*node.init)) if with_config else ()
    said = node.run("init", "phase", "upload-certs", "--upload-certs", *more)[1]
    join = node.join(certificateKey=said.splitlines()[-1])
    token = node.run("token", "create")[1].strip()
    leave(node)
    path = node.config(changed(join, "discovery.bootstrapToken.token", token))
    found, said = node.run("join", "--config", path)
    assert found == status, said
    assert (
        status == 0
        or (
            "the Secret does not include the required certificate or key - name: "
            "external-etcd-ca.crt, path: /etc/kubernetes/ca.crt"
        )
        in said
    )


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("controlPlane.certificateKey", "1" * 64, "cipher: message authentication failed"),
        ("discovery.bootstrapToken.token", "zzzzzz.0123456789abcdef",
         "couldn't validate the identity of the API Server: could not find a JWS signature in the "
         'cluster-info ConfigMap for token ID "zzzzzz"'),
        ("discovery.bootstrapToken.token", "abcdef.0123456789abcdee", "failed to verify JWS"),
        (PIN, [f"sha256:{'0' * 64}"], "cluster CA found in cluster-info ConfigMap is invalid"),
        ("discovery.bootstrapToken.apiServerEndpoint", "localhost:1",
         "failed to request the cluster-info ConfigMap"),
    ],
)  # fmt: skip
def test_a_join_that_the_cluster_does_not_take(
    node: Node, path: str, value: object, said: str
) -> None:
    documents = node.init
    documents[0]["bootstrapTokens"] = [{"token": TOKEN}]
    status, out = node.run("init", "--upload-certs", "--config", node.config(*documents))
    assert status == 0, out
    join = changed(node.join(certificateKey="0" * 64), path, value)
    leave(node)
    status, out = node.run("join", "--config", node.config(join))
    assert (status, said in out) == (1, True), out
    assert not (node.root / "etc/kubernetes/kubelet.conf").exists()


def test_reset_leaves_empty_folders_and_what_is_not_kubeadms(node: Node) -> None:
    initialised(node)
    own = ("reset", "--cri-socket", f"unix://{SHIM}")
    status, said = node.run(*own, give="n\n")
    assert (status, "aborted reset operation" in said) == (1, True)
    status, said = node.run(*own, "--dry-run")
    assert (status, "[reset] Would stop the kubelet service" in said) == (0, True)
    assert (node.root / "etc/kubernetes/admin.conf").exists()

    status, said = node.run(*own, give="y\n")
    assert status == 0
    assert "Failed to remove etcd member: could not retrieve the list of etcd endpoints" in said
    assert "does not perform cleanup of CNI plugin configuration" in said
    left = {str(path.relative_to(node.root)) for path in node.root.glob("etc/**/*")}
    assert left == {
        *("etc/cni", "etc/cni/net.d", "etc/kubernetes", "etc/kubernetes/pki"),
        *("etc/kubernetes/manifests", "etc/kubernetes/ca.crt", "etc/kubernetes/client.crt"),
        "etc/kubernetes/client.key",
    }
    assert list((node.root / "var/lib/kubelet").iterdir()) == []


def test_a_token_is_made_where_the_administrators_kubeconfig_is(node: Node) -> None:
    status, said = node.run("token", "create")
    assert (status, "failed to load admin kubeconfig" in said) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reset", "--nonsense"), "unknown flag: --nonsense"),
        (("join", "--config", "x", "--control-plane", "--cri-socket", "y"),
         "can not mix '--config' with arguments [control-plane,cri-socket]"),
        (("upgrade", "diff"), 'the lab\'s stand-in for kubeadm has no "upgrade diff"'),
    ],
)  # fmt: skip
def test_flags(node: Node, arguments: tuple[str, ...], said: str) -> None:
    status, out = node.run(*arguments)
    assert (status, said in out) == (1, True), out
