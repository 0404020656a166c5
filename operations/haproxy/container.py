"""Run HAProxy in a container that has its own address and is supervised by systemd."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from chaos_engine.facts.containers import Container, ContainerState, Image
from chaos_engine.facts.docker import DockerNetwork, DockerNetworks
from chaos_engine.facts.haproxy import RUN, SCRIPT, SEVERAL, LoadedConfig
from chaos_engine.facts.manifest import DIRECTORY, PULLING
from chaos_engine.facts.network import AddressOwners, Interface
from chaos_engine.facts.observe import NodeError, Read, current, observe
from chaos_engine.facts.repairs import Repairs
from chaos_engine.facts.text import setting
from chaos_engine.operations import files
from chaos_engine.operations.engine.arguments import (
    AbsolutePath,
    DockerName,
    ImageName,
    LinkName,
    MacAddress,
)
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.repairs import of_docker
from chaos_engine.operations.engine.shell import NEEDS_DOCKER, QUIETLY, quote
from chaos_engine.operations.files import File, Plan, Unit
from chaos_engine.operations.macvlan_network.commands import CONTAINER, SERVICE
from chaos_engine.operations.rolling.turns import one_proxy_at_a_time
from chaos_engine.operations.undo import Undo

UNIT_FILE = f"/etc/systemd/system/{SERVICE}"
OWN = f"{DIRECTORY}/haproxy"
"""Folder on the node's own disk. It has the configuration of the last deploy. HAProxy runs with no
other configuration."""
CONFIG = "haproxy.cfg"
PEERS = "peers"
"""Name of a file in the folder `OWN`. With several proxies, the file has the addresses of the other
proxies."""
CHECKSUM = "# sha256 of the lines above: "
"""Beginning of the configuration's last line. The checksum follows it. If the checksum had a file
of its own, a power cut between two renames could leave the checksum of another configuration. Then
HAProxy would not start."""

UNIT = Unit(SERVICE, reads=(SCRIPT,), ready=f"{SCRIPT} check")
"""HAProxy's unit on the only proxy."""

UNIT_OF_SEVERAL = Unit(SERVICE, reads=(SEVERAL,), ready=f"{SEVERAL} check")
"""HAProxy's unit on one of several proxies."""

BRIDGE = "bridge"
"""The name of Docker's default network. The containers of several proxies are on it."""

MOUNTS = {"/usr/local/etc/haproxy": f"{RUN}/config", "/run/haproxy": f"{RUN}/socket"}
"""The container's mounts. A key is a path in the container, a value the node's folder that is
mounted there."""

# Pulls the image $1
_PULL = f"""\
# An interrupted pull may leave layers with empty files. The next pull does not fetch these layers
# again, although they belong to no image. Removing the pulled image removes them too
if grep -qxFs -e "$1" {PULLING}; then
  tell "pulling $1 once more: an earlier pull was interrupted"
  docker pull -- "$1" >/dev/null 2>&1 || :
  docker image rm -f -- "$1" >/dev/null 2>&1 || :
fi
rm -f -- {PULLING}; jot {PULLING} "$1"
{QUIETLY}
for pause in 2 10 0; do
  tell "pulling $1"
  if quietly docker pull -- "$1"; then
    echo "$said"
    durable
    rm -f -- {PULLING}; sync -- "$STATE_DIR"
    exit 0
  fi
  # the registry would give the same answer to another attempt
  case $said in *"manifest unknown"* | *": not found"* | *"verification failed"*) break ;; esac
  sleep $pause
done
case $1 in
  # an image from docker load has no digest
  *@sha256:*) else="correct the digest (docker pull of a tag prints the tag's digest)" ;;
  *) else="bring it by docker load" ;;
esac
echo "$1 cannot be pulled: fix the node's way to the registry, or $else" >&2
exit 1
"""

# Fails if another proxy still runs. If this node owns the address, it gives the address up, so that
# another proxy takes it. Then the script looks for another machine that has the address
_ONLY = f"""\
others() {{
  if [ -e {RUN}/owns ]; then
    echo 50 >{RUN}/down
    tries=60
    while [ -e {RUN}/owns ] && [ $tries != 0 ]; do tries=$((tries - 1)); sleep 0.1; done
    echo 0 >{RUN}/down
    [ ! -e {RUN}/owns ] || return 0
  fi
  ip -4 neighbour flush to "$1"
  timeout 1 bash -c 'echo >"/dev/udp/$1/9"' bash "$1" 2>/dev/null || :
  tries=20
  until ip -4 neighbour show to "$1" | grep -q lladdr; do
    tries=$((tries - 1)); [ $tries != 0 ] || return 0
    sleep 0.05
  done
  echo "$1 is owned by another proxy, which still runs, so this node cannot become the only" \\
    "proxy; undo haproxy and vrrp on that node first, or run there: systemctl disable --now" \\
    "haproxy_vrrp {SERVICE}" >&2
  exit 1
}}
"""

# Removes the links of one of several proxies as soon as its container has ended. While they exist,
# the container of an only proxy cannot have its MAC address. They are not removed before: if the
# script were ended then, no proxy would have the address. keepalived's check removes them too, but
# only within a second
_REMOVE_LINKS = f"""\
(
  exec 9>&- </dev/null >/dev/null 2>&1
  pid=$(cat {RUN}/pid) || pid=none
  tries=1200
  while [ -e "/proc/$pid" ] && [ $tries != 0 ]; do tries=$((tries - 1)); sleep 0.05; done
  # A later run may have started another container
  [ $tries != 0 ] && [ "$(cat {RUN}/pid || echo none)" = "$pid" ] || exit 0
  ip -n {CONTAINER} link delete dev api || :
  ip -n {CONTAINER} link delete dev drain || :
  ip netns delete {CONTAINER} || :
  rm -f {RUN}/pid {RUN}/id {RUN}/owns {RUN}/draining {RUN}/peers {RUN}/down
) &
"""


@dataclass(frozen=True)
class Proxy:
    """The wanted state of HAProxy's container.

    + image: name of the container's image, with a tag, a digest, or both
    + network: name of the container's macvlan network
    + parent: the node's network interface that the macvlan network uses
    + vip: the container's IPv4 address in the macvlan network
    + mac: the container's MAC address in the macvlan network, in lower case
    + sockets: path of a link to the folder with HAProxy's admin socket. The start script makes the
      link. If the path is on the log share, `sockets` is ``None``, and `publish_copy` makes the
      link
    + several: whether there are several proxies. With several proxies, the container is on Docker's
      default bridge, and the script `SEVERAL` gives the IPv4 address to the container
    """

    image: ImageName
    network: DockerName
    parent: LinkName
    vip: IPv4Address
    mac: MacAddress
    sockets: AbsolutePath | None = None
    several: bool = False

    @property
    def script(self) -> AbsolutePath:
        """Return the path of the script that runs the container."""
        return SEVERAL if self.several else SCRIPT

    @property
    def unit(self) -> Unit:
        """Return HAProxy's unit."""
        return UNIT_OF_SEVERAL if self.several else UNIT


@converge(reads=lambda image: [Read.of(Image, image=image), Read.of(Repairs)])
def pull_image(image: ImageName) -> Commands:
    """Pull a Docker image, unless the node has the image already.

    + image: the image's name with a tag, a digest, or both. With a digest, Docker ignores the tag

    The image is pulled only by a run, never at boot. If Docker is installed but does not answer, a
    run raises `NodeError`, and a preview raises no error.

    **Example:** ``pull_image(name="Pull HAProxy's image", image="haproxy:3.0")``
    """
    found = observe(Image, image=image)
    if found is None and current()[0].is_executing:
        raise NodeError("Docker is installed but does not answer; look at journalctl -u docker")
    if found == "":
        because(f"pull {image}")
    yield from files.transaction(
        Plan(),
        apply=f"set -- {quote(image)}\n{_PULL}",
        noop=f"{image}: {found or 'unknown, because Docker does not run'}",
        force=found == "",
        before=f"{NEEDS_DOCKER}note image pulled {quote(image)}",
        repairs=[of_docker("image", image, image)],
    )


def reads(proxy: Proxy, wanted: Iterable[File]) -> list[Read]:
    """Return the facts that `run_haproxy` will read for the same arguments."""
    return [
        Read.of(Container, container=CONTAINER),
        Read.of(Image, image=proxy.image),
        Read.of(LoadedConfig),
        Read.of(DockerNetworks),
        Read.of(Interface, interface=proxy.parent),
        Read.of(AddressOwners, addresses=((str(proxy.vip), CONTAINER),)),
        *files.reads(wanted, units=[proxy.unit]),
    ]


@converge(reads=reads)
def run_haproxy(proxy: Proxy, wanted: Iterable[File]) -> Commands:
    """Run HAProxy in its container with the wanted configuration.

    + proxy: the wanted state of the container
    + wanted: the files for HAProxy: the start script, the systemd unit, and, in the folder `OWN`,
      the configuration as `sealed` returns it

    A temporary container of the image `proxy.image` checks a new configuration. Then the running
    HAProxy loads the new configuration, and cuts no connection. The operation replaces a container
    that differs from `proxy`. The operation also replaces a container with another name that has
    the proxy's IP address and MAC address in the same network.

    Raises `NodeError` if another machine or any other container has the proxy's address, or if
    `proxy.mac` is the MAC address of `proxy.parent`. With several proxies, another machine may have
    the address if its MAC address is `proxy.mac`. Such a machine is another proxy.

    **Example:** ``run_haproxy(name="Run HAProxy", proxy=Proxy(...), wanted=[File(...)])``
    """
    wanted = tuple(wanted)
    parent = observe(Interface, interface=proxy.parent)
    if parent and parent.mac == proxy.mac:
        raise NodeError(
            f"{setting('vip_mac')}: {proxy.mac} is the MAC address of {proxy.parent}; choose "
            "another one"
        )
    network = (observe(DockerNetworks) or {}).get(proxy.network)
    problem = container_conflict(proxy, network)
    if not problem and not predecessors(proxy, network):
        owners = observe(AddressOwners, addresses=((str(proxy.vip), CONTAINER),))
        problem = address_conflict(proxy, owners.get(str(proxy.vip), ""))
    if problem:
        raise NodeError(problem)
    config = next((file for file in wanted if file.path == f"{OWN}/{CONFIG}"), None)
    if config is None:
        raise NodeError(f"the files for HAProxy lack {OWN}/{CONFIG}; add it to `wanted`")
    todo = files.decide(wanted, units=[proxy.unit])
    found = observe(Container, container=CONTAINER)
    differs = differences(proxy, found, observe(Image, image=proxy.image))
    todo = with_restart(todo, differs, proxy.unit)
    starts = proxy.unit in (*todo.start, *todo.restart)
    reload = not starts and (observe(LoadedConfig) != hashlib.sha256(config.data).hexdigest())
    if differs:
        because(f"start a new container {CONTAINER}: {'; '.join(differs)}")
    if reload:
        because("reload HAProxy: it has loaded a different configuration")
    apply = f"{proxy.script} reload && {proxy.script} check" if reload else ""
    if differs and not proxy.several:
        apply = _REMOVE_LINKS
    commands = files.transaction(
        todo,
        check(todo, proxy.image),
        apply,
        before=before(proxy, found),
        noop=f"{proxy.vip}: HAProxy runs as wanted",
        force=reload,
        makes=[proxy.sockets] if proxy.sockets else [],
    )
    # A proxy cannot take the address while it starts its container, so the others have to be ready
    yield from one_proxy_at_a_time(commands) if proxy.several and starts else commands


def sealed(text: str) -> str:
    """Append a checksum line to HAProxy's configuration, and return the result.

    The line has the SHA-256 checksum of all lines above it. The start script runs HAProxy only if
    the checksum is right.
    """
    return f"{text}{CHECKSUM}{hashlib.sha256(text.encode()).hexdigest()}\n"


def predecessors(proxy: Proxy, network: DockerNetwork | None) -> list[str]:
    """Return the names of old proxy containers on this node.

    + network: the macvlan network, ``None`` if there is none

    An old proxy container has the proxy's IP address and MAC address, but its name is not
    `CONTAINER`. The start script removes old proxy containers.
    """
    if network is None:
        return []
    same = [name for name, address in network.containers.items() if address == str(proxy.vip)]
    return [name for name in same if name != CONTAINER and network.macs.get(name) == proxy.mac]


def container_conflict(proxy: Proxy, network: DockerNetwork | None) -> str:
    """Return an error message if another container on this node has the proxy's address, else "".

    + network: the macvlan network, ``None`` if there is none
    """
    own = {CONTAINER, *predecessors(proxy, network)}
    for name, address in (network.containers if network else {}).items():
        if name not in own and address == str(proxy.vip):
            return (
                f"the container {name} has the proxy's address {address} on {proxy.network}; if "
                f"you do not need this container, remove it: docker rm -f {name}"
            )
    return ""


def address_conflict(proxy: Proxy, owner: str) -> str:
    """Return an error message if a machine already answers at the proxy's address, else "".

    + owner: MAC address of the machine that answers, "" if none does
    """
    if owner == proxy.mac and proxy.several:
        return ""
    if owner == proxy.mac:
        return (
            f"a machine with the proxy's own MAC address {owner} answers at {proxy.vip}: the proxy "
            "already runs on another node, or in another container on this node; stop it there: "
            f"systemctl disable --now {SERVICE}"
        )
    if owner:
        return (
            f"{proxy.vip} belongs to the machine with the MAC address {owner}; choose another "
            f"{setting('vip')}, outside of the router's DHCP range"
        )
    return ""


def differences(proxy: Proxy, found: ContainerState | None, image_id: str | None) -> list[str]:
    """Return how HAProxy's container differs from the wanted state, in words.

    This is a pure function.

    + found: the state of the container, ``None`` if there is no container
    + image_id: the ID of the wanted image on the node, "" or ``None`` if the ID is unknown
    """
    if found is None or not found.running:
        return ["it does not run"]
    differs = []
    if found.image != proxy.image or (image_id and found.image_id != image_id):
        differs.append(f"it runs {found.image} ({found.image_id[:19]})")
    single = {proxy.network: (str(proxy.vip), proxy.mac)}
    if [*found.addresses] != [BRIDGE] if proxy.several else found.addresses != single:
        differs.append(f"it has the addresses {found.addresses}")
    if found.mounts != MOUNTS:
        differs.append(f"it has the mounts {found.mounts}")
    return differs


def before(proxy: Proxy, found: ContainerState | None) -> str:
    """Return the shell commands that run before any change, "" for none.

    The commands fail if another proxy still runs. The commands are needed only if this node was
    one of several proxies and is now the inventory's only proxy. This is a pure function.

    + found: the state of the container, ``None`` if there is no container
    """
    if proxy.several or found is None or BRIDGE not in found.addresses:
        return ""
    return f"{_ONLY}others {quote(str(proxy.vip))}\n"


def with_restart(todo: Plan, found: list[str], unit: Unit = UNIT) -> Plan:
    """Add a restart of HAProxy's unit to a plan if the container differs from the wanted state.

    + found: the differences, as `differences` returns them

    The restart makes a new container. `decide` does not plan this restart, because it looks only at
    the unit's files.
    """
    if found and unit not in (*todo.start, *todo.restart):
        return replace(todo, restart=(*todo.restart, unit))
    return todo


def check(todo: Plan, image: str) -> str:
    """Return a shell command that fails if the new files are bad, "" if no file needs a check.

    HAProxy from `image` checks the configuration if the configuration or a start script is new. The
    start scripts contain the image's name, so a new image is checked too.
    """
    written = {file.path for file in todo.write}
    commands = [f'sh -n "$stage"{path}' for path in (SCRIPT, SEVERAL) if path in written]
    if written & {SCRIPT, SEVERAL, f"{OWN}/{CONFIG}"}:
        folder = f'"$stage"{OWN}' if f"{OWN}/{CONFIG}" in written else quote(OWN)
        # HAProxy's user in the container is not root, and cannot read the staging folder
        commands.append(
            f"rm -rf {RUN}.check; trap 'rm -rf {RUN}.check' EXIT; mkdir -m 755 {RUN}.check\n"
            f"install -m 644 {folder}/{CONFIG} {RUN}.check\n"
            "docker run --rm --pull never --network none --log-driver none --mount "
            f"type=bind,source={RUN}.check,target=/usr/local/etc/haproxy,readonly "
            f"{quote(image)} haproxy -c -f /usr/local/etc/haproxy/{CONFIG}"
        )
    return "\n".join(commands)


UNDO = Undo(
    note="this node is no longer a proxy; if it was the only one, nothing answers at the address "
    "of the Kubernetes API",
    last=f"rm -rf -- {RUN} {RUN}.check",
)
