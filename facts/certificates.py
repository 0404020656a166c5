"""Read the expiry dates of the certificates of Kubernetes and etcd on a node."""

from __future__ import annotations

import base64
import posixpath
import re
from dataclasses import dataclass
from datetime import datetime, timezone

from cryptography import x509
from pyinfra.api.command import StringCommand
from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.observe import ComposedFact, Read, Value

KUBELET_CLIENT = "/var/lib/kubelet/pki/kubelet-client-current.pem"
"""kubelet's client certificate. kubelet renews it by itself, once 70 to 90 % of its life are over
(``nextRotationDeadline`` of k8s.io/client-go/util/certificate)."""

_KUBERNETES = (
    "/etc/kubernetes/pki/*.crt",
    "/etc/kubernetes/pki/etcd/*.crt",
    KUBELET_CLIENT,
)
_CONFIGS = "/etc/kubernetes/*.conf"

# The files may have private keys too, but only certificates are sent
_CERTIFICATE = r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?"
_EMBEDDED = r"^ *client-certificate-data: *\S+\n?"


DAY = 24 * 60 * 60
EXPIRES_SOON = 30 * DAY
"""A certificate that expires in less time is a problem."""


@dataclass(frozen=True)
class CertificateState(Value):
    """The certificate with the earliest expiry date in a file.

    + path: path of the file
    + subject: the certificate's name, "" if the file's certificates cannot be read
    + expires: the certificate's expiry date, in seconds since 1970; ``None`` if the file's
      certificates cannot be read
    + begins: since when the certificate is valid, in seconds since 1970; ``None`` if the file's
      certificates cannot be read
    """

    path: str
    subject: str
    expires: int | None
    begins: int | None

    def problem(self, now: int) -> str:
        """Return what is wrong with the certificate and what to do, "" if nothing is wrong.

        + now: the present time, in seconds since 1970

        A certificate has to be valid for 30 more days, or for a third of its whole life if that is
        shorter. For `KUBELET_CLIENT` it is a tenth of the life, because kubelet renews the
        certificate before.
        """
        if self.expires is None or self.begins is None:
            return f"{self.path} has no certificate that can be read; {self._renewal}"
        if now < self.begins:
            return (
                f"{self.path} is not valid before {_date(self.begins)}, so the clock of this node, "
                "or of the machine that issued the certificate, was wrong; correct the clock, and "
                "issue the certificate anew"
            )
        life = self.expires - self.begins
        least = life // 10 if self.path == KUBELET_CLIENT else min(EXPIRES_SOON, life // 3)
        if self.expires - now >= least:
            return ""
        over = self.expires <= now
        days = (self.expires - now) // DAY
        when = "" if over else f", in {days} day{'' if days == 1 else 's'}"
        return (
            f"{self.path} {'expired' if over else 'expires'} on {_date(self.expires)}{when}; "
            f"{self._renewal}"
        )

    @property
    def _renewal(self) -> str:
        """Return how the certificate is renewed."""
        if self.path == KUBELET_CLIENT:
            return "kubelet renews it, but has not; look at: journalctl -u kubelet"
        if not self.of_cluster:
            return "put the new certificate into files/, and deploy"
        if posixpath.basename(self.path) in ("ca.crt", "front-proxy-ca.crt"):
            return "kubeadm does not renew a CA's certificate; replace it by hand"
        return "renew it on this node: kubeadm certs renew all"

    @property
    def of_cluster(self) -> bool:
        """Tell whether kubeadm or kubelet has written the file. If not, a deploy has."""
        folder, name = posixpath.split(self.path)
        of_kubeadm = folder in _KUBEADM_FOLDERS and name != "client.crt"
        return self.path == KUBELET_CLIENT or name.endswith(".conf") or of_kubeadm


_KUBEADM_FOLDERS = ("/etc/kubernetes/pki", "/etc/kubernetes/pki/etcd")


def _date(seconds: int) -> str:
    """Return the date of a time in seconds since 1970, such as "2027-03-01"."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")


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
        return CertificateState(path, "", None, None)
    begins, expires = first.not_valid_before_utc, first.not_valid_after_utc
    return CertificateState(path, subject, int(expires.timestamp()), int(begins.timestamp()))
