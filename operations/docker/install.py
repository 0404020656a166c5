"""Install the distribution's Docker, configured before it starts for the first time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from chaos_engine.facts.apt import Packages, PackageState
from chaos_engine.facts.docker import DockerInfo, Engine
from chaos_engine.facts.docker_service import DockerService
from chaos_engine.facts.files import Content, Present
from chaos_engine.facts.observe import NodeError, Read, observe, warn
from chaos_engine.operations import files
from chaos_engine.operations.apt import APT
from chaos_engine.operations.compatibility import major
from chaos_engine.operations.docker.daemon_json import (
    CONFIG,
    DRIVER,
    Options,
    conflicts,
    contradictions,
    merge,
    parse,
    refusals,
    without_options,
)
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
"""Folder in which containerd looks for network configurations. Nothing here uses it."""

# docker-ce is Docker's own package; the others are the distribution's
_PACKAGES = ("docker.io", "docker-cli", "ca-certificates", "docker-ce", "containerd", "runc")

# In Debian 13 the command `docker` is in a package of its own, which docker.io only recommends
_RECOMMENDED = """apart apt-cache depends docker.io |
  awk '$1 == "Recommends:" && $2 == "docker-cli" { print $2 }'"""

# A daemon that answers may still run with another driver, set elsewhere. containerd's image store
# reports the same driver name as the storage driver; only its DriverStatus has a driver-type
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

# Exists since Docker 23. It looks for docker-proxy on its PATH
_CHECK = f'dockerd --validate --config-file "$stage"{CONFIG}'


def reads(options: Options, rolling: Rolling | None = None) -> list[Read]:
    """Return what `install_docker` will observe for the same arguments."""
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
    """Have the distribution's Docker installed, held, and running with these options.

    + options: what daemon.json shall say; its other keys stay as they are
    + rolling: how a node that has joined a cluster leaves it for a restart of Docker

    daemon.json is written before the package is installed: Docker starts while it is installed, and
    would lay out its storage with other defaults. Docker is restarted only if it runs with another
    configuration. Its old file is restored if it does not answer within 60 seconds. Raises
    `NodeError` where docker-ce is installed, or where Docker would not start, or not serve
    Kubernetes, with the merged file.

    **Example:** ``install_docker(name="Run Docker", options=Options("10m", 3))``
    """
    found = observe(Packages, names=_PACKAGES)
    if "docker-ce" in found:
        raise NodeError(
            "docker-ce is installed, which docker.io would replace with all that it runs; drain "
            "the node and remove it first: apt-get remove docker-ce"
        )
    before = observe(Content, path=CONFIG)
    content = merge(before, options)
    config = json.loads(content)
    service = observe(DockerService)
    package = found.get("docker.io")
    installed = major(package.version) if package is not None else None
    validates = package is not None and package.complete and (installed or 0) >= 23
    start_problems = [
        *([service.problem] if service.problem else []),
        *conflicts(config, service.flags),
        *refusals(config, installed),
        *([] if validates else invalid_keys(config)),
    ]
    if start_problems:
        raise NodeError(f"Docker would not start: {'; '.join(start_problems)}")
    work_problems = contradictions(config, service.flags)
    if work_problems:
        raise NodeError("; ".join(work_problems))
    written = _files(options, content)
    rolling = rolling or Rolling()
    todo = files.decide(written, units=[UNIT])
    todo = replace(todo, why=tuple(_with_changes(one, before, config) for one in todo.why))
    restarts = bool(todo.restart)
    drained = node_standing(rolling).joined and rolling.kubectl is not None
    for message in warnings(observe(DockerInfo), config, restarts and not drained):
        warn(message)
    check = _CHECK if validates and content != before else ""
    apply = compose(found, observe(Present, path=CLIENT))
    repairs = [of_hold(name) for name in _unheld(found)]
    commands = files.transaction(
        todo, check, apply, noop="Docker runs as wanted", force=bool(apply), repairs=repairs
    )
    because(*why(found, observe(Present, path=CLIENT)))
    yield from in_turn(commands, rolling, stops_pods=restarts or installs_docker(found))


def _with_changes(reason: str, before: bytes | None, config: Mapping[str, Any]) -> str:
    """Return a reason of a plan; the one for daemon.json says which keys change."""
    if before is None or not reason.startswith(f"write {CONFIG} (other"):
        return reason
    changes = differences(parse(before) if before.strip() else {}, config)
    return f"write {CONFIG}: {', '.join(changes) or 'its form only'}"


def why(found: Mapping[str, PackageState], client: bool) -> Iterator[str]:
    """Say what has to be installed and held: a pure function.

    + found, client: as `compose` takes them
    """
    missing = _missing(found)
    interrupted = [n for n in ("containerd", "runc") if n in found and not _complete(found[n])]
    yield from listed("install", [*missing, *interrupted, *([] if client else ["docker-cli"])])
    unheld = _unheld(found)
    yield from listed("hold", unheld if "docker.io" in found else ["docker.io", *unheld])


def compose(found: Mapping[str, PackageState], client: bool) -> str:
    """Return the shell script that installs and holds what is missing, "" if nothing is.

    + found: the packages that are there, by name
    + client: whether the command ``docker`` is there; some distributions package it apart
    """
    # An installed package is not named: apt would upgrade it, even if it is held
    missing = _missing(found)
    install = bool(missing) or not client or _interrupted(found)
    if not install and not _unheld(found):
        return ""
    lines = [APT]
    if install:
        get = "apt install --no-install-recommends --allow-change-held-packages"
        # containerd makes this folder when it starts. No package owns it, so undo has to know of it
        lines.append(f"folders {CNI}/any; settle")
        lines.append("refresh")
        if missing or _interrupted(found):
            also = [] if client else [f"$({_RECOMMENDED})"]
            lines.append(" ".join([get, *missing, *also]))
        lines.append(f"test -x {CLIENT} || {get} docker-cli")
    lines.append(
        "for one in docker.io docker-cli; do\n"
        "  status=$(dpkg-query -W -f '${db:Status-Status}' $one 2>/dev/null) || true\n"
        '  [ "$status" != installed ] || hold $one\n'
        "done"
    )
    return "\n".join(lines)


def installs_docker(found: Mapping[str, PackageState]) -> bool:
    """Tell whether Docker itself has to be installed, which restarts it."""
    return not _complete(found.get("docker.io")) or _interrupted(found)


def _unheld(found: Mapping[str, PackageState]) -> list[str]:
    """Return the packages of Docker that are installed and not held."""
    names = ("docker.io", "docker-cli")
    return [name for name in names if name in found and not found[name].held]


def _interrupted(found: Mapping[str, PackageState]) -> bool:
    """Tell whether the installation of containerd or runc was interrupted.

    Then apt is called, even without a package to install: each call finishes such installations.
    """
    return any(name in found and not found[name].complete for name in ("containerd", "runc"))


def _missing(found: Mapping[str, PackageState]) -> list[str]:
    """Return the packages that every node needs and that are not completely installed."""
    return [name for name in ("docker.io", "ca-certificates") if not _complete(found.get(name))]


def _complete(package: PackageState | None) -> bool:
    return package is not None and package.complete


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
    """Say what a change does to the containers that are there.

    + engine: Docker as it runs, ``None`` if it does not
    + config: what daemon.json shall say
    + restarts: whether Docker has to restart without a drain before
    """
    if engine is None or not engine.containers:
        return
    if restarts and not engine.live_restore:
        yield (
            f"Docker has to restart, and its containers with it ({engine.containers} are there); "
            "drain the node first if it does work"
        )
    root = config.get("data-root", engine.data_root)
    if (engine.storage_driver, engine.data_root) != (DRIVER, root):
        yield (
            f"Docker keeps {engine.containers} containers and their images with "
            f"{engine.storage_driver} in {engine.data_root}; they are not removed, but not seen "
            f"with {DRIVER} in {root}"
        )


UNDO = Undo(
    needed_when_joined=True,
    note="Docker's images, containers and volumes stay in its data folder, /var/lib/docker unless "
    "it was set",
    take_out={CONFIG: without_options},
    purged={"docker.io": "stop_containers"},
)
