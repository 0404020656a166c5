"""The environment file of an etcd member, and what a node needs to reach the cluster's."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.lab import certificates
from tests.lab.etcd import link, unit


def test_member_of_a_static_cluster() -> None:
    content = unit("etcd2", {"etcd1": "10.0.0.1", "etcd2": "10.0.0.2"})
    settings = dict(word.split("=", 1) for word in shlex.split(content))
    assert settings["ETCD_NAME"] == "etcd2"
    assert settings["ETCD_INITIAL_CLUSTER"] == (
        "etcd1=https://10.0.0.1:2380,etcd2=https://10.0.0.2:2380"
    )
    assert settings["ETCD_LISTEN_CLIENT_URLS"] == "https://10.0.0.2:2379,https://127.0.0.1:2379"
    assert settings["ETCD_CLIENT_CERT_AUTH"] == settings["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"
    assert "http://" not in content


def test_a_node_has_the_clusters_authority_and_a_client_of_etcd(tmp_path: Path) -> None:
    certificates.build(tmp_path, etcd_addresses={"etcd1": "10.0.0.1", "etcd2": "10.0.0.2"})
    found = {name: (content, mode) for name, content, mode in link({"etcd1": "10.0.0.1",
             "etcd2": "10.0.0.2"}, tmp_path)}  # fmt: skip
    assert found["endpoints"][0] == b"https://10.0.0.1:2379\nhttps://10.0.0.2:2379\n"
    assert found["etcd-client.key"][0] == (tmp_path / "etcd-client.key").read_bytes()
    assert {name for name, (_, mode) in found.items() if mode == 0o600} == {
        *("ca.key", "etcd-client.key")
    }


def test_a_lab_without_etcd_has_the_authority_only(tmp_path: Path) -> None:
    certificates.build(tmp_path, etcd_addresses={})
    assert {name for name, _, _ in link({}, tmp_path)} == {"ca.crt", "ca.key"}
