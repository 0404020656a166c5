"""Install the distribution's Docker, and configure it before its first start."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from chaos_engine.facts.apt import Packages, PackageState
from chaos_engine.facts.docker import DockerInfo, Engine
from chaos_engine.facts.docker_service import DockerService
from chaos_engine.facts.files import Content, Present
from chaos_engine.facts.observe import NodeError, Read, observe, warn
from chaos_engine.operations import files
from chaos_engine.operations.apt import APT, incomplete
from chaos_engine.operations.compatibility import major
from chaos_engine.operations.docker import daemon_json
from chaos_engine.operations.docker.daemon_json import CONFIG, DRIVER, Options
from chaos_engine.operations.docker.daemon_json_keys import invalid_keys
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because, differences, listed
from chaos_engine.operations.engine.repairs import of_hold
from chaos_engine.operations.files import File, Unit
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.turns import READ, in_turn, node_standing
from chaos_engine.operations.undo import Undo

DATA_ROOT = "/etc/systemd/system/docker.service.d/60-chaos-engine-data-root.conf"
CLIENT = "/usr/bin/docker"
CNI = "/etc/cni/net.d"
"""The folder where containerd looks for network configurations. This package writes none."""

# docker-ce is Docker's own package; the others are the distribution's
_PACKAGES = ("docker.io", "docker-cli", "ca-certificates", "docker-ce", "containerd", "runc")

# In Debian 13 the command `docker` is in the package docker-cli, which docker.io only recommends
_RECOMMENDED = """apart apt-cache depends docker.io |
  awk '$1 == "Recommends:" && $2 == "docker-cli" { print $2 }'"""

# Docker may answer, but run with another driver that is set elsewhere. Docker reports the same
# driver name for containerd's image store, but only then DriverStatus has a driver-type
_READY = f"""\
said=$(timeout 60 sh -c 'until
  timeout 10 docker info --format "{{{{.CgroupDriver}}}} {{{{.Driver}}}}\
{{{{range .DriverStatus}}}}{{{{if eq (index . 0) \\"driver-type\\"}}}} {{{{index . 1}}}}\
{{{{end}}}}{{{{end}}}}" 2>/dev/null
do sleep 1; done') || said='nothing in 60 s'
[ "$said" = "systemd {DRIVER}" ] || {{
  echo "docker info says: $said; wanted: systemd {DRIVER}" >&2; false
}}"""

UNIT = Unit("docker.service", reads=(CONFIG,), ready=_READY)

# dockerd has --validate since version 23. With this option, it looks for docker-proxy on its PATH
_CHECK = f'dockerd --validate --config-file "$stage"{CONFIG}'


def reads(options: Options, rolling: Rolling | None = None) -> list[Read]:
    """Return the facts that `install_docker` reads if it gets the same arguments."""
    return [
        READ,
        Read.of(Packages, names=_PACKAGES),
        Read.of(Present, path=CLIENT),
        Read.of(Content, path=CONFIG),
        Read.of(DockerService),
        Read.of(DockerInfo),
        *files.reads(_files(options, b""), units=[UNIT]),
    ]


@converge(reads=reads)
def install_docker(options: Options, rolling: Rolling | None = None) -> Commands:
    """Install the distribution's Docker, hold its packages, and run it with these options.

    + options: the options to write into daemon.json. The file's other keys stay as they are
    + rolling: how a node that has joined a cluster is drained before Docker restarts

    daemon.json is written before the package is installed, because the installation starts Docker.
    Without the file, Docker would set up its storage with other defaults. The operation restarts
    Docker only if the running Docker has a different configuration. If Docker does not answer
    within 60 seconds after the restart, the operation restores the old file.

    Raises `NodeError` if docker-ce is installed, if Docker would not start with the merged file, or
    if Kubernetes would not work with the merged file.

    **Example:** ``install_docker(name="Run Docker", options=Options("10m", 3))``
    """
    found = observe(Packages, names=_PACKAGES)
    if "docker-ce" in found:
        raise NodeError(
            "docker-ce is installed. docker.io would replace it, and stop its containers; drain "
            "the node and remove docker-ce first: apt-get remove docker-ce"
        )
    before = observe(Content, path=CONFIG)
    content = daemon_json.merge(before, options)
    config = json.loads(content)
    service = observe(DockerService)
    installed = major(found["docker.io"].version) if "docker.io" in found else None
    validates = not incomplete(found, ["docker.io"]) and (installed or 0) >= 23
    problems = [
        service.problem,
        *daemon_json.conflicts(config, service.flags),
        *daemon_json.refusals(config, installed),
        *([] if validates else invalid_keys(config)),
    ]
    if any(problems):
        raise NodeError(f"Docker would not start: {'; '.join(filter(None, problems))}")
    if problems := daemon_json.contradictions(config, service.flags):
        raise NodeError("; ".join(problems))
    rolling = rolling or Rolling()
    todo = files.decide(_files(options, content), units=[UNIT])
    todo = replace(todo, why=tuple(_with_changes(one, before, config) for one in todo.why))
    restarts = bool(todo.restart)
    drained = node_standing(rolling).joined and rolling.kubectl is not None
    for message in warnings(observe(DockerInfo), config, restarts and not drained):
        warn(message)
    check = _CHECK if validates and content != before else ""
    install, unheld = packages_to_change(found, observe(Present, path=CLIENT))
    apply = compose(install, unheld)
    because(*listed("install", install), *listed("hold", unheld))
    commands = files.transaction(
        todo,
        check,
        apply,
        noop="Docker runs as wanted",
        force=bool(apply),
        repairs=[of_hold(name) for name in unheld if name in found],
    )
    # the installation of these packages restarts Docker
    restarts = restarts or not {"docker.io", "containerd", "runc"}.isdisjoint(install)
    yield from in_turn(commands, rolling, stops_pods=restarts)


def _with_changes(reason: str, before: bytes | None, config: Mapping[str, Any]) -> str:
    """Add the names of the changed keys to the reason for writing daemon.json.

    + reason: the reason for one of the run's changes. If the change is not in daemon.json, the
      function returns the reason unchanged
    + before: the content of daemon.json on the node, ``None`` if there is no file
    + config: the keys of the merged daemon.json, with their values
    """
    if before is None or not reason.startswith(f"write {CONFIG} (other"):
        return reason
    changes = differences(daemon_json.parse(before), config)
    return f"write {CONFIG}: {', '.join(changes) or 'only its formatting'}"


def packages_to_change(
    found: Mapping[str, PackageState], client: bool
) -> tuple[list[str], list[str]]:
    """Return the names of the packages to install, and of the packages to hold.

    This is a pure function.

    + found: the packages that the node has, by name
    + client: whether the node has the command ``docker``. Some distributions have the command in a
      package of its own

    The packages to install include containerd and runc only if the node has an incomplete
    installation of them.
    """
    runtimes = [name for name in ("containerd", "runc") if name in found]
    install = incomplete(found, ["docker.io", "ca-certificates", *runtimes])
    hold = [] if "docker.io" in found else ["docker.io"]
    hold += [name for name in ("docker.io", "docker-cli") if name in found and not found[name].held]
    return [*install, *([] if client else ["docker-cli"])], hold


def compose(install: Sequence[str], hold: Sequence[str]) -> str:
    """Return the shell script that installs and holds packages, "" if there are no packages.

    + install, hold: the two lists that `packages_to_change` returns
    """
    if not install and not hold:
        return ""
    lines = [APT]
    if install:
        get = "apt install --no-install-recommends --allow-change-held-packages"
        # containerd and runc are not named: apt finishes their installation by itself. apt would
        # upgrade a named package, even a held one
        named = [name for name in install if name in ("docker.io", "ca-certificates")]
        # containerd creates this folder when it starts. No package owns the folder, so it is noted
        # for undo
        lines += [f"folders {CNI}/any; settle", "refresh"]
        if [*install] != ["docker-cli"]:
            also = [f"$({_RECOMMENDED})"] if "docker-cli" in install else []
            lines.append(" ".join([get, *named, *also]))
        lines.append(f"test -x {CLIENT} || {get} docker-cli")
    lines.append(
        "for one in docker.io docker-cli; do\n"
        "  status=$(dpkg-query -W -f '${db:Status-Status}' $one 2>/dev/null) || true\n"
        '  [ "$status" != installed ] || hold $one\n'
        "done"
    )
    return "\n".join(lines)


def _files(options: Options, content: bytes) -> list[File]:
    config = File(CONFIG, content, merged=True)
    if options.data_root is None:
        return [config]
    text = (
        "# Without its disk Docker would fill the SD card instead; written by chaos-engine\n"
        f"[Unit]\nRequiresMountsFor={options.data_root}\n"
    )
    return [config, File(DATA_ROOT, text)]


def warnings(engine: Engine | None, config: Mapping[str, Any], restarts: bool) -> Iterator[str]:
    """Yield warnings about what the run does to the node's containers. This is a pure function.

    + engine: the state of the running Docker, ``None`` if Docker does not run
    + config: the keys of the merged daemon.json, with their values
    + restarts: whether the run restarts Docker without draining the node first
    """
    if engine is None or not engine.containers:
        return
    if restarts and not engine.live_restore:
        yield (
            f"Docker has to restart, and its {engine.containers} containers stop; drain the node "
            "first if it is in use"
        )
    root = config.get("data-root", engine.data_root)
    if (engine.storage_driver, engine.data_root) != (DRIVER, root):
        yield (
            f"Docker's storage changes from {engine.storage_driver} in {engine.data_root} to "
            f"{DRIVER} in {root}; the present {engine.containers} containers and their images are "
            "not removed, but Docker no longer sees them"
        )


UNDO = Undo(
    needed_when_joined=True,
    note="Docker's images, containers and volumes stay in its data folder, by default "
    "/var/lib/docker",
    take_out={CONFIG: daemon_json.without_options},
    purged={"docker.io": "stop_containers"},
)
