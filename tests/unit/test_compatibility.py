"""Test which versions work together, beyond what `test_cri_dockerd` tests."""

from __future__ import annotations

import pytest

from chaos_engine.operations.compatibility import (
    etcd_misfit,
    exec_fault,
    feature_gates,
    least_etcd,
    pause_image,
)

OFF = {"ExtendWebSocketsToKubelet": False}


@pytest.mark.parametrize(
    ("kubernetes", "gates"),
    [
        ("1.35.9", {}),  # kubelet refuses a gate that it does not know
        ("1.36.0", OFF),
        ("1.37.1", OFF),
        ("1.38.0", {}),  # kubelet refuses to turn a locked gate off
    ],
)
def test_the_gate_is_off_where_streams_may_fail(kubernetes: str, gates: dict[str, bool]) -> None:
    assert feature_gates(kubernetes) == gates


def test_where_no_gate_helps_it_is_told() -> None:
    assert exec_fault("0.4.3", "1.37.1") == ""
    assert "kubectl exec and attach may fail" in exec_fault("0.4.4", "1.38.0")
    assert exec_fault("0.4.5", "1.38.0") == ""


@pytest.mark.parametrize(
    ("kubernetes", "tag"),
    [("1.28.15", "3.9"), ("1.33.1", "3.10"), ("1.35.0", "3.10.1"), ("1.36.2", "3.10.2")],
)
def test_the_pause_image_is_kubeadms(kubernetes: str, tag: str) -> None:
    assert pause_image(kubernetes) == f"registry.k8s.io/pause:{tag}"


@pytest.mark.parametrize(
    ("kubernetes", "found", "misfit"),
    [
        ("1.30.0", {"192.168.1.40": "3.4.23"}, ""),  # nobody looked
        ("1.34.2", {"192.168.1.40": "3.5.16"}, ""),
        ("1.36.2", {"192.168.1.40": "3.5.24", "192.168.1.41": "3.6.0"}, ""),
        ("1.36.2", {"192.168.1.40": ""}, ""),  # it is away
        ("1.36.2", {}, ""),
        ("1.36.2", {"192.168.1.40": "3.6.0+git", "192.168.1.41": "unknown"}, ""),
        (
            "1.36.2",
            {"192.168.1.40": "3.5.16", "192.168.1.41": "3.5.30", "192.168.1.42": "3.5.9-rc.0"},
            "etcd 3.5.16 on 192.168.1.40, 3.5.9-rc.0 on 192.168.1.42: kubeadm 1.36.2 refuses an "
            "etcd older than 3.5.24; upgrade etcd before you run kubeadm",
        ),
    ],
)
def test_an_etcd_that_kubeadm_refuses_is_named(
    kubernetes: str, found: dict[str, str], misfit: str
) -> None:
    assert etcd_misfit(kubernetes, found) == misfit
    assert bool(misfit) <= bool(least_etcd(kubernetes))
