"""Install cri-dockerd, through which the kubelet talks to Docker."""

from __future__ import annotations

from collections.abc import Callable

from chaos_engine.facts.apt import Packages
from chaos_engine.facts.cri_dockerd import PROGRAM
from chaos_engine.facts.docker import DockerInfo
from chaos_engine.facts.node import Node
from chaos_engine.facts.observe import NodeError, Read, observe, warn
from chaos_engine.operations import files
from chaos_engine.operations.compatibility import misfit, oldest_docker, outdated, speaks_api_1_44
from chaos_engine.operations.cri_dockerd.tarball import MACHINES
from chaos_engine.operations.engine.arguments import ImageName, Version
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.files import File, Unit
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.turns import READ, in_turn
from chaos_engine.operations.undo import Undo
from chaos_engine.templates import render

SERVICE = "/etc/systemd/system/cri-docker.service"
SOCKET = "/etc/systemd/system/cri-docker.socket"

UNITS = (Unit("cri-docker.socket"), Unit("cri-docker.service", reads=(PROGRAM,)))


@converge(
    reads=lambda version, program, infra_image=None, rolling=None: [
        READ,
        Read.of(Node),
        Read.of(DockerInfo),
        Read.of(Packages, names=("docker.io",)),
        # secret, so that --diff does not read and show the program
        *files.reads([File(PROGRAM, b"", secret=True), *_units(infra_image)], units=UNITS),
    ]
)
def install_cri_dockerd(
    version: Version,
    program: Callable[[str], bytes],
    infra_image: ImageName | None = None,
    rolling: Rolling | None = None,
) -> Commands:
    """Install a version of cri-dockerd, and run its service and its socket.

    + version: the version that ``cri-dockerd --version`` prints, such as "0.4.3"
    + program: function that returns the program's bytes for an architecture such as ``"arm64"``.
      The operation calls the function before any change, so an error in the function leaves the
      node unchanged. The operation sends the program only if the node's program is missing or
      differs
    + infra_image: image of the pods' pause containers, ``None`` for cri-dockerd's default
    + rolling: how a node that has joined a cluster is drained before cri-dockerd restarts

    Raises `NodeError` if cri-dockerd has no release for the node's architecture, or if the version
    cannot talk to the node's Docker. A node without Docker raises no error, because an earlier
    operation of the same run may install Docker. Just before cri-dockerd's units start, the node
    checks that Docker answers.

    **Example:** ``install_cri_dockerd(name="Run cri-dockerd", version="0.4.3", program=program)``
    """
    architecture = observe(Node).architecture
    if architecture not in MACHINES:
        raise NodeError(
            f"cri-dockerd is not released for {architecture}, only for {' and '.join(MACHINES)}; "
            "install a 64-bit system"
        )
    docker = _docker_version()
    if docker and (problem := misfit(version, docker)):
        raise NodeError(problem)
    if old := outdated(version):
        warn(old, of_node=False)
    wanted = [File(PROGRAM, program(architecture), mode="755"), *_units(infra_image)]
    todo = files.decide(wanted, units=UNITS)
    commands = files.transaction(
        todo, check(version), require_docker(version), noop=f"cri-dockerd {version} runs as wanted"
    )
    yield from in_turn(commands, rolling or Rolling(), stops_pods=bool(todo.restart))


def check(version: str) -> str:
    """Return a shell command that fails if the new cri-dockerd reports a wrong version.

    + version: the right version
    """
    new = File(PROGRAM, b"").staged
    return (
        f"test ! -e {new} || {{ said=$(timeout 10 {new} --version 2>&1 | head -n 1); "
        f'echo "the new cri-dockerd reports: $said"; '
        f'test "${{said%% (*}}" = "cri-dockerd {version}"; }}'
    )


def require_docker(version: str) -> str:
    """Return the shell script that fails if cri-dockerd cannot talk to the node's Docker.

    The script runs just before the units are started.

    + version: version of cri-dockerd
    """
    limits = f'[ "${{found%%.*}}" -ge {oldest_docker(version)} ]'
    if not speaks_api_1_44(version):
        limits += " && case $found in 29.[0-2].*) false ;; esac"
    return f"""\
{{ getent group docker && command -v docker; }} >/dev/null || {{
  echo 'Docker is not installed; deploy chaos_engine.deploys.docker first' >&2; exit 1
}}
found=$(timeout 20 docker version --format '{{{{.Server.Version}}}}' 2>/dev/null) || {{
  echo 'Docker does not answer; deploy chaos_engine.deploys.docker, or look at:' \\
    'journalctl -u docker' >&2; exit 1
}}
{{ {limits}; }} || {{
  echo "cri-dockerd {version} does not fit Docker $found" >&2; exit 1
}}"""


def _units(infra_image: str | None) -> list[File]:
    service = render("cri-docker.service.j2", program=PROGRAM, infra_image=infra_image)
    return [File(SERVICE, service), File(SOCKET, render("cri-docker.socket.j2"))]


def _docker_version() -> str:
    """Return the version of the node's Docker, "" if the node has no Docker yet.

    If Docker does not answer, this is the version of the package docker.io.
    """
    engine = observe(DockerInfo)
    if engine is not None:
        return engine.server_version
    package = observe(Packages, names=("docker.io",)).get("docker.io")
    return package.version if package is not None else ""


UNDO = Undo(needed_when_joined=True)
