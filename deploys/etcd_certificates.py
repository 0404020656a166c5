"""Install the client certificate that the Kubernetes API server uses for the external etcd."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from pydantic import Field

from chaos_engine.deploys import site
from chaos_engine.deploys.certificates import PemFile, check_client
from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import SettingsError, collecting, local_path
from chaos_engine.deploys.values import LocalFile
from chaos_engine.facts.etcd import EtcdVersions
from chaos_engine.facts.observe import Read, current, observe, warn
from chaos_engine.operations import files
from chaos_engine.operations.compatibility import etcd_misfit
from chaos_engine.operations.etcd_certificates import UNDO, report_key, report_version
from chaos_engine.operations.files import File


class EtcdCertificatesSettings(
    site.ControllersSettings, site.StorageSettings, site.EtcdSettings, site.VersionsSettings
):
    """Settings of `etcd_certificates`."""

    etcd_client_certificate: LocalFile = Field(
        "files/etcd-client.crt", description="path of etcd's client certificate on this computer"
    )
    etcd_client_key: LocalFile = Field(
        "files/etcd-client.key",
        description="path, on this computer, of the private key for etcd's client certificate",
    )
    etcd_ca: LocalFile = Field(
        "files/ca.crt", description="path of etcd's CA certificate on this computer"
    )

    @property
    def gets_key(self) -> bool:
        """Tell whether the current host gets the private key of etcd's client certificate."""
        if self.etcd_certificates_hosts == "controllers":
            return self.node_name() in self.controllers
        return self.etcd_certificates_hosts == "all"

    @property
    def asks_etcd(self) -> bool:
        """Tell whether the current host asks the etcd servers for their version.

        Only a controller that gets the private key asks the servers, because kubeadm checks etcd's
        version only on controllers. Other hosts save the TLS handshake of each request.
        """
        return self.gets_key and self.node_name() in self.controllers

    @property
    def etcd_servers(self) -> tuple[str, ...]:
        """Return the addresses of the etcd servers. The storage servers run etcd."""
        return tuple(map(str, self.storage_servers.values()))


def reads(settings: EtcdCertificatesSettings) -> list[Read]:
    """Return the facts that `problems` reads: the versions of the etcd servers.

    The list is empty for a host that does not ask the etcd servers. A host still asks them after
    it has joined a cluster.
    """
    servers, folder = settings.etcd_servers, settings.etcd_certificates_dir
    read = Read.of(EtcdVersions, servers=servers, folder=folder, joined_too=True)
    return [read] if settings.asks_etcd else []


def problems(settings: EtcdCertificatesSettings) -> Iterator[str]:
    """Yield a message if etcd servers are too old for kubeadm.

    Yields nothing for a host that does not ask etcd.
    """
    if settings.asks_etcd:
        servers, folder = settings.etcd_servers, settings.etcd_certificates_dir
        versions = observe(EtcdVersions, servers=servers, folder=folder, joined_too=True)
        if misfit := etcd_misfit(settings.kubernetes_version, versions):
            yield misfit


@concern("Etcd certificates", EtcdCertificatesSettings, reads=reads, problems=problems, undo=UNDO)
def etcd_certificates(settings: EtcdCertificatesSettings) -> None:
    """Install a client certificate for etcd, its private key, and the certificate of etcd's CA.

    This computer checks the files before any change, and also in a preview. The key must belong to
    the client certificate. The CA must have issued the client certificate. The client certificate
    must be valid today, and must allow use by clients. The key's content is never shown.
    """
    folder = settings.etcd_certificates_dir
    if not settings.gets_key:
        report_key(name="Leave the etcd key out", path=f"{folder}/client.key")
        return
    mistakes: list[str] = []
    given: dict[str, PemFile] = {}
    for name in ("etcd_client_certificate", "etcd_client_key", "etcd_ca"):
        with collecting(mistakes):
            given[name] = PemFile.read(f"chaos_{name}", local_path(getattr(settings, name)))
    if not mistakes:
        certificate, key, authority = given.values()
        with collecting(mistakes):
            warnings = check_client(certificate, key, authority, datetime.now(timezone.utc))
    if mistakes:
        raise SettingsError(*(f"{current()[1].name}: {line}" for line in mistakes))
    for warning in warnings:
        warn(warning, of_node=False)
    files.install(
        name="Install the etcd certificates",
        files=[
            file
            for place in dict.fromkeys((folder, settings.etcd_pod_dir))
            for file in (
                File(f"{place}/ca.crt", authority.data),
                File(f"{place}/client.crt", certificate.data),
                File(f"{place}/client.key", key.data, mode="600", secret=True),
            )
        ],
    )
    if settings.asks_etcd:
        report_version(
            name="Look at etcd's version",
            kubernetes=settings.kubernetes_version,
            servers=settings.etcd_servers,
            folder=folder,
        )
