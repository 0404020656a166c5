"""Configuration of the lab's etcd cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

TLS = "/etc/etcd/tls"
AUTHORITY = "kubernetes-ca"
"""The CA of the cluster that nodes join: the one that the API servers' certificates are of."""


def unit(name: str, addresses: Mapping[str, str]) -> str:
    """Return /etc/default/etcd of member NAME in the static cluster ADDRESSES (name to IP).

    Debian's etcd.service reads this file as its environment. Clients and peers both have to
    show a certificate of the authority `ca.crt`.
    """
    address = addresses[name]
    cluster = ",".join(f"{member}=https://{ip}:2380" for member, ip in addresses.items())
    settings = {
        "ETCD_NAME": name,
        "ETCD_DATA_DIR": "/var/lib/etcd/default",
        "ETCD_LISTEN_CLIENT_URLS": f"https://{address}:2379,https://127.0.0.1:2379",
        "ETCD_ADVERTISE_CLIENT_URLS": f"https://{address}:2379",
        "ETCD_LISTEN_PEER_URLS": f"https://{address}:2380",
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": f"https://{address}:2380",
        "ETCD_INITIAL_CLUSTER": cluster,
        "ETCD_INITIAL_CLUSTER_STATE": "new",
        "ETCD_INITIAL_CLUSTER_TOKEN": "lab",
        "ETCD_CERT_FILE": f"{TLS}/server.crt",
        "ETCD_KEY_FILE": f"{TLS}/server.key",
        "ETCD_TRUSTED_CA_FILE": f"{TLS}/ca.crt",
        "ETCD_CLIENT_CERT_AUTH": "true",
        "ETCD_PEER_CERT_FILE": f"{TLS}/server.crt",
        "ETCD_PEER_KEY_FILE": f"{TLS}/server.key",
        "ETCD_PEER_TRUSTED_CA_FILE": f"{TLS}/ca.crt",
        "ETCD_PEER_CLIENT_CERT_AUTH": "true",
        # A power cut in the lab should be over in a second, not in etcd's default five; still
        # ten heartbeats, since all members share this computer's cores and disk.
        "ETCD_HEARTBEAT_INTERVAL": "50",
        "ETCD_ELECTION_TIMEOUT": "500",
    }
    return "".join(f'{key}="{value}"\n' for key, value in settings.items())


def link(addresses: Mapping[str, str], issued: Path) -> Iterator[tuple[str, bytes, int]]:
    """Yield name, content and mode of what the stand-in for kubeadm needs of the cluster.

    It reads and writes in etcd what the real one has the API server keep there: with certificates
    in ISSUED, at ADDRESSES (name to IP). The CA, `ca.crt` and `ca.key`, is the one that the real
    one would have made.
    """
    yield "ca.crt", (issued / f"{AUTHORITY}.crt").read_bytes(), 0o644
    yield "ca.key", (issued / f"{AUTHORITY}.key").read_bytes(), 0o600
    if addresses:
        endpoints = "".join(f"https://{address}:2379\n" for address in addresses.values())
        yield "endpoints", endpoints.encode(), 0o644
        for name, mode in (("etcd-ca.crt", 0o644), ("etcd-client.crt", 0o644),
                           ("etcd-client.key", 0o600)):  # fmt: skip
            yield name, (issued / name).read_bytes(), mode
