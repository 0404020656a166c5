"""Test Kubernetes' packages, their key, and kubeadm's configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyinfra.api.exceptions import FactProcessError

from chaos_engine.deploys.kubernetes import (
    INIT,
    JOIN,
    KubernetesSettings,
    check,
    configuration,
    read_key,
)
from chaos_engine.facts.apt import PackageState
from chaos_engine.facts.kubernetes import (
    REPLACED,
    KubeletConfiguration,
    KubeletReplaced,
    KubernetesSources,
    RepositorySigners,
    Source,
    parse_kubelet_configuration,
    parse_source,
)
from chaos_engine.facts.observe import NodeError
from chaos_engine.facts.openpgp import dearmor
from chaos_engine.facts.systemd import UnitState
from chaos_engine.operations.engine.shell import NOTES, PRELUDE
from chaos_engine.operations.kubernetes.install import (
    SOURCE,
    compose,
    is_at_version,
    kubelet_steps,
    package_changes,
    source_file,
    sources_to_remove,
)
from chaos_engine.operations.kubernetes.kubelet import (
    docker_bytes,
    flaws,
    quantity,
    restarts_in_vain,
)
from chaos_engine.operations.kubernetes.signing_key import KEYRING, key_fault
from tests.unit.asking import ask_below, files_below, systemctl, value_in
from tests.unit.nodes import Nodes
from tests.unit.openpgp_samples import (
    CAPTIVE,
    EXTENDED,
    SHORT,
    SIGNED_BY_SUBKEY,
    WITH_SUBKEY,
)
from tests.unit.scripts import Sandbox

LOGS = "/etc/tmpfiles.d/chaos-engine-kubelet.conf"
OURS = (
    "deb [signed-by=/etc/apt/keyrings/kubernetes-apt-keyring.gpg] "
    "https://pkgs.k8s.io/core:/stable:/v1.28/deb/ /\n"
)
DEB822 = """\
Types: deb
URIs: https://pkgs.k8s.io/core:/stable:/v1.27/deb/
Suites: /
Signed-By: /etc/apt/keyrings/kubernetes-apt-keyring.asc
"""
UBUNTU = """\
Types: deb
URIs: http://ports.ubuntu.com/ubuntu-ports/
Suites: noble noble-updates
Components: main universe
"""
SITE: dict[str, Any] = {
    "nodes": {"pi1": "192.168.1.50", "pi2": "192.168.1.51", "pi4": "192.168.1.53"},
    "controllers": ["pi1", "pi4"],
    "storage_servers": {"etcd1": "192.168.1.40", "etcd2": "192.168.1.41"},
    "vip": "192.168.1.60",
    "kubernetes_version": "1.28.15",
}


def settings(**values: Any) -> KubernetesSettings:
    return KubernetesSettings(**{**SITE, **values})


def test_kubectl_may_be_left_out_where_kubeadm_does_not_need_it() -> None:
    """Since 1.30 kubeadm's package does not depend on it (kubernetes/release#3481)."""
    without = {"kubernetes_kubectl": False}
    assert settings(**without).held_packages == ("kubelet", "kubeadm", "kubectl")
    assert settings(**without, kubernetes_version="1.36.2").held_packages == (
        "kubelet",
        "kubeadm",
    )


def test_a_key_on_this_computer_is_taken_in_both_forms(tmp_path: Path) -> None:
    file = tmp_path / "Release.key"
    with Nodes("pi1").on():
        file.write_text(EXTENDED)
        assert read_key(str(file)) == dearmor(EXTENDED.encode())
        file.write_bytes(dearmor(EXTENDED.encode()))
        assert read_key(str(file)) == dearmor(EXTENDED.encode())


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("kubernetes.list", OURS, Source("kubernetes.list", True)),
        ("k.list", "# " + OURS, None),
        ("k.list", "# note\n\n" + OURS, Source("k.list", True)),
        (
            "k.list",
            "deb https://apt.kubernetes.io/ kubernetes-xenial main # old",
            Source("k.list", True),
        ),
        (
            "k.list",
            "deb https://packages.cloud.google.com/apt kubernetes-xenial main",
            Source("k.list", True),
        ),
        ("c.list", "deb https://packages.cloud.google.com/apt cloud-sdk main", None),
        ("c.list", "deb https://pkgs.k8s.io/addons:/cri-o:/stable:/v1.30/deb/ /", None),
        (
            "sources.list",
            f"deb http://deb.debian.org/debian x\n{OURS}",
            Source("sources.list", False),
        ),
        ("k.sources", DEB822, Source("k.sources", True)),
        ("k.sources", f"# Kubernetes\n\n{DEB822}\n\n", Source("k.sources", True)),
        ("k.sources", f"Enabled: no\n{DEB822}", None),
        ("k.sources", f"{DEB822}enabled: Off\n", None),
        ("k.sources", f"{DEB822} \nEnabled: without\n", None),  # blanks do not end a stanza
        ("k.sources", DEB822.replace("URIs: ", "URIs:\n# ours\n "), Source("k.sources", True)),
        ("k old.list", OURS, None),  # apt skips a file with such a name
        ("u.sources", f"{UBUNTU}\n{DEB822}", Source("u.sources", False)),
        ("u.sources", UBUNTU, None),
    ],
)
def test_finds_sources_of_kubernetes(name: str, text: str, expected: Source | None) -> None:
    assert parse_source(name, text) == expected


def test_reads_the_files_that_name_kubernetes(tmp_path: Path) -> None:
    folder = tmp_path / "etc/apt/sources.list.d"
    folder.mkdir(parents=True)
    (folder / "a.list").write_text(f"deb http://deb.debian.org/debian trixie main\n{OURS}")
    (folder / "b.sources").write_text("Types: deb\nURIs: https://pkgs.k8s.io/core:/a\nSuites: /\n")
    (folder / "c.list").write_text("deb http://deb.debian.org/debian trixie main\n")
    (folder / "d.list").write_text(f"# {OURS}")
    (folder / "e.list.save").write_text(OURS)
    assert ask_below(tmp_path, KubernetesSources) == (
        Source("/etc/apt/sources.list.d/a.list", False),
        Source("/etc/apt/sources.list.d/b.sources", True),
    )
    with files_below(tmp_path):
        command = KubernetesSources().command().get_raw_value()
        said = subprocess.check_output(["sh", "-c", command], text=True)
    assert f"text {folder}/c.list \n" in said, "a file of others is not sent"


def test_other_files_of_kubernetes_go_and_ours_stays() -> None:
    sources = [Source(SOURCE, True), Source("/etc/apt/sources.list.d/k.sources", True)]
    assert sources_to_remove(sources) == ["/etc/apt/sources.list.d/k.sources"]


def test_a_file_that_has_other_sources_too_refuses_the_node() -> None:
    with pytest.raises(NodeError, match=r"/etc/apt/sources.list has .* for other repositories"):
        sources_to_remove([Source("/etc/apt/sources.list", False)])


def test_the_source_is_the_documented_one() -> None:
    assert source_file("1.28.15").content == OURS


NOW = 1800000000


@pytest.mark.parametrize(
    ("keyring", "signers", "fault"),
    [
        (None, [], "missing"),
        (b"", [], "it is empty"),
        (CAPTIVE.encode(), [], "it is no binary OpenPGP data"),
        (dearmor(SHORT.encode()), [], "expired on 2024-12-31"),
        (dearmor(EXTENDED.encode()), [], ""),
        (dearmor(EXTENDED.encode()), ["307E25152A503DBA"], ""),
        (dearmor(EXTENDED.encode()), ["AAEE7DC8674B9447"], "it is not the repository's"),
        (dearmor(WITH_SUBKEY.encode()), ["AAEE7DC8674B9447"], ""),
        (dearmor((EXTENDED).encode()) + dearmor(WITH_SUBKEY.encode()), ["AAEE7DC8674B9447"], ""),
    ],
)
def test_the_key_in_place_is_judged(keyring: bytes | None, signers: list[str], fault: str) -> None:
    assert key_fault(keyring, signers, NOW) == fault


def test_who_signed_the_index_is_read(tmp_path: Path) -> None:
    lists = tmp_path / "var/lib/apt/lists"
    lists.mkdir(parents=True)
    assert ask_below(tmp_path, RepositorySigners, minor="1.36") == ()
    index = "mirror.example_core:_stable:_v1.36_deb_InRelease"
    (lists / index).write_text(SIGNED_BY_SUBKEY)
    (lists / index.replace("1.36", "1.35")).write_text("other")
    assert ask_below(tmp_path, RepositorySigners, minor="1.36") == ("AAEE7DC8674B9447",)


def test_kubelets_configuration_counts_only_on_a_node_that_has_joined(tmp_path: Path) -> None:
    config = tmp_path / "var/lib/kubelet/config.yaml"
    joined = tmp_path / "etc/kubernetes/kubelet.conf"
    for path in (config, joined):
        path.parent.mkdir(parents=True)
    config.write_text("containerLogMaxSize: 1Mi\n")
    assert ask_below(tmp_path, KubeletConfiguration) == {}
    joined.write_text("a private key")
    assert ask_below(tmp_path, KubeletConfiguration) == {"containerLogMaxSize": "1Mi"}
    with files_below(tmp_path):
        command = KubeletConfiguration().command().get_raw_value()
    assert "private" not in subprocess.check_output(["sh", "-c", command], text=True)
    config.write_text("[1]")
    with pytest.raises(FactProcessError, match="not a mapping"):
        ask_below(tmp_path, KubeletConfiguration)


@pytest.mark.parametrize(
    ("version", "complete", "expected"),
    [
        ("1.28.15-1.1", True, True),
        ("1.28.15-2.1", True, True),
        ("1:1.28.15-1.1", True, True),
        ("1.28.15-1.1", False, False),
        ("1.28.1-1.1", True, False),
        ("1.28.150-1.1", True, False),
    ],
)
def test_any_revision_of_the_version_will_do(version: str, complete: bool, expected: bool) -> None:
    assert is_at_version(PackageState(version, False, complete), "1.28.15") is expected
    assert not is_at_version(None, "1.28.15")


def test_reasons_say_from_which_version_to_which() -> None:
    found = {
        "kubelet": PackageState("1.34.2-1.1", True, True),
        "kubectl": PackageState("1.35.1-1.1", True, complete=False),
    }
    assert [*package_changes("1.35.1", ("kubelet", "kubeadm", "kubectl"), found)] == [
        "kubelet 1.34.2 -> 1.35.1",
        "install 1.35.1 of kubeadm, kubectl",
    ]


@pytest.mark.parametrize(
    ("active", "ready", "expected"),
    [
        ("activating", False, True),
        ("active", False, True),
        ("inactive", False, False),
        ("failed", False, False),
        ("activating", True, False),
        ("active", True, False),
    ],
)
def test_only_a_kubelet_that_cannot_work_is_stopped(
    active: str, ready: bool, expected: bool
) -> None:
    assert restarts_in_vain(active, ready) is expected


def documents(text: str | bytes) -> dict[str, Any]:
    assert isinstance(text, str)
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def test_the_first_controller_is_told_of_the_external_etcd_and_the_endpoint() -> None:
    files, gone = configuration(settings(), "pi1")
    assert [file.path for file in files] == ["/etc/crictl.yaml", JOIN, INIT, LOGS]
    assert gone == []
    found = documents(files[2].content)
    assert found["InitConfiguration"] == {
        "apiVersion": "kubeadm.k8s.io/v1beta3",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": "192.168.1.50", "bindPort": 6443},
        "nodeRegistration": {
            "name": "pi1",
            "criSocket": "unix:///run/cri-dockerd.sock",
            "kubeletExtraArgs": {"node-ip": "192.168.1.50"},
        },
    }
    assert found["ClusterConfiguration"] == {
        "apiVersion": "kubeadm.k8s.io/v1beta3",
        "kind": "ClusterConfiguration",
        "kubernetesVersion": "v1.28.15",
        "controlPlaneEndpoint": "k8s:6443",
        "apiServer": {"certSANs": ["192.168.1.60"]},
        "etcd": {
            "external": {
                "endpoints": ["https://192.168.1.40:2379", "https://192.168.1.41:2379"],
                "caFile": "/etc/kubernetes/etcd/ca.crt",
                "certFile": "/etc/kubernetes/etcd/client.crt",
                "keyFile": "/etc/kubernetes/etcd/client.key",
            }
        },
    }
    assert found["KubeletConfiguration"]["cgroupDriver"] == "systemd"
    assert "featureGates" not in found["KubeletConfiguration"], "1.28 does not know it"


@pytest.mark.parametrize(
    ("kubernetes", "gates"),
    [
        ("1.35.4", None),
        ("1.36.2", {"ExtendWebSocketsToKubelet": False}),
        ("1.37.1", {"ExtendWebSocketsToKubelet": False}),
        ("1.38.0", None),
    ],
)
def test_kubectl_exec_works_beside_a_cri_dockerd_that_says_no_scheme(
    kubernetes: str, gates: dict[str, bool] | None
) -> None:
    files, _ = configuration(settings(kubernetes_version=kubernetes), "pi1")
    assert documents(files[2].content)["KubeletConfiguration"].get("featureGates") == gates


@pytest.mark.parametrize("size", ["10m", "100m", "64g"])
def test_kubelet_never_rotates_a_log_before_docker_does(size: str) -> None:
    files, _ = configuration(settings(docker_log_max_size=size), "pi1")
    config = documents(files[2].content)["KubeletConfiguration"]
    assert [*flaws(config, {}, size)] == []
    assert (quantity(config["containerLogMaxSize"]) or 0) > docker_bytes(size)


@pytest.mark.parametrize(
    ("text", "number"),
    [("10Mi", 10 << 20), ("1Ti", 1 << 40), ("100Ki", 102400), ("5k", 5000), ("1.5G", 1.5e9),
     ("10000000", 1e7), ("10MB", None), ("", None)],
)  # fmt: skip
def test_quantities_are_read_as_kubernetes_reads_them(text: str, number: float | None) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize(
    ("config", "size", "problems"),
    [
        ({}, "100m", []),  # not joined
        ({"kind": "KubeletConfiguration"}, "10m", ["kubectl exec and attach fail on this node"]),
        ({"featureGates": {"ExtendWebSocketsToKubelet": False}}, "10m", []),
        (
            {"featureGates": {"ExtendWebSocketsToKubelet": True}, "containerLogMaxSize": "50Mi"},
            "100m",
            ["kubectl exec", "containerLogMaxSize is 50Mi, but must"],
        ),
        (
            {"featureGates": {"ExtendWebSocketsToKubelet": False}},
            "11m",
            ["containerLogMaxSize is 10Mi"],
        ),
        (  # one more entry of Docker's is too much
            {"featureGates": {"ExtendWebSocketsToKubelet": False}},
            "10400k",
            ["containerLogMaxSize is 10Mi"],
        ),
        (
            {
                "featureGates": {"ExtendWebSocketsToKubelet": False},
                "containerLogMaxSize": "1Ti",
            },
            "64g",
            [],
        ),
    ],
)
def test_what_a_joined_kubelet_is_told_amiss_is_named(
    config: dict[str, Any], size: str, problems: list[str]
) -> None:
    found = [*flaws(config, {"ExtendWebSocketsToKubelet": False}, size)]
    assert len(found) == len(problems)
    assert all(problem in text for problem, text in zip(problems, found, strict=True))


def test_kubelets_configuration_is_read_as_yaml() -> None:
    text = b"kind: KubeletConfiguration\nfeatureGates:\n  A: false\n"
    assert parse_kubelet_configuration(text)["featureGates"] == {"A": False}
    assert parse_kubelet_configuration(b"") == {}
    for broken in (b"a: [", b"- 1"):
        with pytest.raises(ValueError, match=r"config\.yaml is no"):
            parse_kubelet_configuration(broken)
    with pytest.raises(ValueError, match="featureGates is not a mapping"):
        parse_kubelet_configuration(b"featureGates: [A]\n")


def test_a_worker_can_join_and_nothing_else() -> None:
    files, gone = configuration(settings(), "pi2")
    assert [file.path for file in files] == ["/etc/crictl.yaml", JOIN, LOGS]
    assert gone == [INIT]
    found = documents(files[1].content)["JoinConfiguration"]
    assert found["discovery"]["bootstrapToken"]["apiServerEndpoint"] == "k8s:6443"
    assert "controlPlane" not in found
    assert found["nodeRegistration"]["name"] == "pi2"
    assert str(files[1].content).count("PLACEHOLDER\n") == 2
    assert files[1].mode == "600", "a token may come into it"


def test_a_second_controller_joins_as_one() -> None:
    files, _ = configuration(settings(), "pi4")
    found = documents(files[1].content)["JoinConfiguration"]["controlPlane"]
    assert found["localAPIEndpoint"]["advertiseAddress"] == "192.168.1.53"
    assert found["certificateKey"] == "0" * 64, "a text: as a number kubeadm refuses it"
    assert str(files[1].content).count("PLACEHOLDER\n") == 3


def test_newer_versions_have_the_newer_form() -> None:
    """v1beta4 has lists where v1beta3 had tables (kubernetes.io, kubeadm-config.v1beta4)."""
    files, _ = configuration(settings(kubernetes_version="1.36.2"), "pi1")
    found = documents(files[2].content)["InitConfiguration"]
    assert found["apiVersion"] == "kubeadm.k8s.io/v1beta4"
    assert found["nodeRegistration"]["kubeletExtraArgs"] == [
        {"name": "node-ip", "value": "192.168.1.50"}
    ]


def test_what_is_not_set_is_left_to_kubeadm() -> None:
    only = KubernetesSettings(nodes={"pi1": IPv4Address("192.168.1.50")}, controllers=("pi1",))
    files, _ = configuration(only, "pi1")
    found = documents(files[2].content)["ClusterConfiguration"]
    assert found["controlPlaneEndpoint"] == "192.168.1.50:6443"
    assert not {"etcd", "networking", "apiServer"} & set(found)
    with_pods = settings(kubernetes_pod_network="10.244.0.0/16")
    found = documents(configuration(with_pods, "pi1")[0][2].content)["ClusterConfiguration"]
    assert found["networking"] == {"podSubnet": "10.244.0.0/16"}


def test_without_an_endpoint_there_is_nothing_to_join() -> None:
    files, gone = configuration(KubernetesSettings(), "anything")
    assert [file.path for file in files] == ["/etc/crictl.yaml", LOGS]
    assert gone == [INIT, JOIN]
    assert yaml.safe_load(files[0].content) == {
        "runtime-endpoint": "unix:///run/cri-dockerd.sock",
        "image-endpoint": "unix:///run/cri-dockerd.sock",
    }


def test_kubeadm_checks_its_files_where_it_can() -> None:
    assert check(settings(kubernetes_version="1.25.16"), [JOIN]) == ""
    assert check(settings(), ["/etc/crictl.yaml"]) == ""
    assert f'kubeadm config validate --config "$stage"{JOIN}' in check(settings(), [JOIN])


@pytest.mark.parametrize(("kubeadm", "status"), [("true", 0), ("false", 1), (None, 0)])
def test_kubeadms_verdict_counts(tmp_path: Path, kubeadm: str | None, status: int) -> None:
    sandbox = Sandbox(tmp_path)
    staged = tmp_path / f"stage{JOIN}"
    staged.parent.mkdir(parents=True)
    staged.write_text("x")
    program = f"kubeadm() {{ {kubeadm}; }}" if kubeadm else "PATH=/nowhere"
    text = f"set -e\nstage={tmp_path}/stage\n{program}\n{check(settings(), [JOIN, INIT])}"
    assert sandbox.run(text).returncode == status


class Node(Sandbox):
    """A node whose apt records how it is called, and accepts an index with one key only."""

    def install(
        self, served: str | None, good: bytes, verify: bool = True, fetch: bool = True
    ) -> tuple[int, str, list[str]]:
        """Run the script where the repository gives SERVED as its key, and is signed by GOOD."""
        self.path("good").write_bytes(good)
        self.path("keys").mkdir(exist_ok=True)
        if served is not None:
            self.path("served").write_text(served)
        log = self.path("log")
        self._program("dpkg", "")
        self._program("chown", "")
        self._program("apt-mark", f'[ "$1" = showhold ] || echo "$*" >> {log}')
        # without root there are no other owners
        self._program("install", 'exec /usr/bin/install $(echo "$*" | sed -e "s/-o _apt//")')
        self._program(
            "apt-get",
            f"""case "$*" in
            *SourceList*)
              list=$(echo "$*" | sed 's/.*SourceList=\\([^ ]*\\).*/\\1/')
              key=$(sed 's/.*signed-by=\\([^]]*\\).*/\\1/' "$list")
              echo "checks" >> {log}
              cmp -s "$key" {self.path("good")} ||
                {{ echo "W: EXPKEYSIG 234654DA9A296436"; exit 100; }} ;;
            *update) echo refresh >> {log} ;;
            "-s "*) ;;
            *install*) echo "install ${{*##* -- }}" $(ls {self.path("keys")}) >> {log} ;;
            esac""",
        )
        self._program("apt-helper", f'cp {self.path("served")} "$3"')
        unit = UnitState("loaded", "inactive", "dead", "disabled", False, 0, "", "")
        todo = kubelet_steps(unit, joined=False, replaced=False, installs=["kubelet"])
        text = compose("1.28.15", ["kubelet"], [], ["kubelet"], verify, fetch, todo)
        text = (
            text.replace("/usr/lib/apt/apt-helper", f"{self.root}/bin/apt-helper")
            .replace(f"keyring={KEYRING}", f"keyring={self.keyring}")
            .replace("/run/chaos-engine-key", f"{self.root}/keys/key")
        )
        ran = self.run(PRELUDE + NOTES + text, before=f"PATH={self.root}/bin:$PATH\n")
        steps = log.read_text().splitlines() if log.exists() else []
        assert list(self.path("keys").iterdir()) == [], "nothing is left over"
        return ran.returncode, ran.stderr, steps

    @property
    def keyring(self) -> Path:
        """Return the path of the key."""
        return self.path("keyrings/kubernetes.gpg")

    def _program(self, name: str, body: str) -> None:
        self.path("bin").mkdir(exist_ok=True)
        self.path(f"bin/{name}").write_text(f"#!/bin/sh\n{body}\n")
        self.path(f"bin/{name}").chmod(0o755)


GOOD = dearmor(EXTENDED.encode())
DONE = ["refresh", "install kubelet=1.28.15-*", "hold kubelet"]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_fresh_node_gets_the_key_in_binary_form(node: Node) -> None:
    status, errors, steps = node.install(EXTENDED.replace("\n", "\r\n"), GOOD)
    assert (status, errors) == (0, "")
    assert node.keyring.read_bytes() == GOOD
    assert f"{node.keyring.stat().st_mode & 0o777:o}" == "644"
    assert steps == ["checks", *DONE]
    # kubeadm's package does not reload systemd
    assert node.calls == ["--no-reload unmask kubelet.service", "enable kubelet.service"]


def test_what_a_script_that_was_killed_has_left_goes(node: Node) -> None:
    node.path("keys/key.123456/lists").mkdir(parents=True)
    assert node.install(EXTENDED, GOOD)[0] == 0  # it checks that nothing is left over


@pytest.mark.parametrize("old", [b"", CAPTIVE.encode(), dearmor(SHORT.encode())])
def test_a_bad_key_in_place_is_replaced(node: Node, old: bytes) -> None:
    node.keyring.parent.mkdir()
    node.keyring.write_bytes(old)
    assert node.install(EXTENDED, GOOD)[0] == 0
    assert node.keyring.read_bytes() == GOOD
    assert node.path(f"var/originals{node.keyring}").read_bytes() == old


@pytest.mark.parametrize(
    ("served", "message"),
    [
        (None, "the key could not be fetched from https://pkgs.k8s.io/core:/stable:/v1.28/deb/R"),
        (CAPTIVE, "is no OpenPGP key, it begins with:\n<!DOCTYPE html><html>"),
        ("", "is no OpenPGP key"),
        (SHORT, "with its own key:\nW: EXPKEYSIG"),
        (EXTENDED[:200], "is no OpenPGP key"),
    ],
    ids=["unreachable", "captive", "empty", "expired", "cut short"],
)
@pytest.mark.parametrize("old", [None, dearmor(SHORT.encode())], ids=["no key", "bad key"])
def test_a_key_that_does_not_do_changes_nothing(
    node: Node, served: str | None, message: str, old: bytes | None
) -> None:
    if old is not None:
        node.keyring.parent.mkdir()
        node.keyring.write_bytes(old)
    status, errors, steps = node.install(served, GOOD)
    assert status == 1
    assert message in errors
    assert (node.keyring.read_bytes() if node.keyring.exists() else None) == old
    assert set(steps) <= {"checks"}


@pytest.mark.parametrize("served", [None, CAPTIVE, SHORT], ids=["unreachable", "captive", "old"])
def test_a_good_key_stays_when_no_better_one_can_be_had(node: Node, served: str | None) -> None:
    node.keyring.parent.mkdir()
    node.keyring.write_bytes(GOOD)
    status, errors, steps = node.install(served, GOOD)
    assert (status, errors) == (0, "")
    assert node.keyring.read_bytes() == GOOD
    assert steps[-3:] == DONE


def test_a_key_that_was_given_is_checked_in_place(node: Node) -> None:
    node.keyring.parent.mkdir()
    node.keyring.write_bytes(GOOD)
    assert node.install(None, GOOD, fetch=False)[0] == 0
    node.keyring.write_bytes(dearmor(SHORT.encode()))
    status, errors, _ = node.install(None, GOOD, fetch=False)
    assert status == 1
    assert "apt does not accept https://pkgs.k8s.io/core:/stable:/v1.28/deb/ with the " in errors


def test_nothing_is_fetched_to_hold_a_package() -> None:
    text = compose("1.28.15", [], [], ["kubelet"], verify=False, fetch=True)
    assert "Release.key" not in text
    assert text.rstrip().endswith("\nunit_was kubelet.service; settle\nhold kubelet")


@pytest.mark.parametrize("place", ["system.slice", "kube.slice/kube-node.slice"])
def test_a_kubelet_that_was_replaced_while_it_runs_is_found(tmp_path: Path, place: str) -> None:
    program = tmp_path / "kubelet"
    shutil.copy("/bin/sleep", program)
    processes = tmp_path / f"sys/fs/cgroup/{place}/kubelet.service/cgroup.procs"
    processes.parent.mkdir(parents=True)
    with subprocess.Popen([str(program), "60"]) as kubelet:
        try:
            processes.write_text(f"{os.getpid()}\n{kubelet.pid}\n")
            main = systemctl({"kubelet.service": {"MainPID": str(kubelet.pid)}})
            other = systemctl({"kubelet.service": {"MainPID": str(os.getpid())}})
            assert not value_in(tmp_path, KubeletReplaced, main)
            program.unlink()
            assert value_in(tmp_path, KubeletReplaced, main)
            assert not value_in(tmp_path, KubeletReplaced, other), "only a helper was replaced"
            replaced = REPLACED.replace("/proc/$(systemctl show", f"/proc/$(echo {kubelet.pid}; :")
            assert subprocess.run(["sh", "-c", replaced], check=False).returncode == 0
        finally:
            kubelet.kill()


def test_a_kubelet_that_does_not_run_was_not_replaced(tmp_path: Path) -> None:
    assert not value_in(tmp_path, KubeletReplaced, systemctl())
    assert not value_in(tmp_path, KubeletReplaced, systemctl({"kubelet.service": {}}))
