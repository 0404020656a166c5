"""Docker of the distribution, configured before it starts for the first time."""

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
"""Where containerd looks for networks, which nothing here uses."""

# docker-ce is Docker's own package; the others are the distribution's
_PACKAGES = ("docker.io", "docker-cli", "ca-certificates", "docker-ce", "containerd", "runc")

# The command is a package of its own where docker.io only recommends it (Debian 13)
_RECOMMENDED = """apart apt-cache depends docker.io |
  awk '$1 == "Recommends:" && $2 == "docker-cli" { print $2 }'"""

# A daemon that answers may still run with something else, if it was told so elsewhere. containerd's
# image store calls itself as the storage driver is called, and has a driver-type
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

# Since Docker 23; looks for docker-proxy on its PATH
_CHECK = f'dockerd --validate --config-file "$stage"{CONFIG}'


def reads(options: Options, rolling: Rolling | None = None) -> list[Read]:
    """What `engine` will observe for the same arguments."""
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

    The file is there before the package: Docker starts while it is installed, and would lay out
    its storage with other defaults. Docker is restarted only if it runs with something else, and
    gets its old file back if it does not answer within 60 seconds.

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
    there = found.get("docker.io")
    installed = major(there.version) if there is not None else None
    validates = there is not None and there.complete and (installed or 0) >= 23
    clashes = [
        *([service.problem] if service.problem else []),
        *conflicts(config, service.flags),
        *refusals(config, installed),
        *([] if validates else invalid_keys(config)),
    ]
    if clashes:
        raise NodeError(f"Docker would not start: {'; '.join(clashes)}")
    unfit = contradictions(config, service.flags)
    if unfit:
        raise NodeError("; ".join(unfit))
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
    """A reason of a plan's; of daemon.json what changes in it."""
    if before is None or not reason.startswith(f"write {CONFIG} (other"):
        return reason
    changes = differences(parse(before) if before.strip() else {}, config)
    return f"write {CONFIG}: {', '.join(changes) or 'its form only'}"


def why(found: Mapping[str, PackageState], client: bool) -> Iterator[str]:
    """What has to be installed and held, for the same arguments as `compose`: a pure function."""
    missing = _missing(found)
    torn = [name for name in ("containerd", "runc") if name in found and not _complete(found[name])]
    yield from listed("install", [*missing, *torn, *([] if client else ["docker-cli"])])
    unheld = _unheld(found)
    yield from listed("hold", unheld if "docker.io" in found else ["docker.io", *unheld])


def compose(found: Mapping[str, PackageState], client: bool) -> str:
    """The shell script that installs and holds what is missing; empty if nothing is.

    + found: the packages that are there
    + client: whether the command ``docker`` is there; some distributions package it apart
    """
    # Not what is there already: its name would have apt upgrade it, hold or not
    missing = _missing(found)
    install = bool(missing) or not client or _interrupted(found)
    if not install and not _unheld(found):
        return ""
    lines = [APT]
    if install:
        get = "apt install --no-install-recommends --allow-change-held-packages"
        # containerd makes it whenever it starts, with no package to tell of it
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
    """Whether Docker itself has to be installed, which starts it anew."""
    return not _complete(found.get("docker.io")) or _interrupted(found)


def _unheld(found: Mapping[str, PackageState]) -> list[str]:
    """The packages that are there and not held."""
    names = ("docker.io", "docker-cli")
    return [name for name in names if name in found and not found[name].held]


def _interrupted(found: Mapping[str, PackageState]) -> bool:
    """Whether the installation of what Docker runs on was interrupted; any other one, of nothing
    too, has apt finish that."""
    return any(name in found and not found[name].complete for name in ("containerd", "runc"))


def _missing(found: Mapping[str, PackageState]) -> list[str]:
    """The packages that are wanted in any case and are not whole."""
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
    """What a change does to the containers that are there, in words.

    + engine: Docker as it runs, ``None`` if it does not
    + config: what daemon.json shall say
    + restarts: whether Docker has to restart, with pods that were not taken elsewhere before
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
