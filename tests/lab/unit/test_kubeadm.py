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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.lab.unit import kubeadm_nodes
from tests.lab.unit.kubeadm_nodes import CONTAINERD, JOIN, KUBELET, SHIM, TOKEN, Node

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")

OLD, NEW = "1.28.15", "1.36.2"


@pytest.fixture(scope="module")
def kubeadms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return kubeadm_nodes.programs((OLD, NEW), tmp_path_factory.mktemp)


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kubeadm_nodes.issue(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def version() -> str:
    """Of kubeadm and kubelet; tests say it by parametrization."""
    return NEW


@pytest.fixture
def node(kubeadms: dict[str, Path], issued: Path, version: str) -> Iterator[Node]:
    with kubeadm_nodes.running(kubeadms[version], version, issued) as node:
        yield node


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
