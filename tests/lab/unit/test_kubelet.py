"""The stand-in for kubelet: what it refuses, and what it does through the runtime's socket."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.lab import cri_dockerd, kubernetes_repository, programs
from tests.lab.linux import wait_until

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "aarch64"), reason="kubelet is not made for this"
    ),
]

OLD, NEW = "1.28.15", "1.36.2"
BEFORE, SINCE = "1.34.2", "1.35.1"
"""The last minor version that knows --pod-infra-container-image, and the first that does not."""
GATE_OFF = "featureGates:\n  ExtendWebSocketsToKubelet: false\n"
NO_SWAP = "failSwapOn: false\n"
"""The computer that the tests run on may have swap."""


@pytest.fixture(scope="module")
def kubelets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The program by its version."""
    found = {}
    for version in (OLD, BEFORE, SINCE, NEW):
        tree = tmp_path_factory.mktemp("kubelet")
        for target, program in kubernetes_repository.fill(tree, "kubelet", version).items():
            target.write_bytes(program)
        found[version] = tree / "usr/bin/kubelet"
    return found


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for cri-dockerd."""
    program = tmp_path_factory.mktemp("shim") / "cri-dockerd"
    program.write_bytes(programs.compile_program(cri_dockerd.SOURCE, "0.4.3"))
    program.chmod(0o755)
    return program


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def refused(kubelet: Path, config: str, folder: Path, *flags: str) -> str:
    """What a kubelet says that does not start."""
    path = folder / "config.yaml"
    path.write_text(config)
    command = [str(kubelet), f"--config={path}", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert '"command failed" err="' in done.stderr
    return done.stderr


def answers(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@contextmanager
def running(kubelet: Path, config: str, folder: Path) -> Iterator[int]:
    """A kubelet; the port that it answers at."""
    port, healthz = free_port(), free_port()
    path = folder / "config.yaml"
    path.write_text(f"{config}{NO_SWAP}port: {port}\nhealthzPort: {healthz}\n")
    with subprocess.Popen([kubelet, f"--config={path}"], stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: _open(healthz), seconds=20, otherwise="kubelet does not listen")
            assert _open(port)
            yield healthz
        finally:
            process.kill()


def _open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def runtime(shim: Path, folder: Path, *programs: str) -> Iterator[str]:
    """The line of kubelet's configuration for cri-dockerd, which finds PROGRAMS in its PATH."""
    docker = folder / "docker.sock"
    path = folder / "bin"
    path.mkdir()
    for name in programs:
        (path / name).touch(0o755)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(docker))
        server.listen()
        own = folder / "cri.sock"
        process = subprocess.Popen(
            [shim, f"--docker-endpoint=unix://{docker}",
             f"--container-runtime-endpoint=unix://{own}"],
            env={**os.environ, "PATH": str(path)},
            stderr=(folder / "shim.log").open("w"),
        )  # fmt: skip
        try:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(b'HTTP/1.0 200 OK\r\n\r\n{"Version":"26.1.5"}')
            wait_until(own.exists, seconds=20, otherwise="cri-dockerd has no socket")
            yield f"containerRuntimeEndpoint: unix://{own}\n"
        finally:
            process.kill()
            process.wait()


def test_a_configuration_that_is_not_there(kubelets: dict[str, Path], tmp_path: Path) -> None:
    absent = tmp_path / "config.yaml"
    done = subprocess.run(
        [kubelets[NEW], f"--config={absent}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f'error: open {absent}: no such file or directory"' in done.stderr


@pytest.mark.parametrize(
    ("version", "config", "said"),
    [
        (OLD, GATE_OFF, "unrecognized feature gate: ExtendWebSocketsToKubelet"),
        (NEW, "featureGates:\n  Nonsense: true\n", "unrecognized feature gate: Nonsense"),
        (NEW, "containerLogMaxSize: 10x\n", 'failed to parse container log max size \\"10x\\"'),
        (NEW, "containerRuntimeEndpoint: tcp://x\n", "endpoint tcp://x"),
    ],
)
def test_a_configuration_that_is_refused(
    kubelets: dict[str, Path], tmp_path: Path, version: str, config: str, said: str
) -> None:
    assert said in refused(kubelets[version], config, tmp_path)


def test_an_unknown_flag_is_refused(kubelets: dict[str, Path], tmp_path: Path) -> None:
    said = refused(kubelets[NEW], NO_SWAP, tmp_path, "--container-runtime=docker")
    assert "failed to parse kubelet flag: unknown flag: --container-runtime" in said


@pytest.mark.parametrize("version", [SINCE, NEW])
def test_the_flag_for_the_pause_image_is_refused_since_1_35(
    kubelets: dict[str, Path], tmp_path: Path, version: str
) -> None:
    """It was removed (kubernetes/kubernetes#133779); kubeadm up to 1.34 gives it to kubelet."""
    flag = "--pod-infra-container-image=registry.k8s.io/pause:3.10.1"
    said = refused(kubelets[version], NO_SWAP, tmp_path, flag)
    assert "failed to parse kubelet flag: unknown flag: --pod-infra-container-image" in said


def test_the_flag_for_the_pause_image_is_known_before(
    kubelets: dict[str, Path], tmp_path: Path
) -> None:
    absent = ("--kubeconfig=/none", "--bootstrap-kubeconfig=/none")
    said = refused(kubelets[BEFORE], NO_SWAP, tmp_path, "--pod-infra-container-image=x", *absent)
    assert "unable to load bootstrap kubeconfig" in said


def test_without_a_kubeconfig_it_does_not_start(kubelets: dict[str, Path], tmp_path: Path) -> None:
    """As a node before its join, whose kubelet only waits for its configuration."""
    flags = [f"--{name}={tmp_path}/{name}" for name in ("kubeconfig", "bootstrap-kubeconfig")]
    said = refused(kubelets[NEW], NO_SWAP, tmp_path, *flags)
    assert "unable to load bootstrap kubeconfig: stat" in said


def test_health(kubelets: dict[str, Path], tmp_path: Path) -> None:
    with running(kubelets[NEW], "", tmp_path) as port:
        assert answers(port, "/healthz") == (200, "ok")
        assert answers(port, "/nonsense")[0] == 404


@pytest.mark.parametrize("request_path", ["exec", "attach", "portforward"])
@pytest.mark.parametrize(
    ("version", "config", "works"), [(OLD, "", True), (NEW, "", False), (NEW, GATE_OFF, True)]
)
def test_streams_need_the_gate_off_since_it_is_on(
    kubelets: dict[str, Path],
    shim: Path,
    tmp_path: Path,
    request_path: str,
    version: str,
    config: str,
    works: bool,
) -> None:
    """What real ones were seen to do, 1.36.2 with 0.4.3 (Mirantis/cri-dockerd#560)."""
    with (
        runtime(shim, tmp_path, "socat") as endpoint,
        running(kubelets[version], endpoint + config, tmp_path) as port,
    ):
        status, said = answers(port, f"/lab/{request_path}")
    if works:
        assert (status, said) == (200, "ok")
        return
    assert status == 500
    assert said.startswith('Internal error occurred: error sending request: Post "//[::]:')
    assert f"/cri/{request_path}/" in said
    assert said.endswith('": http: server gave HTTP response to HTTPS client')


def test_port_forwarding_needs_socat(kubelets: dict[str, Path], shim: Path, tmp_path: Path) -> None:
    with (
        runtime(shim, tmp_path) as endpoint,
        running(kubelets[NEW], endpoint + GATE_OFF, tmp_path) as port,
    ):
        assert answers(port, "/lab/exec") == (200, "ok")
        expected = (500, "unable to do port forwarding: socat not found")
        assert answers(port, "/lab/portforward") == expected


def test_a_runtime_that_does_not_answer(kubelets: dict[str, Path], tmp_path: Path) -> None:
    endpoint = f"containerRuntimeEndpoint: unix://{tmp_path}/none\n"
    with running(kubelets[NEW], endpoint, tmp_path) as port:
        status, said = answers(port, "/lab/exec")
    assert (status, "code = Unavailable" in said) == (500, True)


@pytest.mark.parametrize(("size", "config", "fails"), [
    (10 * 2**20 - 1, "", False),
    (10 * 2**20, "", True),
    (100_000_000, "containerLogMaxSize: 1Gi\n", False),
])  # fmt: skip
def test_logs_beyond_the_limit_cannot_be_rotated(
    kubelets: dict[str, Path], shim: Path, tmp_path: Path, size: int, config: str, fails: bool
) -> None:
    """With Docker's limit above kubelet's; the file is as it was afterwards."""
    logs = tmp_path / "pods"
    log, docker = logs / "default_web_1/web/0.log", tmp_path / "c0ffee-json.log"
    log.parent.mkdir(parents=True)
    with docker.open("wb") as file:
        file.truncate(size)
    log.symlink_to(docker)
    with (
        runtime(shim, tmp_path) as endpoint,
        running(kubelets[NEW], f"{endpoint}{config}podLogsDir: {logs}\n", tmp_path) as port,
    ):
        status, said = answers(port, "/lab/rotate")
    assert [path.name for path in log.parent.iterdir()] == ["0.log"]
    if not fails:
        assert (status, said) == (200, "ok")
        return
    assert (status, said) == (
        500,
        f'failed to rotate log \\"{log}\\": failed to reopen container log \\"c0ffee\\": rpc '
        "error: code = Unknown desc = docker does not support reopening container log files",
    )
