"""Create a Docker network whose containers have addresses of their own on the node's LAN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chaos_engine.facts.docker import DockerInfo, DockerNetwork, DockerNetworks
from chaos_engine.facts.network import Interface
from chaos_engine.facts.observe import NodeError, Read, current, observe
from chaos_engine.facts.repairs import Repairs
from chaos_engine.facts.text import setting
from chaos_engine.operations import files
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.repairs import of_docker
from chaos_engine.operations.engine.shell import NEEDS_DOCKER, quote
from chaos_engine.operations.files import Plan
from chaos_engine.operations.macvlan_network import commands
from chaos_engine.operations.macvlan_network.commands import CONTAINER, SERVICE, Macvlan


@converge(
    reads=lambda wanted, last=False, several=False: [
        Read.of(DockerNetworks),
        Read.of(DockerInfo),
        Read.of(Interface, interface=wanted.parent),
        Read.of(Repairs),
    ]
)
def create_network(wanted: Macvlan, last: bool = False, several: bool = False) -> Commands:
    """Create Docker's macvlan network.

    + wanted: the wanted state of the network
    + last: False if a later operation of the run starts the proxy, True if none does
    + several: whether there are several proxies

    If the network differs from `wanted`, it is removed and created again. The proxy's service is
    stopped meanwhile, unless there are several proxies: their containers are on another network. If
    the new network cannot be created, the old one is restored.

    If Docker does not answer, the operation fails only when pyinfra executes it. Before that, an
    earlier operation of the same run may still install or start Docker.

    Raises `NodeError` if the parent interface cannot carry macvlan links, if another Docker network
    prevents the creation, or if the network has to be removed while other containers use it.

    **Example:** ``create_network(name="Create the network", wanted=Macvlan("lb-network", ...))``
    """
    if problem := commands.parent_problem(wanted, observe(Interface, interface=wanted.parent)):
        raise NodeError(problem)
    networks = observe(DockerNetworks)
    if networks is None:
        state, host = current()
        if state.is_executing:
            raise NodeError(
                "Docker is installed but does not answer; look at journalctl -u docker, or deploy "
                "chaos_engine.deploys.docker first"
            )
        host.noop(f"{wanted.name}: unknown, because Docker does not run")
        return
    found = networks.get(wanted.name)
    if found and found.config_only:
        raise NodeError(
            f"the Docker network {wanted.name} was created with --config-only, so no container can "
            f"use it; set {setting('macvlan_network')} to another name, or remove that network: "
            f"docker network rm {wanted.name}"
        )
    differs = commands.differences(wanted, found) if found else []
    if found and differs:
        because(f"recreate the Docker network {wanted.name}: it has {', '.join(differs)}")
    elif not found:
        because(f"create the Docker network {wanted.name}")
    if differs or not found:
        engine = observe(DockerInfo)
        check_conflicts(wanted, networks, differs, engine.server_version if engine else "")
    was = recreate(wanted.name, found) if found else "created"
    yield from files.transaction(
        Plan(),
        apply=compose(wanted, found, last, several),
        noop=f"{wanted.name}: as wanted",
        force=bool(differs or not found),
        before=f"note network {quote(was, wanted.name)}",
        # If a network exists but differs, the settings may have changed. That is no repair
        repairs=[] if found else [of_docker("network", wanted.name, wanted.create)],
    )


def check_conflicts(
    wanted: Macvlan, networks: Mapping[str, DockerNetwork], differs: Iterable[str], version: str
) -> None:
    """Raise `NodeError` if the network cannot be created. This is a pure function.

    + networks: Docker's networks by name. An old network of the wanted name has to be removed
      first. It must not be removed while a container uses it. The proxy's container is no
      obstacle, because the script removes this container too
    + differs: the differences between the old network and `wanted`, in words
    + version: Docker's version, "" if unknown
    """
    others = {name: other for name, other in networks.items() if name != wanted.name}
    found = networks.get(wanted.name)
    if containers := sorted({*found.containers} - {CONTAINER}) if found else []:
        raise NodeError(
            f"the Docker network {wanted.name} must be recreated, because it has "
            f"{', '.join(differs)}; these containers, running or stopped, are connected to it: "
            f"{', '.join(containers)}; remove each container, or disconnect it: "
            f"docker network disconnect -f {wanted.name} CONTAINER"
        )
    if problem := commands.network_conflict(wanted, others, version):
        raise NodeError(problem)


def compose(
    wanted: Macvlan, found: DockerNetwork | None, last: bool = False, several: bool = False
) -> str:
    """Return the shell script that removes the present network, if any, and creates the wanted one.

    + wanted: the wanted state of the network
    + found: the present network of the same name, ``None`` if there is none
    + last: False if a later operation of the run starts the proxy, True if none does
    + several: whether there are several proxies
    """
    head = f"set -eu\n{NEEDS_DOCKER}"
    # The container of one of several proxies is on another network. A node that was the only proxy
    # until now may still have the container of an only one
    needed = not several or (found is not None and CONTAINER in found.containers)
    # If there is no old network and no later operation, systemd starts the proxy: its next attempt
    # succeeds
    if needed and (found or not last):
        head += f"again={'yes' if last else ''}\n{_STOP}"
    if found is None:
        return f"{head}{wanted.create} >/dev/null\n"
    if needed:
        head += f"docker rm --force {CONTAINER} >/dev/null 2>&1 || true\n"
    return f"""\
{head}docker network rm {quote(wanted.name)} >/dev/null
{wanted.create} >/dev/null || {{
  {recreate(wanted.name, found)} >/dev/null ||
    {{ echo {quote(f"the old network {wanted.name} could not be restored")} >&2; exit 1; }}
  echo {quote(f"the old network {wanted.name} was restored")} >&2; exit 1
}}
"""


# Stops the proxy. If the proxy ran before, the end of the script starts it and waits until it runs,
# because later operations expect a running proxy. If the proxy does not come up, this operation
# does not fail, because a later operation may change the proxy's address. A proxy that did not run
# because its network was missing stays stopped if a later operation starts it. The preview has
# announced that start.
_STOP = f"""\
runs() {{ docker container inspect --format '{{{{.State.Running}}}}' {CONTAINER} 2>/dev/null; }}
[ "$(runs)" != true ] || again=yes
was=$(systemctl is-active {SERVICE} 2>/dev/null) || true
systemctl stop {SERVICE} 2>/dev/null || true
back() {{
  status=$?
  case $was in active|activating|reloading) ;; *) exit $status ;; esac
  [ -n "$again" ] || [ $status != 0 ] || exit 0
  systemctl start {SERVICE} || exit 1
  tries=50
  until [ "$(runs)" = true ] || [ $tries = 0 ]; do tries=$((tries - 1)); sleep 0.2; done
  exit $status
}}
trap back EXIT; trap 'exit 1' HUP INT TERM
"""


def recreate(name: str, found: DockerNetwork) -> str:
    """Return the shell command that restores a network after its removal.

    + found: the network before its removal, as the fact `DockerNetworks` returns it
    """
    options = {**found.options}
    if found.parent:
        options["parent"] = found.parent
    return quote(
        *("docker", "network", "create", "--driver", found.driver),
        *(("--internal",) if found.internal else ()),
        *(("--ipv6",) if found.ipv6 else ()),
        *_each("--subnet", found.subnets),
        *_each("--gateway", found.gateways),
        *_each("--ip-range", found.ip_ranges),
        *_each("--aux-address", (f"{key}={value}" for key, value in found.auxiliary.items())),
        *_each("--opt", (f"{key}={value}" for key, value in options.items())),
        *_each("--label", (f"{key}={value}" for key, value in found.labels.items())),
        name,
    )


def _each(option: str, values: Iterable[str]) -> tuple[str, ...]:
    # Option and value are one word. Otherwise a value with a hyphen in front would be an option
    return tuple(f"{option}={value}" for value in values)
