"""The client certificate by which the Kubernetes API reaches the external etcd."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Literal

from pydantic import Field

from chaos_engine.deploys.certificates import Given, check_client
from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import SettingsError, controller_path
from chaos_engine.deploys.site import ControllersSettings, EtcdSettings
from chaos_engine.deploys.values import LocalFile
from chaos_engine.facts.observe import current, warn
from chaos_engine.operations import etcd_certificates as operations
from chaos_engine.operations import files
from chaos_engine.operations.files import File


class EtcdCertificatesSettings(ControllersSettings, EtcdSettings):
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
    etcd_certificates_hosts: Literal["controllers", "all"] = Field(
        "controllers",
        description="which nodes get them: only the controllers, whose API server reads them, or "
        "all: whoever is root on a node that has the key can read and change the whole cluster",
    )


@concern("Etcd certificates", EtcdCertificatesSettings)
def etcd_certificates(settings: EtcdCertificatesSettings) -> None:
    """Install etcd's client certificate, its key and its CA, checked here before any change.

    Pair, chain, dates and usage are checked on this computer, in a preview too. The key's content
    is shown nowhere.
    """
    folder = settings.etcd_certificates_dir
    node = settings.node_name()
    if settings.etcd_certificates_hosts == "controllers" and node not in settings.controllers:
        operations.notice_key(name="Leave the etcd key out", path=f"{folder}/client.key")
        return
    try:
        certificate, key, authority = (
            Given.read(f"chaos_{name}", controller_path(getattr(settings, name)))
            for name in ("etcd_client_certificate", "etcd_client_key", "etcd_ca")
        )
        warnings = check_client(certificate, key, authority, datetime.now(timezone.utc))
    except SettingsError as error:
        raise SettingsError(f"{current()[1].name}: {error}") from None
    for warning in warnings:
        warn(warning)
    files.install(
        name="Install the etcd certificates",
        files=[
            File(f"{folder}/ca.crt", authority.data),
            File(f"{folder}/client.crt", certificate.data),
            File(f"{folder}/client.key", key.data, mode="600", secret=True),
        ],
    )
