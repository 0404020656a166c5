"""HAProxy in a container with an address of its own, supervised by systemd."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from pyinfra.api.command import QuoteString, StringCommand

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
from chaos_engine.operations.engine.originals import KEEP, recorded
from chaos_engine.operations.engine.prelude import PRELUDE
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.repairs import of_docker, tell
from chaos_engine.operations.engine.shell import QUIETLY, quote
from chaos_engine.operations.files import File, Plan, Unit
from chaos_engine.operations.macvlan_network import CONTAINER, SERVICE
from chaos_engine.operations.undo import Undo

UNIT_FILE = f"/etc/systemd/system/{SERVICE}"
OWN = f"{DIRECTORY}/haproxy"
"""Folder on the node's own disk with the configuration of the last deploy: no other runs."""
CONFIG = "haproxy.cfg"
CHECKSUM = "# sha256 of the lines above: "
"""How its last line begins. In a file of its own the checksum would be another one's after a power
cut between two renames, and HAProxy would not start."""

UNIT = Unit(SERVICE, reads=(SCRIPT,), ready=f"{SCRIPT} check")

_PULL = f"""\
{PRELUDE}{KEEP}command -v docker >/dev/null || {{
  echo "Docker is not installed; deploy chaos_engine.deploys.docker first" >&2; exit 1
}}
fixes "$2"; note image pulled "$1"; settle
# After an interruption Docker may know layers whose files are empty, also such that no image has:
# a pull takes them for present, and removing the image that it makes removes them too
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
    rm -f -- {PULLING}; sync -- {DIRECTORY}
    fixed
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
    """How HAProxy's container shall be.

    + image: its image, with a tag, a digest, or both
    + network: the macvlan network that it is on
    + parent: the network interface that this network is on
    + vip: its address there
    + mac: its MAC address there, in lower case
    + sockets: path of the link to the folder of its admin socket, ``None`` if it is none of this
      operation's
    """

    image: ImageName
    network: DockerName
    parent: LinkName
    vip: IPv4Address
    mac: MacAddress
    sockets: AbsolutePath | None = None

    @property
    def mounts(self) -> dict[str, str]:
        """The folders that it gets, sources by target."""
        return {"/usr/local/etc/haproxy": f"{RUN}/config", "/run/haproxy": f"{RUN}/socket"}


@converge(reads=lambda image: [Read.of(Image, image=image), Read.of(Repairs)])
def pull_image(image: ImageName) -> Commands:
    """Have an image on the node: pulled when it is absent, never again, and never at boot.

    + image: its name with a tag, a digest, or both. With a digest Docker takes that image and no
      other: it computes the digest of what the registry sends. The tag is for people then

    **Example:** ``pull_image(name="Pull HAProxy's image", image="haproxy:3.0")``
    """
    found = observe(Image, image=image)
    state, host = current()
    if found is None and state.is_executing:
        raise NodeError("Docker is installed but does not answer; look at journalctl -u docker")
    if found != "":
        host.noop(f"{image}: {found or 'Docker does not run to tell'}")
        return
    because(f"pull {image}")
    repair = of_docker("image", image, image)
    tell([repair])
    words = ("sh", QuoteString(image), QuoteString(repair.line))
    yield StringCommand("sh -c", QuoteString(recorded(_PULL)), *words)


def reads(proxy: Proxy, wanted: Iterable[File]) -> list[Read]:
    """What `run` will observe for the same arguments."""
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

    A new configuration is checked by HAProxy in the same image, and reloaded: no connection is cut.
    A container that differs from what is wanted is made anew, one of another name that has been
    the proxy is replaced. Raises `NodeError` if somebody else has the address.

    **Example:** ``run_haproxy(name="Run HAProxy", proxy=Proxy(...), wanted=[File(...)])``
    """
    wanted = tuple(wanted)
    network = (observe(DockerNetworks) or {}).get(proxy.network)
    problem = container_conflict(proxy, network)
    if not problem and not predecessors(proxy, network):
        owners = observe(AddressOwners, addresses=((str(proxy.vip), CONTAINER),))
        problem = address_conflict(proxy, owners.get(str(proxy.vip), ""))
    parent = observe(Interface, interface=proxy.parent)
    if parent and parent.mac == proxy.mac:
        problem = (
            f"{setting('vip_mac')}: {proxy.mac} is the MAC address of {proxy.parent}; choose "
            "another one"
        )
    if problem:
        raise NodeError(problem)
    config = next((file for file in wanted if file.path == f"{OWN}/{CONFIG}"), None)
    if config is None:
        raise NodeError(f"{OWN}/{CONFIG} is not among the files for HAProxy; give it too")
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
    """The configuration with its checksum in a last line: the start script takes no other."""
    return f"{text}{CHECKSUM}{hashlib.sha256(text.encode()).hexdigest()}\n"


def predecessors(proxy: Proxy, network: DockerNetwork | None) -> list[str]:
    """The containers of this node that are the proxy under another name: they have its address and
    its MAC address too. Its start script removes them."""
    found = network.containers.items() if network else ()
    return [
        name
        for name, address in found
        if name != CONTAINER
        and network
        and (address, network.macs.get(name)) == (str(proxy.vip), proxy.mac)
    ]


def container_conflict(proxy: Proxy, network: DockerNetwork | None) -> str:
    """Why a container of this node keeps the proxy from its address; "" if none does."""
    own = {CONTAINER, *predecessors(proxy, network)}
    for name, address in (network.containers if network else {}).items():
        if name not in own and address == str(proxy.vip):
            return (
                f"the container {name} has the address {address} on {proxy.network}; if the proxy "
                f"shall take its place, remove it: docker rm -f {name}"
            )
    return ""


def address_conflict(proxy: Proxy, owner: str) -> str:
    """Why a machine that answers at the proxy's address keeps it from it; "" if none answers.

    + owner: its MAC address, ""
    """
    if owner == proxy.mac:
        return (
            f"{proxy.vip} is answered by {owner}, the proxy's own MAC address: it runs on another "
            "node, or here in another container; stop it there first: systemctl disable --now "
            f"{SERVICE}"
        )
    if owner:
        return (
            f"{proxy.vip} belongs to the machine with the MAC address {owner}; choose another "
            f"{setting('vip')}, outside of the router's DHCP range"
        )
    return ""


def differences(proxy: Proxy, found: ContainerState | None, image_id: str | None) -> list[str]:
    """What of the running container is not as wanted, in words; a pure function.

    + found: the container, ``None`` if there is none
    + image_id: the id of the wanted image on the node; "" or ``None`` if that is not known
    """
    if found is None or not found.running:
        return ["it does not run"]
    due = []
    if found.image != proxy.image or (image_id and found.image_id != image_id):
        due.append(f"it runs {found.image} ({found.image_id[:19]})")
    if found.addresses != {proxy.network: (str(proxy.vip), proxy.mac)}:
        due.append(f"it has the addresses {found.addresses}")
    if found.mounts != proxy.mounts:
        due.append(f"it has the mounts {found.mounts}")
    return due


def with_restart(todo: Plan, differences: list[str]) -> Plan:
    """The plan with what the container asks for: one that differs is made anew, although systemd
    takes its unit for running as wanted."""
    if differences and UNIT not in (*todo.start, *todo.restart):
        return replace(todo, restart=(*todo.restart, UNIT))
    return todo


def check(todo: Plan, image: str) -> str:
    """The command that refuses the new files, "" if none of them has to be checked: the
    configuration by HAProxy in `image`, also if just the image is another one."""
    written = {file.path for file in todo.write}
    commands = []
    if SCRIPT in written:
        commands.append(f'sh -n "$stage"{SCRIPT}')
    if written & {SCRIPT, f"{OWN}/{CONFIG}"}:
        folder = f'"$stage"{OWN}' if f"{OWN}/{CONFIG}" in written else quote(OWN)
        # the image's user is not root: it could not read what is in the staging folder
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
