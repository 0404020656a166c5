"""Read the expiry dates of the certificates of Kubernetes and etcd on a node."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from cryptography import x509
from pyinfra.api.command import StringCommand
from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.observe import ComposedFact, Read, Value

_KUBERNETES = (
    "/etc/kubernetes/pki/*.crt",
    "/etc/kubernetes/pki/etcd/*.crt",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
)
_CONFIGS = "/etc/kubernetes/*.conf"

# The files may have private keys too, but only certificates are sent
_CERTIFICATE = r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?"
_EMBEDDED = r"^ *client-certificate-data: *\S+\n?"


@dataclass(frozen=True)
class CertificateState(Value):
    """The certificate with the earliest expiry date in a file.

    + path: path of the file
    + subject: the certificate's name, "" if the file's certificates cannot be read
    + expires: the certificate's expiry date, in seconds since 1970; ``None`` if the file's
      certificates cannot be read
    """

    path: str
    subject: str
    expires: int | None


class Certificates(ComposedFact[tuple[CertificateState, ...]]):
    """The expiry dates of the certificates of kubeadm, of kubelet's client and of etcd's client.

    The value has a `CertificateState` for each file, sorted by path.

    + folder: the folder with the client certificate for etcd: the setting
      ``chaos_etcd_certificates_dir``

    A kubeconfig that has only the path of a certificate is left out. Only certificates leave the
    node, never a private key.

    **Example:** ``host.get_fact(Certificates, folder="/etc/kubernetes/pki/etcd-external")``
    """

    @override
    def command(self, folder: str) -> StringCommand:
        return super().command(folder=folder)

    @override
    def reads(self, folder: str) -> tuple[Read, ...]:
        files = dict.fromkeys((*_KUBERNETES, f"{folder}/*.crt"))
        patterns = (*((path, _CERTIFICATE) for path in files), (_CONFIGS, _EMBEDDED))
        return (Read.of(Texts, patterns=patterns),)

    @override
    def compose(self, texts: dict[str, bytes | None], folder: str) -> tuple[CertificateState, ...]:
        return tuple(parse_certificates(path, text) for path, text in sorted(texts.items()) if text)


def parse_certificates(path: str, text: bytes) -> CertificateState:
    """Find the certificate with the earliest expiry date in a file.

    This is a pure function.

    + path: path of the file
    + text: certificates in PEM form, or lines of a kubeconfig. The lines contain a certificate in
      PEM form, encoded in base64
    """
    embedded = re.findall(rb"client-certificate-data: *(\S+)", text)
    try:
        pem = b"".join(map(base64.b64decode, embedded)) if embedded else text
        first = min(x509.load_pem_x509_certificates(pem), key=lambda one: one.not_valid_after_utc)
        subject = first.subject.rfc4514_string()
    except ValueError:
        return CertificateState(path, "", None)
    return CertificateState(path, subject, int(first.not_valid_after_utc.timestamp()))
