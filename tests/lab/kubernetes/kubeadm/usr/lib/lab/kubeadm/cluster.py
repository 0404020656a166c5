"""What the cluster knows: ConfigMaps and Secrets of kubeadm, and the API server that has them.

The lab's API server keeps no such objects. So they are read and written where it would have put
them: in etcd, below ``/registry``, as JSON, through etcd's own gateway (``/v3/kv``). `init` uses
the endpoints and certificates of its configuration, as the API server does. Who joins has none, and
uses what the lab put below `LINK`; but the API has to answer at its address before.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import yaml

from . import node
from .node import Fatal

LINK = "/usr/lib/lab/cluster"
"""The lab's way to the cluster: its CA, which every lab has from its start, and endpoints and a
client of etcd."""

SYSTEM = "kube-system"

STORE = "/var/lib/lab-etcd"
"""What the lab's API servers show."""

_SHOWN = {
    f"configmaps/{SYSTEM}/kubeadm-config": "ClusterConfiguration",
    f"configmaps/{SYSTEM}/kubelet-config": "kubelet",
}
"""ConfigMaps that the API shows, with the key of the document that each has."""

_SECONDS = 10


@dataclass(frozen=True)
class Etcd:
    """A way to etcd: its endpoints (URLs), and files of a CA and of a client."""

    endpoints: Sequence[str]
    ca: str = ""
    certificate: str = ""
    key: str = ""

    @classmethod
    def of(cls, cluster: dict[str, Any]) -> Etcd:
        """Return the external etcd of a ClusterConfiguration."""
        external = cluster["etcd"].get("external")
        if external is None:
            raise Fatal("the lab's stand-in for kubeadm has no etcd of its own; set etcd.external")
        names = ("caFile", "certFile", "keyFile")
        return cls(external.get("endpoints") or [], *(external.get(each) or "" for each in names))

    @classmethod
    def linked(cls) -> Etcd:
        """Return the cluster's etcd as the lab knows it."""
        file = node.at(f"{LINK}/endpoints")
        if not file.exists():
            raise Fatal(f"this lab has no etcd (no {file}); start it with: lab up --storage 3")
        names = ("etcd-ca.crt", "etcd-client.crt", "etcd-client.key")
        return cls(file.read_text().split(), *(f"{LINK}/{name}" for name in names))

    def request(self, endpoint: str, path: str, body: object = None) -> dict[str, Any]:
        """Return etcd's answer, JSON, to GET, or to POST with a BODY; raises `OSError`."""
        context = None
        if endpoint.startswith("https:"):
            context = ssl.create_default_context(cafile=node.at(self.ca) if self.ca else None)
            if self.certificate:
                context.load_cert_chain(node.at(self.certificate), node.at(self.key))
        status, answer = request(endpoint, path, context, body)
        if status != 200:
            raise OSError(f"server responded with non-successful status: {status}")
        decoded: dict[str, Any] = json.loads(answer)
        return decoded

    def _any(self, path: str, body: object) -> dict[str, Any]:
        problem: Exception = OSError("no endpoints")
        for endpoint in self.endpoints:
            try:
                return self.request(endpoint, path, body)
            except (OSError, ValueError) as error:
                problem = error
        raise Fatal(f"etcd does not answer: {problem}")

    def get(self, key: str) -> Any:
        """Return the object at KEY, such as ``configmaps/kube-system/kubeadm-config``, or None.

        Clients of the API may have edited what the API shows, so that goes first.
        """
        if (shown := _edited(key)) is not None:
            return shown
        answer = self._any("/v3/kv/range", {"key": _encode(f"/registry/{key}")})
        found = answer.get("kvs")
        return json.loads(base64.b64decode(found[0]["value"])) if found else None

    def below(self, prefix: str) -> dict[str, Any]:
        """Return all objects whose key begins with PREFIX, by key."""
        first = f"/registry/{prefix}"
        ends = {"key": _encode(first), "range_end": _encode(first[:-1] + chr(ord(first[-1]) + 1))}
        found = self._any("/v3/kv/range", ends).get("kvs") or []
        decoded = {base64.b64decode(each["key"]).decode(): each["value"] for each in found}
        return {
            key.removeprefix("/registry/"): json.loads(base64.b64decode(value))
            for key, value in sorted(decoded.items())
        }

    def delete(self, key: str) -> bool:
        """Remove the object at KEY; return whether it was there."""
        answer = self._any("/v3/kv/deleterange", {"key": _encode(f"/registry/{key}")})
        return bool(int(answer.get("deleted") or 0))

    def put(self, key: str, value: object) -> None:
        """Write the object at KEY. The API shows some of them too."""
        pair = {"key": _encode(f"/registry/{key}"), "value": _encode(json.dumps(value))}
        self._any("/v3/kv/put", pair)
        if key in _SHOWN:
            _show(key, value)


def _edited(key: str) -> Any:
    """Return the document of a ConfigMap that the API servers show, None if they show none."""
    if key not in _SHOWN or not node.at(STORE).exists():
        return None
    from control_plane.store import Store  # type: ignore[import-not-found]

    with Store(node.at(STORE)).transaction() as objects:
        return yaml.safe_load(objects[key]["data"][_SHOWN[key]]) if key in objects else None


def _show(key: str, value: object) -> None:
    """Have the API servers show a ConfigMap with a document."""
    if not node.at(STORE).exists():
        return
    from control_plane.store import Store

    _, namespace, name = key.split("/")
    shown = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {_SHOWN[key]: yaml.safe_dump(value)},
    }
    with Store(node.at(STORE)).transaction() as objects:
        objects.put(key, shown)


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def request(
    url: str,
    path: str,
    context: ssl.SSLContext | None,
    body: object = None,
    *,
    method: str = "POST",
    kind: str = "application/json",
) -> tuple[int, bytes]:
    """Return status and body of an answer to GET, or to METHOD with a BODY; raises `OSError`."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    host, port = parts.hostname or "", parts.port
    if context is None:
        connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request(method, path, json.dumps(body), {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"malformed HTTP response: {error!r}") from None
    finally:
        connection.close()


def fingerprint(certificate: str) -> str:
    """Return the pin of a CA, as kubeadm prints it: ``sha256:`` and the hash of its public key."""
    public = node.openssl("x509", "-pubkey", "-noout", give=certificate.encode())
    der = node.openssl("pkey", "-pubin", "-outform", "DER", give=public)
    digest = node.openssl("dgst", "-sha256", "-r", give=der).split()[0].decode()
    return f"sha256:{digest}"


def status(server: str, path: str, certificate: str | None = None) -> int:
    """Return the HTTP status of PATH at the API server, ``k8s:6443``; raises `OSError`.

    With the CERTIFICATE of a CA the server's own has to be of that.
    """
    context = ssl.create_default_context(cadata=certificate)
    if certificate is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return request(f"https://{server}", path, context)[0]


def is_valid(known: dict[str, Any]) -> bool:
    """Whether a bootstrap token has not expired. Real controllers remove one that has."""
    ends = known["expiration"]
    return ends is None or ends > time.time()


def discover(token: dict[str, Any], seconds: float) -> tuple[Etcd, str, str]:
    """Return etcd, the CA's certificate and the API's endpoint, as cluster-info has them.

    As the real one: the API has to answer at the endpoint, the token to be the cluster's, the CA
    one of those that are pinned, and the API's certificate of that CA.
    """
    endpoint = token["apiServerEndpoint"]
    etcd = Etcd.linked()
    identity = "couldn't validate the identity of the API Server: "
    url = f"https://{endpoint}/api/v1/namespaces/kube-public/configmaps/cluster-info?timeout=10s"
    name, _, secret = token["token"].partition(".")
    deadline = time.monotonic() + seconds
    while True:
        try:
            status(endpoint, "/api/v1/namespaces/kube-public/configmaps/cluster-info")
            info = etcd.get("configmaps/kube-public/cluster-info")
            known = etcd.get(f"secrets/{SYSTEM}/bootstrap-token-{name}")
            if info and known and is_valid(known):
                break
            problem = (
                "could not find a JWS signature in the cluster-info ConfigMap for token ID "
                f'"{name}"'
            )
        except OSError as error:
            problem = f'failed to request the cluster-info ConfigMap: Get "{url}": {why(error)}'
        if time.monotonic() > deadline:
            raise Fatal(f"error execution phase preflight: {identity}{problem}")
        time.sleep(0.5)
    if known["token-secret"] != secret:
        raise Fatal(
            f"error execution phase preflight: {identity}failed to verify JWS signature of "
            "received cluster info object, can't trust this API Server"
        )
    certificate: str = info["ca"]
    pins = token.get("caCertHashes") or []
    if pins:
        if fingerprint(certificate) not in pins:
            raise Fatal(
                f"error execution phase preflight: {identity}cluster CA found in cluster-info "
                "ConfigMap is invalid: none of the public keys "
                f'"{fingerprint(certificate)}" are pinned'
            )
        try:
            status(endpoint, "/readyz", certificate)
        except OSError as error:
            raise Fatal(
                f'error execution phase preflight: {identity}Get "{url}": {why(error)}'
            ) from None
    return etcd, certificate, str(info["server"])


def why(error: OSError) -> str:
    """Return an error of a connection in words like Go's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {error.verify_message}"
    if isinstance(error, socket.gaierror):
        return "dial tcp: lookup: no such host"
    text = str(error.strerror or error).lower()
    return f"dial tcp: connect: {re.sub(r'^timed out$', 'i/o timeout', text)}"
