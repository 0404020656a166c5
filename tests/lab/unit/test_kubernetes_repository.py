"""The stand-in pkgs.k8s.io, read by apt itself through the lab's web server."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import certificates, kubernetes_repository
from tests.lab.apt_repository import SigningKey

TOOLS = ("apt-ftparchive", "apt-get", "dpkg-deb", "gpg")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("k8s")
    key = SigningKey.load_or_create(path / "keys", "pkgs")
    kubernetes_repository.build(path / "root", key)
    return path


def _repository(base: Path, minor: str) -> Path:
    return base / "root" / "core:" / "stable:" / f"v{minor}" / "deb"


def _run(*command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(base: Path) -> Path:
    """Every 1.36.2 package unpacked over the others, as on a node."""
    target = base / "tree"
    for name in kubernetes_repository.CORE:
        deb = _repository(base, "1.36") / "amd64" / f"{name}_1.36.2-1.1_amd64.deb"
        _run("dpkg-deb", "--extract", deb, target)
    return target


def test_layout_of_a_repository(base: Path) -> None:
    for minor, packages in kubernetes_repository.RELEASES.items():
        root = _repository(base, minor)
        assert (root / "Release.key").read_text().startswith("-----BEGIN PGP PUBLIC KEY BLOCK-")
        for architecture in ("amd64", "arm64"):
            for package, versions in packages.items():
                assert len(versions) >= 2
                for version in versions:
                    assert (
                        root / architecture / f"{package}_{version}_{architecture}.deb"
                    ).exists()


def test_apt_finds_verifies_and_fetches_packages(base: Path, tmp_path: Path) -> None:
    certificates.build(base / "certs", etcd_addresses={})
    for folder in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "log"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "status").touch()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uri = f"http://localhost:{port}/core:/stable:/v1.36/deb"
    command = [sys.executable, "-m", "tests.lab.webserver", "--address", "127.0.0.1"]
    command += [
        "--site",
        f"http:{port}:localhost={base / 'root'}",
        "--log",
        str(tmp_path / "log/a"),
    ]
    # The server is stopped by the test's end, whatever happens.
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            (tmp_path / "sources").write_text(
                f"deb [signed-by={base / 'keys' / 'pkgs.gpg'} arch=arm64] {uri}/ /\n"
            )
            options = {
                "Dir::State": tmp_path / "state",
                "Dir::State::status": tmp_path / "status",
                "Dir::Cache": tmp_path / "cache",
                "Dir::Log": tmp_path / "log",
                "Dir::Etc::sourcelist": tmp_path / "sources",
                "Dir::Etc::sourceparts": "/dev/null",
                "Dir::Etc::parts": tmp_path / "etc/apt.conf.d",
                "APT::Architecture": "arm64",
                "APT::Architectures": "arm64",
                "APT::Sandbox::User": "",
                "Acquire::http::Proxy": "DIRECT",
                "Acquire::Languages": "none",
            }
            apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
            for update in ("Get:", "Hit:"):
                output = _run(*apt, "update", "-oAPT::Update::Error-Mode=any")
                assert f"{update}1 {uri}  InRelease" in output
            output = _run(*apt, "install", "--print-uris", "--yes", "kubeadm=1.36.1-1.1", "kubectl")
            assert "/arm64/kubeadm_1.36.1-1.1_arm64.deb" in output
            assert "/arm64/kubectl_1.36.2-1.1_arm64.deb" in output
            assert "cri-tools" not in output
            _run(*apt, "install", "--download-only", "--yes", "kubectl")
            assert (tmp_path / "cache/archives/kubectl_1.36.2-1.1_arm64.deb").stat().st_size > 0
        finally:
            server.terminate()


def test_signature_of_every_release(base: Path) -> None:
    if shutil.which("gpgv") is None:
        pytest.skip("needs gpgv")
    for minor in kubernetes_repository.RELEASES:
        root = _repository(base, minor)
        keyring = base / "keys" / "pkgs.gpg"
        _run("gpgv", "--keyring", keyring, root / "InRelease")
        _run("gpgv", "--keyring", keyring, root / "Release.gpg", root / "Release")


def test_packages_are_the_same_bytes_when_built_again(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = SigningKey.load_or_create(base / "keys", "pkgs")
    one = {"1.36": kubernetes_repository.RELEASES["1.36"]}
    monkeypatch.setattr(kubernetes_repository, "RELEASES", one)
    kubernetes_repository.build(tmp_path, key)
    sums = [
        {path.name: hashlib.sha256(path.read_bytes()).digest() for path in root.rglob("*.deb")}
        for root in (_repository(base, "1.36"), tmp_path)
    ]
    assert sums[0]
    assert sums[0] == sums[1]


def test_control_says_that_it_is_a_stand_in(base: Path) -> None:
    deb = _repository(base, "1.28") / "arm64" / "kubeadm_1.28.15-1.1_arm64.deb"
    control = _run("dpkg-deb", "--field", deb)
    assert "Architecture: arm64" in control
    assert "Depends: kubelet (>= 1.19.0), kubectl" in control
    assert "stand-in" in control


def test_package_of_kubelet(base: Path, tree: Path) -> None:
    assert (tree / "usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf").exists()
    deb = _repository(base, "1.36") / "amd64" / "kubelet_1.36.2-1.1_amd64.deb"
    assert _run("dpkg-deb", "--info", deb, "conffiles") == "/etc/default/kubelet\n"
    # as the real one, which goes on running with the old program after an upgrade
    assert "preset kubelet.service" in _run("dpkg-deb", "--info", deb, "postinst")
    assert "restart kubelet" not in _run("dpkg-deb", "--info", deb, "postinst")
    assert not (tree / "usr/bin/kubelet.c").exists()


def test_versions_of_the_programs(tree: Path) -> None:
    kubeadm = (sys.executable, tree / "usr/bin/kubeadm")
    assert _run(*kubeadm, "version", "-o", "short") == "v1.36.2\n"
    assert _run(tree / "usr/bin/kubelet", "--version") == "Kubernetes v1.36.2\n"
    assert _run(tree / "usr/bin/kubectl", "version", "--client") == "Client Version: v1.36.2\n"
