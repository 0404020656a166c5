"""Install the client certificate with which the Kubernetes API reaches the external etcd."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from pydantic import Field
from typing_extensions import TypedDict

from chaos_engine.deploys.certificates import PemFile, check_client
from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import SettingsError, collecting, local_path
from chaos_engine.deploys.site import (
    ControllersSettings,
    EtcdSettings,
    StorageSettings,
    VersionsSettings,
)
from chaos_engine.deploys.values import LocalFile
from chaos_engine.facts.etcd import EtcdVersions
from chaos_engine.facts.observe import Read, current, observe, warn
from chaos_engine.operations import files
from chaos_engine.operations.compatibility import etcd_misfit
from chaos_engine.operations.etcd_certificates import UNDO, report_key, report_version
from chaos_engine.operations.files import File


class EtcdCertificatesSettings(
    ControllersSettings, StorageSettings, EtcdSettings, VersionsSettings
):
    """Settings of `etcd_certificates`."""

    etcd_client_certificate: LocalFile = Field(
        "files/etcd-client.crt", description="path of the client's certificate on this computer"
    )
    etcd_client_key: LocalFile = Field(
        "files/etcd-client.key", description="path of its private key on this computer"
    )
    etcd_ca: LocalFile = Field(
        "files/ca.crt", description="path of the certificate of etcd's CA on this computer"
    )

    @property
    def gets_key(self) -> bool:
        """Tell whether the current host gets etcd's key."""
        if self.etcd_certificates_hosts == "controllers":
            return self.node_name() in self.controllers
        return self.etcd_certificates_hosts == "all"

    @property
    def asks_etcd(self) -> bool:
        """Tell whether the current host asks etcd for its version.

        Only a controller does: only there kubeadm looks at it, and each answer costs a handshake.
        """
        return self.gets_key and self.node_name() in self.controllers


class EtcdArguments(TypedDict):
    """The arguments of the fact `EtcdVersions`."""

    servers: tuple[str, ...]
    folder: str


def etcd_arguments(settings: EtcdCertificatesSettings) -> EtcdArguments:
    """Return the addresses of etcd's servers, and the folder with the client's certificate."""
    servers = tuple(map(str, settings.storage_servers.values()))
    return {"servers": servers, "folder": settings.etcd_certificates_dir}


def reads(settings: EtcdCertificatesSettings) -> list[Read]:
    """Return what `verify` reads: etcd's version, also on a node that has joined a cluster."""
    if not settings.asks_etcd:
        return []
    return [Read.of(EtcdVersions, joined_too=True, **etcd_arguments(settings))]


def problems(settings: EtcdCertificatesSettings) -> Iterator[str]:
    """Say what is wrong with etcd's version, if it was asked."""
    if settings.asks_etcd:
        versions = observe(EtcdVersions, joined_too=True, **etcd_arguments(settings))
        if misfit := etcd_misfit(settings.kubernetes_version, versions):
            yield misfit


@concern("Etcd certificates", EtcdCertificatesSettings, reads=reads, problems=problems, undo=UNDO)
def etcd_certificates(settings: EtcdCertificatesSettings) -> None:
    """Install etcd's client certificate, its key and the certificate of its CA.

    Pair, chain, dates and usage are checked on this computer before any change, in a preview too.
    The content of the key is never shown.
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
        asked = etcd_arguments(settings)
        version = settings.kubernetes_version
        report_version(name="Look at etcd's version", kubernetes=version, **asked)
