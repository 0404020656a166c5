"""The stand-in for kubeadm upgrades a cluster: what it changes, and what it refuses.

The API server is the lab's, without its sockets: it has the version of the manifest that the
stand-in for kubelet has noticed.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from cryptography import x509

from tests.lab.control_plane import api
from tests.lab.control_plane.apiserver import parse_version
from tests.lab.control_plane.kubelet import Kubelet, digests
from tests.lab.control_plane.store import Json, Store
from tests.lab.unit import kubeadm_nodes
from tests.lab.unit.kubeadm_nodes import NODE, SHIM, Node, Service

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")

V34, V35, V36, V37 = VERSIONS = "1.34.2", "1.35.1", "1.36.2", "1.37.1"
SERVER = "etc/kubernetes/manifests/kube-apiserver.yaml"
ENVIRONMENT = "var/lib/kubelet/kubeadm-flags.env"
CONFIG = "configmaps/kube-system/kubeadm-config"
ADMIN = api.User("kubernetes-admin", frozenset({"kubeadm:cluster-admins"}))


class ApiServer(Service):
    """The API of a cluster whose objects are in a STORE."""

    store: Store
    version = V34

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context)

    def answer(self, path: str, body: Any) -> Any:
        parts = urlsplit(path)
        if parts.path == "/livez":
            return "ok"
        request = api.Request(
            "GET" if body is None else "PATCH",
            parts.path,
            dict(parse_qsl(parts.query)),
            {"content-type": "application/strategic-merge-patch+json"},
            json.dumps(body).encode(),
            ADMIN,
        )
        return api.answer(request, self.store, self.version, time.time())[1]


class Cluster:
    """A cluster that a node has made by kubeadm 1.34, and the kubelets of its nodes."""

    def __init__(self, node: Node, programs: dict[str, Path], store: Store) -> None:
        self.node, self.programs, self.store = node, programs, store
        assert isinstance(node.api, ApiServer)
        self.api = node.api
        self.api.store = store
        self.kubelets = {"pi1": self.kubelet("pi1", f"v{V34}")}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def kubelet(self, name: str, version: str, *, controls: bool = False) -> Kubelet:
        """Have another node join."""
        kubelet = Kubelet(self.store, name, "192.168.1.50", version)
        kubelet.register()
        if controls:
            with self.store.transaction() as kept:
                labels = kept[f"nodes/{name}"]["metadata"]["labels"]
                labels["node-role.kubernetes.io/control-plane"] = ""
                kept.put(f"nodes/{name}", kept[f"nodes/{name}"])
        return kubelet

    def _beat(self) -> None:
        """Do as kubelet does: run what the manifests say, and tell the cluster."""
        while not self._stop.wait(0.05):
            manifests = self.node.root / "etc/kubernetes/manifests"
            # Between kubeadm's two renames it is not there
            with suppress(FileNotFoundError):
                server = (manifests / "kube-apiserver.yaml").read_text()
                self.api.version = parse_version(server)
            static = digests(manifests)
            self.kubelets["pi1"].beat(time.monotonic(), static=static, answers=True)

    def start(self) -> None:
        """Have the kubelet of pi1 work."""
        self._thread.start()

    def stop(self) -> None:
        """Have the kubelet of pi1 notice nothing any more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def run(self, version: str, *words: str, give: str = "") -> tuple[int, str]:
        """Run kubeadm of a version; its status and all that it printed."""
        self.node.program = self.programs[version]
        ignored = "--ignore-preflight-errors=IsPrivilegedUser"
        more = (ignored,) if words[0] == "upgrade" else ()
        return self.node.run(*words, *more, give=give)

    def apply(self, version: str, *more: str) -> str:
        """Upgrade pi1 by kubeadm of the same version, not twice in a second; what that printed."""
        tmp = self.node.root / "etc/kubernetes/tmp"
        while [*tmp.glob(f"kubeadm-backup-manifests-{time.strftime('%Y-%m-%d-%H-%M-%S')}")]:
            time.sleep(0.05)
        status, said = self.run(version, "upgrade", "apply", f"v{version}", "-y", *more)
        assert status == 0, said
        return said

    def upgrade_file(self, **content: Any) -> str:
        """Write a configuration for upgrade; its path."""
        kind = {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "UpgradeConfiguration"}
        return str(self.node.write("upgrade.yaml", yaml.safe_dump({**kind, **content})))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return kubeadm_nodes.programs(VERSIONS, tmp_path_factory.mktemp)


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kubeadm_nodes.issue(tmp_path_factory.mktemp("certificates"))


@contextmanager
def formed(programs: dict[str, Path], issued: Path, folder: Path) -> Iterator[Cluster]:
    with kubeadm_nodes.running(programs[V34], V34, issued, ApiServer) as node:
        cluster = Cluster(node, programs, Store(folder))
        cluster.start()
        try:
            status, said = node.run("init", "--config", node.config(*node.init))
            assert status == 0, said
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def cluster(programs: dict[str, Path], issued: Path, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of one controller at 1.34, which a test may change."""
    with formed(programs, issued, tmp_path) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def untouched(
    programs: dict[str, Path], issued: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A cluster of one controller at 1.34, for tests that leave it as it is."""
    with formed(programs, issued, tmp_path_factory.mktemp("store")) as cluster:
        yield cluster


def serial(node: Node, name: str) -> int:
    pem = (node.root / "etc/kubernetes/pki" / f"{name}.crt").read_bytes()
    return x509.load_pem_x509_certificate(pem).serial_number


def user_of(node: Node, name: str) -> str:
    content = node.read(f"etc/kubernetes/{name}")
    pem = base64.b64decode(content["users"][0]["user"]["client-certificate-data"])
    return x509.load_pem_x509_certificate(pem).subject.rfc4514_string()


def test_apply_brings_a_controller_to_the_next_minor_version(cluster: Cluster) -> None:
    node = cluster.node
    assert "--pod-infra-container-image=" in (node.root / ENVIRONMENT).read_text()
    before = {name: serial(node, name) for name in ("apiserver", "front-proxy-client", "ca")}
    old = (node.root / SERVER).read_bytes()
    said = cluster.apply(V35)
    lines = [line for line in said.splitlines() if "IsPrivilegedUser" not in line]
    assert lines[:7] == [
        '[upgrade] Reading configuration from the "kubeadm-config" ConfigMap in namespace '
        '"kube-system"...',
        "[upgrade] Use 'kubeadm init phase upload-config kubeadm --config your-config-file' to "
        "re-upload it.",
        "[upgrade/preflight] Running preflight checks",
        "[upgrade] Running cluster health checks",
        f'[upgrade/preflight] You have chosen to upgrade the cluster version to "v{V35}"',
        f"[upgrade/versions] Cluster version: v{V34}",
        f"[upgrade/versions] kubeadm version: v{V35}",
    ]
    assert (
        f'[upgrade] SUCCESS! A control plane node of your cluster was upgraded to "v{V35}".' in said
    )
    for component in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        manifest = node.read(f"etc/kubernetes/manifests/{component}.yaml")
        image = manifest["spec"]["containers"][0]["image"]
        assert image == f"registry.k8s.io/{component}:v{V35}"
        assert f"[apiclient] Found 1 Pods for label selector component={component}" in said
    assert node.etcd.get(CONFIG)["kubernetesVersion"] == f"v{V35}"
    (backup,) = (node.root / "etc/kubernetes/tmp").glob("kubeadm-backup-manifests-*")
    assert (backup / "kube-apiserver.yaml").read_bytes() == old
    assert not [*(node.root / "etc/kubernetes/tmp").glob("kubeadm-upgraded-manifests*")]
    after = {name: serial(node, name) for name in before}
    assert {name for name in before if before[name] == after[name]} == {"ca"}
    assert user_of(node, "admin.conf") == "CN=kubernetes-admin,O=kubeadm:cluster-admins"


def test_kubelet_of_1_35_finds_no_flag_that_it_does_not_know(cluster: Cluster) -> None:
    """Which kubeadm of 1.34 had given to it (kubernetes/kubernetes#133778)."""
    said = cluster.apply(V35)
    environment = (cluster.node.root / ENVIRONMENT).read_text()
    assert environment == 'KUBELET_KUBEADM_ARGS="--node-ip=127.0.0.1"\n'
    assert (
        "[upgrade] Backing up kubelet env file to /etc/kubernetes/tmp/kubeadm-kubelet-env" in said
    )
    kubelet = cluster.node.read("var/lib/kubelet/config.yaml")
    assert kubelet["containerRuntimeEndpoint"] == f"unix://{SHIM}"


def test_each_minor_version_follows_the_one_before(cluster: Cluster) -> None:
    for version in (V35, V36, V37):
        cluster.apply(version)
        assert cluster.api.version == version


def test_the_servers_certificate_keeps_its_names(cluster: Cluster) -> None:
    def names() -> set[str]:
        pem = (cluster.node.root / "etc/kubernetes/pki/apiserver.crt").read_bytes()
        certificate = x509.load_pem_x509_certificate(pem)
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return {str(each.value) for each in found}

    before = names()
    cluster.apply(V35)
    assert names() == before >= {"localhost", "kubernetes", "pi1", "127.0.0.1"}


def test_a_second_apply_finds_equal_manifests(cluster: Cluster) -> None:
    cluster.apply(V35)
    before = serial(cluster.node, "apiserver")
    said = cluster.apply(V35)
    assert "Current and new manifests of kube-apiserver are equal, skipping upgrade" in said
    assert serial(cluster.node, "apiserver") == before


def test_certificates_stay_if_they_shall(cluster: Cluster) -> None:
    before = serial(cluster.node, "apiserver")
    assert "Renewing" not in cluster.apply(V35, "--certificate-renewal=false")
    assert serial(cluster.node, "apiserver") == before


def test_without_a_kubelet_the_manifests_are_put_back(cluster: Cluster) -> None:
    cluster.stop()
    old = (cluster.node.root / SERVER).read_bytes()
    file = cluster.upgrade_file(timeouts={"upgradeManifests": "1s"})
    status, said = cluster.run(V35, "upgrade", "apply", f"v{V35}", "-y", "--config", file)
    assert status == 1
    assert (
        "couldn't upgrade control plane. kubeadm has tried to recover everything into the earlier "
        "state. Errors faced: static Pod hash for component kube-apiserver on Node pi1 did not "
        "change after 1s: context deadline exceeded"
    ) in said
    assert (cluster.node.root / SERVER).read_bytes() == old
    assert cluster.node.etcd.get(CONFIG)["kubernetesVersion"] == f"v{V34}"


@pytest.mark.parametrize(
    ("kubeadm", "version", "complaint"),
    [
        (V34, "v1.35.0", "is at least one minor release higher than the kubeadm minor release (35 "
         "> 34). Such an upgrade is not supported"),
        (V35, "v1.35.9", f'is higher than the kubeadm version "v{V35}". Upgrade kubeadm first '
         "using the tool you used to install kubeadm"),
        (V35, "v1.34.2", "Kubeadm version v1.35.1 can only be used to upgrade to Kubernetes "
         "version 1.35"),
        (V36, "v1.36.2", "error: [upgrade/init config] FATAL: this version of kubeadm only "
         "supports deploying clusters with the control plane version >= 1.35.0. Current version: "
         "v1.34.2"),
        (V35, "1.35", 'version "1.35" doesn\'t match patterns for neither semantic version nor'),
        (V35, "", "missing one or more required arguments. Required arguments: [version]"),
    ],
)  # fmt: skip
def test_a_version_that_is_refused(
    untouched: Cluster, kubeadm: str, version: str, complaint: str
) -> None:
    before = (untouched.node.root / SERVER).read_bytes()
    status, said = untouched.run(kubeadm, "upgrade", "apply", *filter(None, [version]), "-y")
    assert (status, complaint in said) == (1, True), said
    assert (untouched.node.root / SERVER).read_bytes() == before


def test_force_lets_a_newer_patch_release_pass(cluster: Cluster) -> None:
    status, said = cluster.run(V35, "upgrade", "apply", "v1.35.9", "--force")
    assert status == 0, said
    assert "Found 1 potential version compatibility errors but skipping since the --force" in said


def test_an_older_api_server_behind_the_same_address_is_two_versions_away(cluster: Cluster) -> None:
    """As where the first controller is at 1.35 and another one answers, which is at 1.34."""
    cluster.apply(V35)
    cluster.stop()
    cluster.api.version = V34
    status, said = cluster.run(V36, "upgrade", "apply", f"v{V36}", "-y")
    assert status == 1
    assert (
        "the version argument is invalid due to these fatal errors:\n\n\t- Specified version to "
        f'upgrade to "v{V36}" is too high; kubeadm can upgrade only 1 minor version at a time\n'
    ) in said


@pytest.mark.parametrize(("version", "refused"), [("v1.31.9", True), ("v1.32.0", False)])
def test_kubelets_may_be_three_minor_versions_older(
    cluster: Cluster, version: str, refused: bool
) -> None:
    cluster.kubelet("pi5", version)
    status, said = cluster.run(V35, "upgrade", "apply", f"v{V35}", "-y")
    complaint = (
        f"There are kubelets in this cluster that are too old that have these versions [{version}]"
    )
    assert (status, complaint in said) == ((1, True) if refused else (0, False)), said


def test_a_controller_that_is_not_ready_is_in_the_way(cluster: Cluster) -> None:
    cluster.kubelet("pi7", f"v{V34}", controls=True)
    cluster.store.forget("pi7")
    status, said = cluster.run(V35, "upgrade", "apply", f"v{V35}", "-y")
    expected = "[ERROR ControlPlaneNodesReady]: there are NotReady control-planes in the cluster: "
    assert (status, f"{expected}[pi7]" in said) == (1, True), said


def test_a_manifest_that_is_not_there_is_in_the_way(cluster: Cluster) -> None:
    (cluster.node.root / "etc/kubernetes/manifests/kube-scheduler.yaml").unlink()
    status, said = cluster.run(V35, "upgrade", "apply", f"v{V35}", "-y")
    assert (status, "Manifest files not found: [/etc/kubernetes/manifests/kube-scheduler.yaml]"
            in said) == (1, True), said  # fmt: skip


def test_the_user_is_asked(untouched: Cluster) -> None:
    status, said = untouched.run(V35, "upgrade", "apply", f"v{V35}", give="n\n")
    assert (status, "won't proceed; the user didn't answer (Y|y)" in said) == (1, True)


def test_a_dry_run_changes_nothing(untouched: Cluster) -> None:
    before = (untouched.node.root / SERVER).read_bytes()
    said = untouched.apply(V35, "--dry-run")
    assert (
        f'[dryrun] Would upgrade your static Pod-hosted control plane to version "v{V35}"' in said
    )
    assert (untouched.node.root / SERVER).read_bytes() == before


@pytest.mark.parametrize(
    ("words", "path"), [(("apply", f"v{V35}"), "admin.conf"), (("node",), "kubelet.conf")]
)
def test_on_a_node_that_is_in_no_cluster(
    programs: dict[str, Path], issued: Path, words: tuple[str, ...], path: str
) -> None:
    with kubeadm_nodes.running(programs[V35], V35, issued) as node:
        status, said = node.run("upgrade", *words)
    assert (status, said.splitlines()[0]) == (
        1,
        f'error: couldn\'t create a Kubernetes client from file "/etc/kubernetes/{path}": failed '
        f"to load admin kubeconfig: open /etc/kubernetes/{path}: no such file or directory",
    )


def test_while_no_api_server_answers(cluster: Cluster) -> None:
    cluster.api.shutdown()
    cluster.api.server_close()
    status, said = cluster.run(V35, "upgrade", "node")
    assert status == 1
    assert "unable to fetch the kubeadm-config ConfigMap: failed to get config map: Get " in said
    assert "connection refused" in said


def worker(cluster: Cluster) -> None:
    """Make the node a worker, with what `join` would have written."""
    for name in ("admin.conf", "super-admin.conf", "manifests"):
        path = cluster.node.root / "etc/kubernetes" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_worker_is_given_kubelets_new_configuration(cluster: Cluster) -> None:
    cluster.apply(V35)
    worker(cluster)
    give_more_pods(cluster)
    status, said = cluster.run(V35, "upgrade", "node")
    assert status == 0, said
    assert "[upgrade/preflight] Skipping prepull. Not a control plane node." in said
    assert "[upgrade/control-plane] Skipping phase. Not a control plane node." in said
    kubelet = cluster.node.read("var/lib/kubelet/config.yaml")
    assert (kubelet["maxPods"], kubelet["containerRuntimeEndpoint"]) == (50, f"unix://{SHIM}")
    assert not (cluster.node.root / "etc/kubernetes/manifests").exists()


def give_more_pods(cluster: Cluster) -> None:
    """Change kubelet's configuration in the cluster."""
    path = "configmaps/kube-system/kubelet-config"
    changed = {**cluster.node.etcd.get(path), "maxPods": 50}
    cluster.node.etcd.answer("/v3/kv/put", {
        "key": base64.b64encode(f"/registry/{path}".encode()).decode(),
        "value": base64.b64encode(json.dumps(changed).encode()).decode(),
    })  # fmt: skip


@pytest.mark.parametrize("works", [False, True])
def test_a_node_is_given_kubelets_configuration_alone(cluster: Cluster, works: bool) -> None:
    give_more_pods(cluster)
    if works:
        worker(cluster)
    before = (cluster.node.root / SERVER).read_bytes() if not works else b""
    status, said = cluster.run(V34, "upgrade", "node", "phase", "kubelet-config")
    assert status == 0, said
    kubelet = cluster.node.read("var/lib/kubelet/config.yaml")
    assert (kubelet["maxPods"], kubelet["containerRuntimeEndpoint"]) == (50, f"unix://{SHIM}")
    assert works or (cluster.node.root / SERVER).read_bytes() == before


def test_another_controller_takes_the_version_that_the_cluster_has(cluster: Cluster) -> None:
    cluster.apply(V35)
    manifest = cluster.node.root / SERVER
    manifest.write_text(manifest.read_text().replace(V35, V34))
    before = serial(cluster.node, "apiserver")
    status, said = cluster.run(V35, "upgrade", "node")
    assert status == 0, said
    assert f'control plane instance to version "v{V35}"...' in said
    assert f"kube-apiserver:v{V35}" in manifest.read_text()
    assert serial(cluster.node, "apiserver") != before


def test_a_node_is_not_upgraded_before_the_cluster(untouched: Cluster) -> None:
    status, said = untouched.run(V36, "upgrade", "node")
    assert status == 1
    assert (
        "unable to fetch the kubeadm-config ConfigMap: this version of kubeadm only supports "
        "deploying clusters with the control plane version >= 1.35.0. Current version: v1.34.2"
    ) in said


def test_the_plan_names_what_there_is_to_upgrade(untouched: Cluster) -> None:
    status, said = untouched.run(V35, "upgrade", "plan")
    assert status == 0, said
    assert f"[upgrade/versions] Target version: v{V35}" in said
    lines = [line.split() for line in said.splitlines()]
    assert ["kubelet", "pi1", f"v{V34}", f"v{V35}"] in lines
    assert ["kube-apiserver", "pi1", f"v{V34}", f"v{V35}"] in lines
    assert f"\tkubeadm upgrade apply v{V35}\n" in said
    status, said = untouched.run(V34, "upgrade", "plan")
    assert (status, "kubeadm upgrade apply" in said) == (0, False), said


CERTIFICATES = ["admin.conf", "apiserver", "apiserver-kubelet-client", "controller-manager.conf",
                "front-proxy-client", "scheduler.conf", "super-admin.conf"]  # fmt: skip


def test_days_that_certificates_have_left(untouched: Cluster) -> None:
    status, said = untouched.run(V35, "certs", "check-expiration")
    assert status == 0, said
    rows = re.findall(r"^(\S+) +(\w{3} \d\d, \d{4} \d\d:\d\d UTC) +(\w+) ", said, re.MULTILINE)
    assert [name for name, _, _ in rows] == [*CERTIFICATES, "ca", "front-proxy-ca"]
    assert {name: left for name, _, left in rows}["apiserver"] == "364d"


def test_days_that_certificates_have_left_as_json(untouched: Cluster) -> None:
    status, said = untouched.run(V35, "certs", "check-expiration", "-o", "json")
    assert status == 0, said
    found: Json = json.loads(said)
    assert found["kind"] == "CertificateExpirationInfo"
    assert [each["name"] for each in found["certificates"]] == CERTIFICATES
    seconds = {each["name"]: each["residualTime"] for each in found["certificates"]}
    assert 364 * 86400 < seconds["admin.conf"] <= 365 * 86400
    assert [each["name"] for each in found["certificateAuthorities"]] == ["ca", "front-proxy-ca"]


def test_a_certificate_that_is_not_there_is_said(cluster: Cluster) -> None:
    (cluster.node.root / "etc/kubernetes/scheduler.conf").unlink()
    assert "!MISSING! scheduler.conf" in cluster.run(V35, "certs", "check-expiration")[1]
    found = json.loads(cluster.run(V35, "certs", "check-expiration", "-o", "json")[1])
    assert [each["name"] for each in found["certificates"] if each.get("missing")] == [
        "scheduler.conf"
    ]


def test_all_certificates_are_renewed_and_nothing_is_restarted(cluster: Cluster) -> None:
    names = ("apiserver", "apiserver-kubelet-client", "front-proxy-client")
    before = [serial(cluster.node, name) for name in names]
    status, said = cluster.run(V35, "certs", "renew", "all")
    assert status == 0, said
    assert "certificate for serving the Kubernetes API renewed" in said
    assert "You must restart the kube-apiserver, kube-controller-manager, kube-scheduler" in said
    assert not {*before} & {serial(cluster.node, name) for name in names}
    assert user_of(cluster.node, "scheduler.conf") == "CN=system:kube-scheduler"


def test_tokens_are_listed_until_they_expire(cluster: Cluster) -> None:
    _, said = cluster.run(V35, "token", "create", "--ttl", "15m", "--description", "for pi9")
    token = said.strip()
    listed = cluster.run(V35, "token", "list")[1]
    assert re.search(rf"^{re.escape(token)} +14m +\S+ +authentication,signing +for pi9", listed,
                     re.MULTILINE), listed  # fmt: skip
    assert cluster.run(V35, "token", "create", "abcdef.0123456789abcdef", "--ttl", "1ms")[0] == 0
    assert "abcdef.0123456789abcdef" not in cluster.run(V35, "token", "list")[1]


def test_a_token_is_deleted_by_itself_or_its_id(cluster: Cluster) -> None:
    for cut in (False, True):
        token = cluster.run(V35, "token", "create")[1].strip()
        name = token.partition(".")[0]
        status, said = cluster.run(V35, "token", "delete", name if cut else token)
        assert (status, said) == (0, f'bootstrap token "{name}" deleted\n')
        assert token not in cluster.run(V35, "token", "list")[1]
    status, said = cluster.run(V35, "token", "delete", "aaaaaa")
    assert (status, 'secrets "bootstrap-token-aaaaaa" not found' in said) == (1, True)


def test_a_node_does_not_join_a_cluster_that_is_two_minor_versions_older(
    untouched: Cluster,
) -> None:
    node = untouched.node
    pin = re.findall(
        r"(sha256:\w+)", untouched.run(V34, "token", "create", "--print-join-command")[1]
    )
    token = untouched.run(V34, "token", "create")[1].strip()
    document = {
        **kubeadm_nodes.JOIN,
        "nodeRegistration": {**NODE, "ignorePreflightErrors": ["all"]},
        "discovery": {
            "bootstrapToken": {
                "apiServerEndpoint": f"localhost:{node.api.server_port}",
                "token": token,
                "caCertHashes": pin,
            }
        },
    }
    path = str(node.write("join.yaml", yaml.safe_dump(document)))
    node.program = untouched.programs[V36]
    status, said = node.run("join", "--config", path)
    assert (status, "only supports deploying clusters with the control plane version >= 1.35.0"
            in said) == (1, True), said  # fmt: skip


def test_reset_leaves_what_was_backed_up_unless_it_is_told(cluster: Cluster) -> None:
    cluster.apply(V35)
    backups = cluster.node.root / "etc/kubernetes/tmp"
    own = ("reset", "-f", "--cri-socket", f"unix://{SHIM}", "--ignore-preflight-errors=all")
    assert cluster.run(V35, *own)[0] == 0
    assert len([*backups.iterdir()]) == 3
    assert cluster.run(V35, *own, "--cleanup-tmp-dir")[0] == 0
    assert not [*backups.iterdir()]
