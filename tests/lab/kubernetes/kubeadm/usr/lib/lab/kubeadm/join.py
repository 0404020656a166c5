"""``kubeadm join``: of workers and of controllers, with a file or with flags."""

from __future__ import annotations

import base64
import hashlib
from argparse import Namespace
from typing import Any

from . import cluster, config, files, init, node, preflight
from .cluster import SYSTEM, Etcd
from .node import Fatal

_WORKER_DONE = """
This node has joined the cluster:
* Certificate signing request was sent to apiserver and a response was received.
* The Kubelet was informed of the new secure connection details.

Run 'kubectl get nodes' on the control-plane to see this node join the cluster.
"""
_CONTROLLER_DONE = """
This node has joined the cluster and a new control plane instance was created:

* Certificate signing request was sent to apiserver and approval was received.
* The Kubelet was informed of the new secure connection details.
* Control plane label and taint were applied to the new node.
* The Kubernetes control plane instances scaled up.


To start administering your cluster from this node, you need to run the following as a regular user:

\tmkdir -p $HOME/.kube
\tsudo cp -i /etc/kubernetes/admin.conf $HOME/.kube/config
\tsudo chown $(id -u):$(id -g) $HOME/.kube/config

Run 'kubectl get nodes' to see this node join the cluster.
"""
_DISCOVERY_SECONDS = 300.0


def run(options: Namespace) -> None:
    """Have this node join the cluster."""
    join = config.joining(_given(options), detect=node.detect_socket)
    registration, control = join["nodeRegistration"], join.get("controlPlane")
    ignored = options.ignore_preflight_errors + (registration.get("ignorePreflightErrors") or [])
    node.say("[preflight] Running pre-flight checks")
    preflight.root(ignored)
    preflight.for_join(join, ignored)
    timeouts = join.get("timeouts") or {}
    wanted = timeouts.get("discovery") or join["discovery"].get("timeout")
    token = join["discovery"].get("bootstrapToken")
    if token is None:
        raise Fatal("the lab's stand-in for kubeadm discovers a cluster by a token only")
    patience = _DISCOVERY_SECONDS if wanted is None else init.seconds(wanted)
    etcd, authority, server = cluster.discover(token, patience)
    node.say('[preflight] Reading configuration from the "kubeadm-config" ConfigMap in namespace '
             f'"{SYSTEM}"...')  # fmt: skip
    configuration = etcd.get(f"configmaps/{SYSTEM}/kubeadm-config")
    kubelet = etcd.get(f"configmaps/{SYSTEM}/kubelet-config")
    try:
        config.check_version(str(configuration["kubernetesVersion"]))
    except Fatal as error:
        raise Fatal(
            "error execution phase preflight: unable to fetch the kubeadm-config ConfigMap: "
            f"{error}"
        ) from None
    if control is not None:
        _prepare(etcd, join, configuration, ignored)
    if not node.at(join["caCertPath"]).exists():
        node.write(join["caCertPath"], authority, 0o644)
    name = registration["name"]
    if control is not None:
        local = control["localAPIEndpoint"]
        address = f"{local['advertiseAddress']}:{local['bindPort']}"
        files.certificates(configuration, [name, local["advertiseAddress"]])
        files.kubeconfigs(authority, server, f"https://{address}", name)
        files.manifests(configuration, local)
    else:
        # The real kubelet writes it, once its certificate was signed
        files.kubeconfig("kubelet.conf", authority, server, name)
    files.kubelet(kubelet, registration)
    init.wait_for_kubelet(kubelet, timeouts)
    if control is None:
        node.say(_WORKER_DONE)
        return
    init.wait_for_server(address, timeouts)
    init.mark(name, timeouts)
    node.say(_CONTROLLER_DONE)


def _given(options: Namespace) -> dict[str, Any]:
    """Return JoinConfiguration as a file or the flags have it."""
    if options.config:
        documents = config.load(options.config, strict=False)
        if "JoinConfiguration" not in documents:
            raise Fatal(
                f'no JoinConfiguration found in config file "{options.config}" or the content is '
                "invalid"
            )
        return documents["JoinConfiguration"]
    given: dict[str, Any] = {
        "nodeRegistration": {"name": options.node_name, "criSocket": options.cri_socket}
    }
    if options.endpoint:
        token = {
            "apiServerEndpoint": options.endpoint,
            "token": options.discovery_token or options.token,
            "caCertHashes": options.discovery_token_ca_cert_hash,
            "unsafeSkipCAVerification": options.discovery_token_unsafe_skip_ca_verification,
        }
        given["discovery"] = {"bootstrapToken": token}
    if options.control_plane:
        local = {"advertiseAddress": options.apiserver_advertise_address}
        given["controlPlane"] = {
            "certificateKey": options.certificate_key,
            "localAPIEndpoint": {key: value for key, value in local.items() if value},
        }
    return given


def _prepare(
    etcd: Etcd, join: dict[str, Any], configuration: dict[str, Any], ignored: list[str]
) -> None:
    """Check a node that shall be a controller, and give it what controllers share."""
    if not configuration.get("controlPlaneEndpoint"):
        raise Fatal(
            "error execution phase preflight: \nOne or more conditions for hosting a new control "
            "plane instance is not satisfied.\n\nunable to add a new control plane instance to a "
            "cluster that doesn't have a stable controlPlaneEndpoint address"
        )
    key = join["controlPlane"].get("certificateKey")
    node.say("[preflight] Running pre-flight checks before initializing the new control plane "
             "instance")  # fmt: skip
    preflight.for_controller(join, configuration, ignored, downloads=bool(key))
    init.pull_images(join["nodeRegistration"]["criSocket"])
    folder = configuration["certificatesDir"]
    if key:
        _download(etcd, configuration, key)
    elif not node.at(f"{folder}/ca.crt").exists():
        raise Fatal(
            "error execution phase preflight: \nOne or more conditions for hosting a new control "
            "plane instance is not satisfied.\n\n[failure loading certificate for CA: couldn't "
            f"load the certificate file {folder}/ca.crt: open {folder}/ca.crt: no such file or "
            "directory]\n\nPlease ensure that:\n* The cluster has a stable controlPlaneEndpoint "
            "address.\n* The certificates that must be shared among control plane instances are "
            "provided."
        )


def _download(etcd: Etcd, configuration: dict[str, Any], key: str) -> None:
    """Write what is in the Secret, over what is there (copycerts.go)."""
    node.say(f'[download-certs] Downloading the certificates in Secret "kubeadm-certs" in the '
             f'"{SYSTEM}" Namespace')  # fmt: skip
    failed = "error execution phase control-plane-prepare/download-certs: error downloading certs: "
    secret = etcd.get(f"secrets/{SYSTEM}/kubeadm-certs")
    if secret is None:
        raise Fatal(
            f'{failed}error downloading the secret: Secret "kubeadm-certs" was not found in the '
            f'"{SYSTEM}" Namespace. This Secret might have expired. Please, run `kubeadm init '
            "phase upload-certs --upload-certs` on a control plane to generate a new one"
        )
    if secret["key"] != hashlib.sha256(key.encode()).hexdigest():
        raise Fatal(
            f"{failed}error decoding secret data with provided key: cipher: message "
            "authentication failed"
        )
    folder = configuration["certificatesDir"]
    paths = {name: f"{folder}/{name}" for name in files.SHARED}
    for name, path in {**paths, **files.external_etcd(configuration)}.items():
        if name not in secret["data"]:
            raise Fatal(
                f"{failed}the Secret does not include the required certificate or key - name: "
                f"{name}, path: {path}"
            )
        content = base64.b64decode(secret["data"][name])
        if content:
            node.write(path, content, 0o600 if b"PRIVATE KEY" in content else 0o644)
    node.say(f'[download-certs] Saving the certificates to the folder: "{folder}"')
