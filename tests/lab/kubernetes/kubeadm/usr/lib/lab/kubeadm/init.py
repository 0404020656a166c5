"""``kubeadm init``, and what else a controller of the cluster is asked for."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
import urllib.request
from typing import Any

from . import api, cluster, config, files, node, preflight, release, tokens
from .cluster import SYSTEM, Etcd
from .node import Fatal

_DONE = """
Your Kubernetes control-plane has initialized successfully!

To start using your cluster, you need to run the following as a regular user:

  mkdir -p $HOME/.kube
  sudo cp -i /etc/kubernetes/admin.conf $HOME/.kube/config
  sudo chown $(id -u):$(id -g) $HOME/.kube/config

Alternatively, if you are the root user, you can run:

  export KUBECONFIG=/etc/kubernetes/admin.conf

You should now deploy a pod network to the cluster.
Run "kubectl apply -f [podnetwork].yaml" with one of the options listed at:
  https://kubernetes.io/docs/concepts/cluster-administration/addons/

"""
_KEY_IS_SECRET = """
Please note that the certificate-key gives access to cluster sensitive data, keep it secret!
As a safeguard, uploaded-certs will be deleted in two hours; If necessary, you can use
"kubeadm init phase upload-certs --upload-certs" to reload certs afterward.

"""
_HEALTH_SECONDS = 240.0


def run(
    path: str | None, endpoint: str | None, key: str | None, ignored: list[str], *, upload: bool
) -> None:
    """Make this node the first controller of a cluster."""
    documents = config.load(path, strict=False) if path else {}
    if path and not documents.keys() & {"InitConfiguration", "ClusterConfiguration"}:
        raise Fatal("no InitConfiguration or ClusterConfiguration kind was found in the YAML file")
    if endpoint:
        registration = {"criSocket": endpoint}
        documents = {**documents, "InitConfiguration": {"nodeRegistration": registration}}
    init, configuration = config.initial(documents, detect=node.detect_socket)
    registration, local = init["nodeRegistration"], init["localAPIEndpoint"]
    node.say(f"[init] Using Kubernetes version: {configuration['kubernetesVersion']}")
    node.say("[preflight] Running pre-flight checks")
    ignored = ignored + (registration.get("ignorePreflightErrors") or [])
    preflight.root(ignored)
    preflight.for_init(init, configuration, ignored)
    pull_images(registration["criSocket"])

    address = f"{local['advertiseAddress']}:{local['bindPort']}"
    server = configuration.get("controlPlaneEndpoint") or address
    server = server if ":" in server else f"{server}:{local['bindPort']}"
    alternatives = (configuration.get("apiServer") or {}).get("certSANs") or []
    names = [server.rpartition(":")[0], "kubernetes", registration["name"], *map(str, alternatives)]
    files.certificates(configuration, [*names, local["advertiseAddress"]])
    authority = node.at(f"{configuration['certificatesDir']}/ca.crt").read_text()
    files.kubeconfigs(authority, f"https://{server}", f"https://{address}", registration["name"])
    files.manifests(configuration, local)
    kubelet = config.kubelet(documents, configuration)
    files.kubelet(kubelet, registration)
    timeouts = init.get("timeouts") or {}
    node.say(
        "[wait-control-plane] Waiting for the kubelet to boot up the control plane as static Pods "
        f'from directory "{files.MANIFESTS}"'
    )
    wait_for_kubelet(kubelet, timeouts)
    etcd = Etcd.of(configuration)
    wait_for_server(address, timeouts)

    node.say('[upload-config] Storing the configuration used in ConfigMap "kubeadm-config" in the '
             f'"{SYSTEM}" Namespace')  # fmt: skip
    etcd.put(f"configmaps/{SYSTEM}/kubeadm-config", configuration)
    node.say(f'[kubelet] Creating a ConfigMap "kubelet-config" in namespace {SYSTEM} with the '
             "configuration for the kubelets in the cluster")  # fmt: skip
    etcd.put(f"configmaps/{SYSTEM}/kubelet-config", kubelet)
    key = key or init.get("certificateKey")
    if upload:
        key = store_certificates(etcd, configuration, key)
    else:
        node.say("[upload-certs] Skipping phase. Please see --upload-certs")
    mark(registration["name"], timeouts)
    given = [str(each["token"]) for each in init.get("bootstrapTokens") or []]
    for token in given or [tokens.new()]:
        node.say(f"[bootstrap-token] Using token: {token}")
        tokens.keep(etcd, token)
        info = {"server": f"https://{server}", "ca": authority}
        etcd.put("configmaps/kube-public/cluster-info", info)
        _show(token, server, authority, key if upload else None, configuration)


def pull_images(endpoint: str) -> None:
    """Say what is said before images are pulled; the lab has none to pull."""
    node.say("[preflight] Pulling images required for setting up a Kubernetes cluster")
    node.say(
        "[preflight] This might take a minute or two, depending on the speed of your internet "
        "connection"
    )
    compare_sandbox_image(endpoint)


def compare_sandbox_image(endpoint: str) -> None:
    """Warn if the runtime's pods have another pause image than kubeadm's."""
    image = node.sandbox_image(endpoint)
    if image is not None and image != release.PAUSE_IMAGE:
        advice = "to use" if release.MINOR >= 30 else "that using"
        node.warn(
            f'detected that the sandbox image "{image}" of the container runtime is inconsistent '
            f"with that used by kubeadm. It is recommended {advice} "
            f'"{release.PAUSE_IMAGE}" as the CRI sandbox image.'
        )


def wait_for_kubelet(kubelet: dict[str, Any], timeouts: dict[str, str]) -> None:
    """Wait until kubelet is healthy; fatal after timeouts.kubeletHealthCheck (4m)."""
    url = f"http://{kubelet['healthzBindAddress']}:{kubelet['healthzPort']}/healthz"
    node.say(f"[kubelet-check] Waiting for a healthy kubelet at {url}. This can take up to 4m0s")
    deadline = time.monotonic() + seconds(timeouts.get("kubeletHealthCheck"))
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                break
        except OSError as error:
            problem = error
        if time.monotonic() > deadline:
            node.say(
                "\nUnfortunately, an error has occurred, likely caused by:\n"
                "\t- The kubelet is not running\n"
                "\t- The kubelet is unhealthy due to a misconfiguration of the node in some way "
                "(required cgroups disabled)\n\n"
                "If you are on a systemd-powered system, you can try to troubleshoot the error "
                "with the following commands:\n"
                "\t- 'systemctl status kubelet'\n\t- 'journalctl -xeu kubelet'\n"
            )
            raise Fatal(
                "error execution phase wait-control-plane: failed while waiting for the kubelet to "
                f"start: The HTTP call equal to 'curl -sSL {url}' returned error: {problem}"
            )
        time.sleep(0.3)
    node.say("[kubelet-check] The kubelet is healthy")


def wait_for_server(address: str, timeouts: dict[str, str]) -> None:
    """Wait until this node's API server answers; fatal after controlPlaneComponentHealthCheck."""
    node.say(
        "[control-plane-check] Waiting for healthy control plane components. This can take up to "
        "4m0s"
    )
    url = f"https://{address}/livez"
    node.say(f"[control-plane-check] Checking kube-apiserver at {url}")
    deadline = time.monotonic() + seconds(timeouts.get("controlPlaneComponentHealthCheck"))
    while True:
        try:
            status = cluster.status(address, "/livez")
            if status == 200:
                break
            problem = f"kube-apiserver check failed at {url}: status {status}"
        except OSError as error:
            problem = f"kube-apiserver check failed at {url}: {error}"
        if time.monotonic() > deadline:
            raise Fatal(
                "error execution phase wait-control-plane: failed while waiting for the control "
                f"plane to start: {problem}"
            )
        time.sleep(0.5)
    node.say("[control-plane-check] kube-apiserver is healthy")


def seconds(duration: str | None) -> float:
    """Return how long a health check may take: a duration of Go's, four minutes without one."""
    return _HEALTH_SECONDS if duration is None else node.seconds(duration)


def mark(name: str, timeouts: dict[str, str]) -> None:
    """Label a node as a controller. The real one also taints it, which the lab's API cannot."""
    labels = ("node-role.kubernetes.io/control-plane",
              "node.kubernetes.io/exclude-from-external-load-balancers")  # fmt: skip
    node.say(f"[mark-control-plane] Marking the node {name} as control-plane by adding the labels: "
             f"[{' '.join(labels)}]")  # fmt: skip
    client = api.Client(f"{files.ETC}/admin.conf")
    patch = {"metadata": {"labels": dict.fromkeys(labels, "")}}
    patience = node.seconds(timeouts.get("kubernetesAPICall") or "1m")
    path = f"/api/v1/nodes/{name}"
    done = api.patiently(lambda: client.ask(path, patch) is not None, patience)
    if isinstance(done, api.Unanswered):
        raise Fatal(
            "error execution phase mark-control-plane: error applying control-plane label and "
            f"taints: {done}"
        )


def upload_certs(path: str | None, key: str | None, *, upload: bool) -> None:
    """Do what ``kubeadm init phase upload-certs`` does.

    Without the cluster's configuration kubeadm takes its defaults, and so etcd for its own: what
    it stores then has nothing of an external etcd, and controllers cannot join with it.
    """
    if not upload:
        node.say("[upload-certs] Skipping phase. Please see --upload-certs")
        return
    if path is None:
        node.warn(
            "could not fetch a Kubernetes version from the internet: unable to get URL "
            '"https://dl.k8s.io/release/stable-1.txt"'
        )
        node.warn(f"falling back to the local client version: v{release.VERSION}")
    documents = config.load(path, strict=False) if path else {}
    init, configuration = config.initial(documents, detect=lambda: node.SOCKETS[0])
    api.administrator()
    store_certificates(Etcd.linked(), configuration, key or init.get("certificateKey"))


def store_certificates(etcd: Etcd, configuration: dict[str, Any], key: str | None) -> str:
    """Store what controllers share in a Secret; return the key that opens it."""
    node.say(f'[upload-certs] Storing the certificates in Secret "kubeadm-certs" in the "{SYSTEM}" '
             "Namespace")  # fmt: skip
    key = key or secrets.token_hex(32)
    folder = configuration["certificatesDir"]
    paths = {name: f"{folder}/{name}" for name in files.SHARED}
    data = {}
    for name, path in {**paths, **files.external_etcd(configuration)}.items():
        file = node.at(path)
        # What is not there is stored as nothing, without a word
        content = file.read_bytes() if file.exists() else b""
        data[name] = base64.b64encode(content).decode()
    # The real one encrypts with the key; here the Secret only knows whose it is
    secret = {"data": data, "key": hashlib.sha256(key.encode()).hexdigest()}
    etcd.put(f"secrets/{SYSTEM}/kubeadm-certs", secret)
    node.say(f"[upload-certs] Using certificate key:\n{key}")
    return key


def _show(
    token: str, server: str, authority: str, key: str | None, configuration: dict[str, Any]
) -> None:
    join = f"kubeadm join {server} --token {token} \\\n"
    join += f"\t--discovery-token-ca-cert-hash {cluster.fingerprint(authority)} "
    text = _DONE
    if configuration.get("controlPlaneEndpoint"):
        if key is not None:
            text += "You can now join any number of control-plane nodes running the following "
            text += f"command on each as root:\n\n  {join}\\\n\t--control-plane --certificate-key "
            text += f"{key}\n{_KEY_IS_SECRET}"
        else:
            text += "You can now join any number of control-plane nodes by copying certificate "
            text += "authorities\nand service account keys on each node and then running the "
            text += f"following as root:\n\n  {join}\\\n\t--control-plane\n\n"
    text += "Then you can join any number of worker nodes by running the following on each as "
    node.say(f"{text}root:\n\n{join}")
