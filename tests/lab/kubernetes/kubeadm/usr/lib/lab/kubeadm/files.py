"""The files that kubeadm writes: certificates, kubeconfigs, manifests, kubelet's configuration.

They are laid out as the real one's. The cluster's CA is the lab's, of which the API servers'
certificates are; the real one would make one.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml

from . import cluster, config, node, release
from .node import Fatal

ETC = "/etc/kubernetes"
MANIFESTS = f"{ETC}/manifests"
KUBELET = "/var/lib/kubelet"
KUBECONFIGS = (
    "admin.conf",
    *(["super-admin.conf"] if release.MINOR >= 29 else []),
    "kubelet.conf",
    "bootstrap-kubelet.conf",
    "controller-manager.conf",
    "scheduler.conf",
)
SHARED = ("ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.pub", "sa.key")
"""What all controllers have to have in common, in certificatesDir."""

_ADMINISTRATORS = "kubeadm:cluster-admins" if release.MINOR >= 29 else "system:masters"
_USERS = {
    "admin.conf": ("kubernetes-admin", _ADMINISTRATORS),
    "super-admin.conf": ("kubernetes-super-admin", "system:masters"),
    "controller-manager.conf": ("system:kube-controller-manager", ""),
    "scheduler.conf": ("system:kube-scheduler", ""),
}
"""The user, and the user's group, of the certificate in each kubeconfig."""

ISSUERS = {
    "apiserver": "ca",
    "apiserver-kubelet-client": "ca",
    "front-proxy-client": "front-proxy-ca",
}
"""The certificates of a controller, and the CA of each."""

_PAIR = (".crt", ".key")
_CA_FOLDERS = {
    "ca-certs": "/etc/ssl/certs",
    "etc-ca-certificates": "/etc/ca-certificates",
    "usr-local-share-ca-certificates": "/usr/local/share/ca-certificates",
    "usr-share-ca-certificates": "/usr/share/ca-certificates",
}


def external_etcd(configuration: dict[str, Any]) -> dict[str, str]:
    """Return what of etcd is shared between controllers: the Secret's entry to the path."""
    external = configuration["etcd"].get("external")
    if external is None:
        return {"etcd-ca.crt": "/etc/kubernetes/pki/etcd/ca.crt",
                "etcd-ca.key": "/etc/kubernetes/pki/etcd/ca.key"}  # fmt: skip
    names = {"ca.crt": "caFile", ".crt": "certFile", ".key": "keyFile"}
    entries = {
        f"external-etcd{'-' if end == 'ca.crt' else ''}{end}": external.get(field) or ""
        for end, field in names.items()
    }
    return {entry: path for entry, path in entries.items() if path}


def certificates(configuration: dict[str, Any], names: list[str]) -> None:
    """Write what is not there yet of the certificates of a controller; NAMES are its server's."""
    folder = configuration["certificatesDir"]
    node.say(f'[certs] Using certificateDir folder "{folder}"')
    for name in ("ca", "front-proxy-ca"):
        if node.at(f"{folder}/{name}.crt").exists():
            node.say(f"[certs] Using existing {name} certificate authority")
            continue
        node.say(f'[certs] Generating "{name}" certificate and key')
        if name == "ca":
            pair = [node.at(f"{cluster.LINK}/ca{suffix}").read_bytes() for suffix in _PAIR]
        else:
            pair = [*_issue("", name)]
        _keep_pair(f"{folder}/{name}", *pair)
    for name in ISSUERS:
        if node.at(f"{folder}/{name}.crt").exists():
            continue
        node.say(f'[certs] Generating "{name}" certificate and key')
        server = names if name == "apiserver" else []
        if server:
            shown = ", ".join(server)
            node.say(f"[certs] apiserver serving cert is signed for DNS names and IPs [{shown}]")
        certificate(folder, name, server)
    if not node.at(f"{folder}/sa.key").exists():
        node.say('[certs] Generating "sa" key and public key')
        key = _key()
        node.write(f"{folder}/sa.key", key)
        node.write(f"{folder}/sa.pub", node.openssl("pkey", "-pubout", give=key))


def certificate(folder: str, name: str, server: list[str]) -> None:
    """Write a certificate of a controller; SERVER are the names of one that is for a server."""
    issuer = ISSUERS[name]
    user = "kube-apiserver" + name.removeprefix("apiserver") if issuer == "ca" else name
    group = _ADMINISTRATORS if name == "apiserver-kubelet-client" else ""
    _keep_pair(f"{folder}/{name}", *_issue(f"{folder}/{issuer}", user, group, server))


def kubeconfigs(authority: str, server: str, local: str, name: str) -> None:
    """Write the kubeconfigs of a controller.

    + authority: the CA's certificate, in PEM
    + server: the API's address for all, ``https://k8s:6443``
    + local: its address on this node, for the components of this node
    + name: the node's
    """
    node.say(f'[kubeconfig] Using kubeconfig folder "{ETC}"')
    for file in KUBECONFIGS:
        if file == "bootstrap-kubelet.conf":
            continue
        node.say(f'[kubeconfig] Writing "{file}" kubeconfig file')
        at = local if file in ("controller-manager.conf", "scheduler.conf") else server
        kubeconfig(file, authority, at, name)


def kubeconfig(file: str, authority: str, server: str, name: str) -> None:
    """Write one kubeconfig; kubelet's names the certificate that kubelet keeps renewing."""
    user, group = _USERS.get(file, (f"system:node:{name}", "system:nodes"))
    certificate, key = _issue(f"{cluster.LINK}/ca", user, group)
    if file == "kubelet.conf":
        current = f"{KUBELET}/pki/kubelet-client-current.pem"
        credentials = {"client-certificate": current, "client-key": current}
        node.write(current, certificate + key)
    else:
        credentials = {
            "client-certificate-data": _encode(certificate),
            "client-key-data": _encode(key),
        }
    context = {"cluster": "kubernetes", "user": user}
    certificate_data = _encode(authority.encode())
    content = {
        "apiVersion": "v1",
        "clusters": [
            {
                "cluster": {"certificate-authority-data": certificate_data, "server": server},
                "name": "kubernetes",
            }
        ],
        "contexts": [{"context": context, "name": f"{user}@kubernetes"}],
        "current-context": f"{user}@kubernetes",
        "kind": "Config",
        "users": [{"name": user, "user": credentials}],
    }
    node.write(f"{ETC}/{file}", config.dump(content))


def manifests(configuration: dict[str, Any], endpoint: dict[str, Any]) -> None:
    """Write the static pods of a controller."""
    node.say(f'[control-plane] Using manifest folder "{MANIFESTS}"')
    for name, pod in pods(configuration, endpoint).items():
        node.say(f'[control-plane] Creating static Pod manifest for "{name}"')
        node.write(f"{MANIFESTS}/{name}.yaml", pod)


def pods(configuration: dict[str, Any], endpoint: dict[str, Any]) -> dict[str, str]:
    """Return the manifests of a controller's static pods, by the component's name."""
    pki = configuration["certificatesDir"]
    networking = configuration["networking"]
    found = {}
    for name, flags, volumes in (
        ("kube-apiserver", _server_flags(configuration, endpoint), _server_volumes(configuration)),
        (
            "kube-controller-manager",
            {
                "bind-address": "127.0.0.1",
                "cluster-name": configuration["clusterName"],
                "kubeconfig": f"{ETC}/controller-manager.conf",
                "leader-elect": "true",
                "root-ca-file": f"{pki}/ca.crt",
                "service-account-private-key-file": f"{pki}/sa.key",
                "use-service-account-credentials": "true",
                **(
                    {
                        "allocate-node-cidrs": "true",
                        "cluster-cidr": networking["podSubnet"],
                        "service-cluster-ip-range": networking["serviceSubnet"],
                    }
                    if networking.get("podSubnet")
                    else {}
                ),
            },
            {
                "k8s-certs": pki,
                **_present(_CA_FOLDERS),
                "kubeconfig": f"{ETC}/controller-manager.conf",
            },
        ),
        (
            "kube-scheduler",
            {
                "bind-address": "127.0.0.1",
                "kubeconfig": f"{ETC}/scheduler.conf",
                "leader-elect": "true",
            },
            {"kubeconfig": f"{ETC}/scheduler.conf"},
        ),
    ):
        found[name] = config.dump(_pod(name, flags, volumes, configuration))
    return found


def _server_flags(configuration: dict[str, Any], endpoint: dict[str, Any]) -> dict[str, str]:
    pki = configuration["certificatesDir"]
    external = configuration["etcd"].get("external") or {}
    etcd = {
        "etcd-cafile": external.get("caFile"),
        "etcd-certfile": external.get("certFile"),
        "etcd-keyfile": external.get("keyFile"),
        "etcd-servers": ",".join(external.get("endpoints") or []),
    }
    return {
        "advertise-address": endpoint["advertiseAddress"],
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "client-ca-file": f"{pki}/ca.crt",
        "enable-admission-plugins": "NodeRestriction",
        "enable-bootstrap-token-auth": "true",
        **{name: value for name, value in etcd.items() if value},
        "kubelet-client-certificate": f"{pki}/apiserver-kubelet-client.crt",
        "kubelet-client-key": f"{pki}/apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
        "secure-port": str(endpoint["bindPort"]),
        "service-account-issuer": "https://kubernetes.default.svc."
        + configuration["networking"]["dnsDomain"],
        "service-account-key-file": f"{pki}/sa.pub",
        "service-account-signing-key-file": f"{pki}/sa.key",
        "service-cluster-ip-range": configuration["networking"]["serviceSubnet"],
        "tls-cert-file": f"{pki}/apiserver.crt",
        "tls-private-key-file": f"{pki}/apiserver.key",
    }


def _server_volumes(configuration: dict[str, Any]) -> dict[str, str]:
    """Return the folders of the node that the API server's pod sees, by name.

    For external etcd they are the whole folders of its files (``getEtcdCertVolumes`` in
    cmd/kubeadm/app/phases/controlplane/volumes.go), unless they are seen already.
    """
    pki = configuration["certificatesDir"]
    external = configuration["etcd"].get("external") or {}
    folders: set[str] = set()
    for field in ("caFile", "certFile", "keyFile"):
        folder = os.path.dirname(external.get(field) or "")
        if not folder or folder.startswith(("/etc/ssl/certs", "/etc/pki", pki)):
            continue
        if any(folder.startswith(other) for other in folders):
            continue
        folders = {other for other in folders if not other.startswith(folder)} | {folder}
    etcd = {f"etcd-certs-{index}": folder for index, folder in enumerate(sorted(folders))}
    return {"k8s-certs": pki, **_present(_CA_FOLDERS), **etcd}


def _present(folders: dict[str, str]) -> dict[str, str]:
    return {name: path for name, path in folders.items() if node.at(path).is_dir()}


def _pod(
    name: str, flags: dict[str, str], volumes: dict[str, str], configuration: dict[str, Any]
) -> dict[str, Any]:
    image = f"{configuration['imageRepository']}/{name}:{configuration['kubernetesVersion']}"
    container = {
        "command": [name, *(f"--{flag}={flags[flag]}" for flag in sorted(flags))],
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "name": name,
        "volumeMounts": [
            {"mountPath": path, "name": volume, "readOnly": True}
            for volume, path in sorted(volumes.items())
        ],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "labels": {"component": name, "tier": "control-plane"},
            "name": name,
            "namespace": "kube-system",
        },
        "spec": {
            "containers": [container],
            "hostNetwork": True,
            "priorityClassName": "system-node-critical",
            "volumes": [
                {
                    "hostPath": {
                        "path": path,
                        "type": "FileOrCreate" if path.endswith(".conf") else "DirectoryOrCreate",
                    },
                    "name": volume,
                }
                for volume, path in sorted(volumes.items())
            ],
        },
    }


def kubelet(configuration: dict[str, Any], registration: dict[str, Any]) -> None:
    """Write kubelet's configuration and flags, and restart it."""
    node.systemctl("stop", "kubelet")
    endpoint = registration["criSocket"]
    flags = config.arguments(registration["kubeletExtraArgs"])
    if release.LOCAL_CRI_SOCKET:
        instance = {
            "apiVersion": configuration["apiVersion"],
            "containerRuntimeEndpoint": endpoint,
            "kind": configuration["kind"],
        }
        path = f"{KUBELET}/instance-config.yaml"
        node.say(f'[kubelet-start] Writing kubelet configuration to file "{path}"')
        node.write(path, config.dump(instance), 0o600)
    else:
        flags.insert(0, f"--container-runtime-endpoint={endpoint}")
    if release.PAUSE_FLAG:
        flags.append(f"--pod-infra-container-image={release.PAUSE_IMAGE}")
    environment = f"{KUBELET}/kubeadm-flags.env"
    node.say(f'[kubelet-start] Writing kubelet environment file with flags to file "{environment}"')
    node.write(environment, f'KUBELET_KUBEADM_ARGS="{" ".join(flags)}"\n', 0o644)
    kubelet_configuration(configuration, endpoint)
    node.say("[kubelet-start] Starting the kubelet")
    node.systemctl("daemon-reload")
    node.systemctl("restart", "kubelet")


def kubelet_configuration(configuration: dict[str, Any], endpoint: str) -> None:
    """Write kubelet's configuration, with the runtime's ENDPOINT if it is said there."""
    if release.LOCAL_CRI_SOCKET:
        configuration = {**configuration, "containerRuntimeEndpoint": endpoint}
    path = f"{KUBELET}/config.yaml"
    node.say(f'[kubelet-start] Writing kubelet configuration to file "{path}"')
    node.write(path, config.dump(configuration), 0o644)


def runtime() -> str:
    """Return the runtime's endpoint that kubelet was given."""
    instance = node.at(f"{KUBELET}/instance-config.yaml")
    if instance.exists():
        return str(yaml.safe_load(instance.read_text())["containerRuntimeEndpoint"])
    flags = node.at(f"{KUBELET}/kubeadm-flags.env")
    found = re.search(
        r"--container-runtime-endpoint=([^\s\"]+)", flags.read_text() if flags.exists() else ""
    )
    if found is None:
        raise Fatal(f"could not find the runtime's endpoint in {KUBELET}")
    return found[1]


def _key() -> bytes:
    return node.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def _issue(
    issuer: str, user: str, group: str = "", server: list[str] | None = None
) -> tuple[bytes, bytes]:
    """Return a certificate and its key, in PEM.

    + issuer: path of the CA's pair without a suffix; "" for a CA that signs itself
    + user, group: common name and organisation
    + server: names and addresses, for a server's certificate; a client's without them
    """
    key = _key()
    names = [("IP:" if _is_address(name) else "DNS:") + name for name in server or []]
    lines = [
        "[req]",
        "distinguished_name = name",
        "x509_extensions = extensions",
        "[name]",
        "[extensions]",
        f"basicConstraints = critical, CA:{'FALSE' if issuer else 'TRUE'}",
        f"keyUsage = critical, digitalSignature{'' if issuer else ', keyCertSign'}",
        "subjectKeyIdentifier = hash",
        *([f"extendedKeyUsage = {'server' if server else 'client'}Auth"] if issuer else []),
        *([f"subjectAltName = {', '.join(names)}"] if names else []),
        *(["authorityKeyIdentifier = keyid"] if issuer else []),
    ]
    authority = ("-CA", str(node.at(f"{issuer}.crt")), "-CAkey", str(node.at(f"{issuer}.key")))
    subject = (f"/O={group}" if group else "") + f"/CN={user}"
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "openssl.cnf")
        settings.write_text("\n".join(lines))
        certificate = node.openssl(
            *("req", "-x509", "-new", "-key", "/dev/stdin", "-days", "365", "-subj", subject),
            *("-config", str(settings), *(authority if issuer else ())),
            give=key,
        )
    return certificate, key


def _keep_pair(path: str, certificate: bytes, key: bytes) -> None:
    node.write(f"{path}.crt", certificate, 0o644)
    node.write(f"{path}.key", key)


def _is_address(name: str) -> bool:
    return name.replace(".", "").isdecimal()


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
