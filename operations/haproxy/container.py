"""Run HAProxy in a container that has its own address and is supervised by systemd."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from chaos_engine.facts.containers import Container, ContainerState, Image
from chaos_engine.facts.docker import DockerNetwork, DockerNetworks
from chaos_engine.facts.haproxy import RUN, SCRIPT, LoadedConfig
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
from chaos_engine.operations.undo import Undo

UNIT_FILE = f"/etc/systemd/system/{SERVICE}"
OWN = f"{DIRECTORY}/haproxy"
"""Folder on the node's own disk with the configuration of the last deploy. HAProxy runs only this
configuration."""
CONFIG = "haproxy.cfg"
CHECKSUM = "# sha256 of the lines above: "
"""Start of the configuration's last line. The checksum is not in a file of its own: a power cut
between two renames would leave a checksum that does not fit the configuration, and HAProxy would
not start."""

UNIT = Unit(SERVICE, reads=(SCRIPT,), ready=f"{SCRIPT} check")

MOUNTS = {"/usr/local/etc/haproxy": f"{RUN}/config", "/run/haproxy": f"{RUN}/socket"}
"""The folders that are mounted into the container: the node's path by the container's path."""

# Pulls the image $1
_PULL = f"""\
# After an interruption Docker may have layers whose files are empty. A pull takes them for present,
# even if no image has them. Removing the pulled image removes them too
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
  # the registry has answered, and would give the same answer again
  case $said in *"manifest unknown"* | *": not found"* | *"verification failed"*) break ;; esac
  sleep $pause
done
case $1 in
  # docker load brings no digests
  *@sha256:*) else="correct the digest: docker pull prints the one of a tag" ;;
  *) else="bring it by docker load" ;;
esac
echo "$1 cannot be pulled: fix the node's way to the registry, or $else" >&2
exit 1
"""


@dataclass(frozen=True)
class Proxy:
    """HAProxy's container as it shall be.

    + image: its image, with a tag, a digest, or both
    + network: name of the macvlan network that it is on
    + parent: the network interface that this network is on
    + vip: its address there
    + mac: its MAC address there, in lower case
    + sockets: path of the link to the folder of its admin socket, which the start script makes;
      ``None`` if it is on the log share
    """

    image: ImageName
    network: DockerName
    parent: LinkName
    vip: IPv4Address
    mac: MacAddress
    sockets: AbsolutePath | None = None


@converge(reads=lambda image: [Read.of(Image, image=image), Read.of(Repairs)])
def pull_image(image: ImageName) -> Commands:
    """Have an image on the node. It is pulled if it is absent, never again, and never at boot.

    + image: its name with a tag, a digest, or both. With a digest, Docker takes no image with
      another digest, and the tag is for people only

    Raises `NodeError` if Docker does not answer during a run.

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
        noop=f"{image}: {found or 'unknown, as Docker does not run'}",
        force=found == "",
        before=f"{NEEDS_DOCKER}note image pulled {quote(image)}",
        repairs=[of_docker("image", image, image)],
    )


def reads(proxy: Proxy, wanted: Iterable[File]) -> list[Read]:
    """Return what `run_haproxy` will observe for the same arguments."""
    return [
        Read.of(Container, container=CONTAINER),
        Read.of(Image, image=proxy.image),
        Read.of(LoadedConfig),
        Read.of(DockerNetworks),
        Read.of(Interface, interface=proxy.parent),
        Read.of(AddressOwners, addresses=((str(proxy.vip), CONTAINER),)),
        *files.reads(wanted, units=[UNIT]),
    ]


@converge(reads=reads)
def run_haproxy(proxy: Proxy, wanted: Iterable[File]) -> Commands:
    """Run HAProxy in its container, with its configuration as it is now.

    + proxy: how the container shall be
    + wanted: the start script, the unit, and the configuration under `OWN`, `sealed`

    A new configuration is checked by HAProxy in the same image, and then reloaded: no connection is
    cut. A container that differs from `proxy` is made anew. A container that was the proxy until
    now under another name is replaced. Raises `NodeError` if another machine or another container
    has the address.

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
        raise NodeError(f"the files for HAProxy lack {OWN}/{CONFIG}; give it too")
    todo = files.decide(wanted, units=[UNIT])
    found = observe(Container, container=CONTAINER)
    differs = differences(proxy, found, observe(Image, image=proxy.image))
    todo = with_restart(todo, differs)
    reload = UNIT not in (*todo.start, *todo.restart) and (
        observe(LoadedConfig) != hashlib.sha256(config.data).hexdigest()
    )
    if differs:
        because(f"run the container {CONTAINER} anew: {'; '.join(differs)}")
    if reload:
        because("reload HAProxy: it runs with another configuration")
    apply = f"{SCRIPT} reload && {SCRIPT} check" if reload else ""
    yield from files.transaction(
        todo,
        check(todo, proxy.image),
        apply,
        noop=f"{proxy.vip}: HAProxy runs as wanted",
        force=reload,
        makes=[proxy.sockets] if proxy.sockets else [],
    )


def sealed(text: str) -> str:
    """Return HAProxy's configuration with its checksum in a last line.

    The start script runs a configuration only if it has this checksum.
    """
    return f"{text}{CHECKSUM}{hashlib.sha256(text.encode()).hexdigest()}\n"


def predecessors(proxy: Proxy, network: DockerNetwork | None) -> list[str]:
    """Return the names of the containers on this node that are the proxy under another name.

    + network: the macvlan network, ``None`` if there is none

    They have the proxy's address and its MAC address. The start script removes them.
    """
    if network is None:
        return []
    same = [name for name, address in network.containers.items() if address == str(proxy.vip)]
    return [name for name in same if name != CONTAINER and network.macs.get(name) == proxy.mac]


def container_conflict(proxy: Proxy, network: DockerNetwork | None) -> str:
    """Say which container of this node has the proxy's address already; "" if none has."""
    own = {CONTAINER, *predecessors(proxy, network)}
    for name, address in (network.containers if network else {}).items():
        if name not in own and address == str(proxy.vip):
            return (
                f"the container {name} has the address {address} on {proxy.network}; if the proxy "
                f"shall take its place, remove it: docker rm -f {name}"
            )
    return ""


def address_conflict(proxy: Proxy, owner: str) -> str:
    """Say who answers at the proxy's address already; "" if nobody does.

    + owner: MAC address of the machine that answers, "" if none does
    """
    if owner == proxy.mac:
        return (
            f"{proxy.vip} is answered by {owner}, the proxy's own MAC address: the proxy runs "
            "already, on another node or in another container here; stop it where it runs: "
            f"systemctl disable --now {SERVICE}"
        )
    if owner:
        return (
            f"{proxy.vip} belongs to the machine with the MAC address {owner}; choose another "
            f"{setting('vip')}, outside of the router's DHCP range"
        )
    return ""


def differences(proxy: Proxy, found: ContainerState | None, image_id: str | None) -> list[str]:
    """Say how the container differs from the wanted one: a pure function.

    + found: the container, ``None`` if there is none
    + image_id: the id of the wanted image on the node; "" or ``None`` if that is not known
    """
    if found is None or not found.running:
        return ["it does not run"]
    differs = []
    if found.image != proxy.image or (image_id and found.image_id != image_id):
        differs.append(f"it runs {found.image} ({found.image_id[:19]})")
    if found.addresses != {proxy.network: (str(proxy.vip), proxy.mac)}:
        differs.append(f"it has the addresses {found.addresses}")
    if found.mounts != MOUNTS:
        differs.append(f"it has the mounts {found.mounts}")
    return differs


def with_restart(todo: Plan, found: list[str]) -> Plan:
    """Return the plan with a restart of the unit if its container differs.

    + found: how the container differs, as `differences` returns it

    `decide` looks only at the unit's files. If they are as wanted, it plans no restart, even for a
    wrong container. The restart makes a new container.
    """
    if found and UNIT not in (*todo.start, *todo.restart):
        return replace(todo, restart=(*todo.restart, UNIT))
    return todo


def check(todo: Plan, image: str) -> str:
    """Return the shell command that fails for bad new files, "" if none has to be checked.

    HAProxy in `image` checks the configuration, also if only the image has changed: the start
    script names the image, and so is among the new files.
    """
    written = {file.path for file in todo.write}
    commands = []
    if SCRIPT in written:
        commands.append(f'sh -n "$stage"{SCRIPT}')
    if written & {SCRIPT, f"{OWN}/{CONFIG}"}:
        folder = f'"$stage"{OWN}' if f"{OWN}/{CONFIG}" in written else quote(OWN)
        # HAProxy runs as another user than root, who cannot read the staging folder
        commands.append(
            f"rm -rf {RUN}.check; trap 'rm -rf {RUN}.check' EXIT; mkdir -m 755 {RUN}.check\n"
            f"install -m 644 {folder}/{CONFIG} {RUN}.check\n"
            "docker run --rm --pull never --network none --log-driver none --mount "
            f"type=bind,source={RUN}.check,target=/usr/local/etc/haproxy,readonly "
            f"{quote(image)} haproxy -c -f /usr/local/etc/haproxy/{CONFIG}"
        )
    return "\n".join(commands)


UNDO = Undo(
    note="the address of the Kubernetes API goes away with the proxy",
    last=f"rm -rf -- {RUN} {RUN}.check",
)
