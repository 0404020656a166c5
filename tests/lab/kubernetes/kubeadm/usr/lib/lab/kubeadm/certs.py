"""``kubeadm certs``: how long certificates last, and new ones before they end."""

from __future__ import annotations

import base64
import json
import re
import time
from calendar import timegm
from dataclasses import dataclass
from typing import Any

import yaml

from . import files, node
from .files import ETC, ISSUERS

_KUBECONFIGS = {
    "admin.conf": "embedded in the kubeconfig file for the admin to use and for kubeadm itself",
    "controller-manager.conf": "embedded in the kubeconfig file for the controller manager to use",
    "scheduler.conf": "embedded in the kubeconfig file for the scheduler manager to use",
    "super-admin.conf": "embedded in the kubeconfig file for the super-admin",
}
_CERTIFICATES = {
    "apiserver": "for serving the Kubernetes API",
    "apiserver-kubelet-client": "for the API server to connect to kubelet",
    "front-proxy-client": "for the front proxy client",
}
DESCRIPTIONS = {
    name: {**_KUBECONFIGS, **_CERTIFICATES}[name]
    for name in sorted({**_KUBECONFIGS, **_CERTIFICATES})
    if name in files.KUBECONFIGS or name in ISSUERS
}
"""What each certificate is for that kubeadm renews, in the order of the alphabet."""

COMPONENTS = {
    "kube-apiserver": tuple(ISSUERS),
    "kube-controller-manager": ("controller-manager.conf",),
    "kube-scheduler": ("scheduler.conf",),
}
"""The certificates that a component is given when it is upgraded."""

_AUTHORITIES = ("ca", "front-proxy-ca")


@dataclass(frozen=True)
class Expiration:
    """When a certificate ends; None if it is not there."""

    name: str
    authority: str
    seconds: float | None

    @property
    def ends(self) -> time.struct_time:
        return time.gmtime(self.seconds or 0)

    @property
    def left(self) -> int:
        return int((self.seconds or 0) - time.time())


def renew(configuration: dict[str, Any], name: str) -> bool:
    """Write a new certificate with the names of the old one; False if there is no old one."""
    folder = configuration["certificatesDir"]
    if name in ISSUERS:
        path = node.at(f"{folder}/{name}.crt")
        if not path.exists():
            return False
        files.certificate(folder, name, _names(path.read_bytes()))
        return True
    file = node.at(f"{ETC}/{name}")
    if not file.exists():
        return False
    server = yaml.safe_load(file.read_text())["clusters"][0]["cluster"]
    authority = base64.b64decode(server["certificate-authority-data"]).decode()
    files.kubeconfig(name, authority, server["server"], "")
    return True


def renew_all(configuration: dict[str, Any]) -> None:
    """Do what ``kubeadm certs renew all`` does."""
    node.say("")
    for name, what in DESCRIPTIONS.items():
        if renew(configuration, name):
            node.say(f"certificate {what} renewed")
        else:
            node.say(f"MISSING! certificate {what}")
    node.say(
        "\nDone renewing certificates. You must restart the kube-apiserver, "
        "kube-controller-manager, kube-scheduler and etcd, so that they can use the new "
        "certificates."
    )


def check(configuration: dict[str, Any], output: str | None) -> None:
    """Do what ``kubeadm certs check-expiration`` does."""
    folder = configuration["certificatesDir"]
    found = [Expiration(name, ISSUERS.get(name, ""), _end(folder, name)) for name in DESCRIPTIONS]
    authorities = [Expiration(name, "", _end(folder, name)) for name in _AUTHORITIES]
    if output == "json":
        node.say(json.dumps(_described(found, authorities), indent=4))
        return
    rows = [("CERTIFICATE", "EXPIRES", "RESIDUAL TIME", "CERTIFICATE AUTHORITY",
             "EXTERNALLY MANAGED")]  # fmt: skip
    rows += [(each.name, *_times(each), each.authority, "no") for each in found]
    node.table(rows)
    node.say("")
    more = [("CERTIFICATE AUTHORITY", "EXPIRES", "RESIDUAL TIME", "EXTERNALLY MANAGED")]
    node.table([*more, *((each.name, *_times(each), "no") for each in authorities)])


def _described(found: list[Expiration], authorities: list[Expiration]) -> dict[str, Any]:
    """Return the object of ``output.kubeadm.k8s.io``."""

    def one(each: Expiration) -> dict[str, Any]:
        return {
            "name": each.name,
            "expirationDate": None
            if each.seconds is None
            else time.strftime("%Y-%m-%dT%H:%M:%SZ", each.ends),
            "residualTime": 0 if each.seconds is None else each.left,
            "externallyManaged": False,
            **({"caName": each.authority} if each.authority else {}),
            **({"missing": True} if each.seconds is None else {}),
        }

    return {
        "kind": "CertificateExpirationInfo",
        "apiVersion": "output.kubeadm.k8s.io/v1alpha3",
        "certificates": [one(each) for each in found],
        "certificateAuthorities": [one(each) for each in authorities],
    }


def _times(each: Expiration) -> tuple[str, str]:
    if each.seconds is None:
        return f"!MISSING! {each.name}", ""
    days = each.left // 86400
    left = "<invalid>" if each.left < 0 else f"{days // 365}y" if days >= 730 else f"{days}d"
    return time.strftime("%b %d, %Y %H:%M UTC", each.ends), left


def _end(folder: str, name: str) -> float | None:
    """Return the time at which a certificate ends, in seconds since 1970."""
    file = node.at(f"{ETC}/{name}" if name.endswith(".conf") else f"{folder}/{name}.crt")
    if not file.exists():
        return None
    pem = file.read_bytes()
    if name.endswith(".conf"):
        user = yaml.safe_load(pem)["users"][0]["user"]
        pem = base64.b64decode(user["client-certificate-data"])
    said = node.openssl("x509", "-noout", "-enddate", give=pem).decode().strip()
    return timegm(time.strptime(said.partition("=")[2], "%b %d %H:%M:%S %Y GMT"))


def _names(pem: bytes) -> list[str]:
    """Return the names and addresses of a server's certificate."""
    said = node.openssl("x509", "-noout", "-ext", "subjectAltName", give=pem).decode()
    return re.findall(r"(?:DNS|IP Address):([^,\s]+)", said)
