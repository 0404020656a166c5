"""The environment file of an etcd member."""

from __future__ import annotations

import shlex

from tests.lab.etcd import unit


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
