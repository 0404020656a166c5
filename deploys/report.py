"""Report on all nodes: what writes to their cards, how long the cards last, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import Field
from pyinfra.api.deploy import deploy

from chaos_engine.deploys import settings
from chaos_engine.deploys.kernel import KernelSettings
from chaos_engine.deploys.proxy_group import several_proxies
from chaos_engine.deploys.settings import Settings, SettingsError
from chaos_engine.deploys.site import EtcdSettings
from chaos_engine.deploys.summary import summarized
from chaos_engine.deploys.values import Amount, LocalFile
from chaos_engine.deploys.verify import VerifySettings, concerns_of_host, findings, read_node
from chaos_engine.deploys.vrrp import VrrpSettings, owner
from chaos_engine.facts.apt import Installed
from chaos_engine.facts.card import RootCard
from chaos_engine.facts.certificates import Certificates
from chaos_engine.facts.clock import ClockSynchronised
from chaos_engine.facts.docker import DockerInfo
from chaos_engine.facts.files import Content, Present
from chaos_engine.facts.haproxy import HaproxyServers
from chaos_engine.facts.kernel import KernelCmdline, KernelRelease
from chaos_engine.facts.kubernetes import Joined
from chaos_engine.facts.node import Node
from chaos_engine.facts.observe import NodeError, Read, current, observe, want
from chaos_engine.facts.swap import Swaps
from chaos_engine.facts.thermal import Thermal
from chaos_engine.facts.writers import Writers
from chaos_engine.operations.engine.summary import fall_short
from chaos_engine.operations.kubernetes.signing_key import KEYRING
from chaos_engine.operations.reboot.reboot import causes
from chaos_engine.operations.report import ending
from chaos_engine.operations.report.contents import Found

T = TypeVar("T")

_REBOOT_REQUIRED = "/run/reboot-required"
"""A file that packages of Debian and Ubuntu create when they need a reboot."""

_PROGRAMS = ("kubelet", "docker.io")
"""The packages whose versions the report shows."""


class ReportSettings(VerifySettings, EtcdSettings, KernelSettings):
    """Settings of `report`."""

    report_dir: LocalFile = Field(
        "report",
        description="folder on your computer for the report and its history; a relative path "
        "begins in the folder in which pyinfra runs",
    )
    card_tbw: Amount | None = Field(
        None,
        description="how many terabytes (10^12 bytes) can be written to the node's card, according "
        "to the card's maker; for example 117 for a SanDisk High Endurance of 128 GB. Each node "
        "may have its own value. If not set, the report does not show how many years the card "
        "lasts",
    )


@deploy("Report")
@summarized
def report() -> None:
    """Write a page about all nodes: the state of each, and what is written to its card.

    The deploy changes no node. It reads each node by one remote command. It writes these files on
    your computer, also with ``--dry``:

    - ``report/index.html``, a page that needs no network
    - ``report/report.json``, the same values
    - ``report/history.jsonl``, the counters of each report. The page draws a graph of each node
      from them

    The state of each concern is what `verify` says. A node that cannot be reached is on the page,
    with the reason. pyinfra ends with an exit code other than 0 in two cases: a concern of a node
    is not as wanted, or a file cannot be written. In the first case the files are written too.

    **Example:** ``pyinfra inventory.py chaos_engine.deploys.report -y``
    """
    own = ReportSettings.resolve(by="report")
    concerns = concerns_of_host(own.verify)
    folder = settings.local_path(own.report_dir)
    host, key = current()[1], f"{settings.PREFIX}report_dir"
    name, origin = host.name, settings.origin(host, key)
    try:
        end = ending.begin(folder, origin)
    except OSError as error:
        is_file = isinstance(error, FileExistsError | NotADirectoryError)
        why = "there is a file of that name" if is_file else error.strerror
        raise SettingsError(
            f"{origin}: {key} = {own.report_dir!r}: {error.filename or folder} "
            f"cannot be written: {why}; choose a folder that you may write to"
        ) from None
    if end.folder != folder:
        raise SettingsError(
            f"{origin}: {key} leads to {folder}, but {end.origin}: {key} leads to {end.folder}; "
            "there is one report for all nodes, so give all nodes the same folder"
        )
    end.ratings[name] = own.card_tbw
    want(_reads(own))
    try:
        read_node(concerns)
    except NodeError as error:
        end.found[name] = str(error)
        fall_short(str(error))
        return
    end.found[name] = found = _found(own, concerns)
    if failed := ", ".join(concern for concern, lines in found.concerns.items() if lines):
        fall_short(f"not as wanted: {failed}; the report says more. deploy.py fixes what it can")


def _reads(own: ReportSettings) -> list[Read]:
    """Return the facts that the report reads in addition to those of `verify`."""
    is_proxy = "proxy" in current()[1].groups
    return [
        *([Read.of(HaproxyServers)] if is_proxy else []),
        Read.of(Joined),
        Read.of(Node),
        Read.of(RootCard),
        Read.of(Writers),
        Read.of(Thermal),
        Read.of(ClockSynchronised),
        Read.of(Certificates, folder=own.etcd_certificates_dir),
        Read.of(Content, path=KEYRING),
        Read.of(KernelRelease),
        Read.of(KernelCmdline),
        Read.of(Swaps),
        Read.of(DockerInfo),
        Read.of(Installed, names=_PROGRAMS),
        Read.of(Present, path=_REBOOT_REQUIRED),
    ]


def _found(own: ReportSettings, concerns: dict[Callable[..., None], Settings]) -> Found:
    """Read the values for the report on the current host.

    The result has the values, and an error message for each value that could not be read.
    """
    unread: dict[str, str] = {}

    def read(what: str, function: Callable[[], T]) -> T | None:
        try:
            return function()
        except NodeError as error:
            unread[what] = str(error)
            return None

    packages = read("packages", lambda: observe(Installed, names=_PROGRAMS)) or {}
    docker = read("docker", lambda: observe(DockerInfo))
    node = read("node", lambda: observe(Node))
    is_proxy = "proxy" in current()[1].groups
    return Found(
        concerns=findings(concerns),
        joined=bool(read("cluster", lambda: observe(Joined))),
        servers=read("haproxy", lambda: observe(HaproxyServers)) if is_proxy else None,
        owner=read("owner of the API's address", lambda: _owner(concerns)),
        versions={
            "kernel": read("kernel", lambda: observe(KernelRelease)),
            "docker": docker.server_version if docker else None,
            "kubelet": packages["kubelet"].version if "kubelet" in packages else None,
            "system": f"{node.system} {node.version}" if node else None,
        },
        reboot=read("reboot", lambda: _reboot(own)) or (),
        skew=node.skew if node else None,
        synchronised=read("clock", lambda: observe(ClockSynchronised)),
        card=read("card", lambda: observe(RootCard)),
        writers=read("writers", lambda: observe(Writers)),
        thermal=read("temperature", lambda: observe(Thermal)),
        certificates=read(
            "certificates", lambda: observe(Certificates, folder=own.etcd_certificates_dir)
        ),
        keyring=read("apt's key", lambda: observe(Content, path=KEYRING)),
        keyring_path=KEYRING,
        unread=unread,
    )


def _owner(concerns: dict[Callable[..., None], Settings]) -> str | None:
    """Return the name of the proxy that owns the API's address, "" if the owner is unknown.

    If the current host is the owner, the name is the host's name in the inventory, as in the
    report. If another proxy is the owner, the name is that proxy's name in the cluster. Returns
    ``None`` for a worker, and for the inventory's only proxy.
    """
    found = [one for one in concerns.values() if isinstance(one, VrrpSettings)]
    if not found or not several_proxies():
        return None
    name = owner(found[0])
    return current()[1].name if name == found[0].node_name() else name


def _reboot(own: ReportSettings) -> tuple[str, ...]:
    """Return the reasons why the current host needs a reboot, () if it needs none."""
    found = causes(observe(KernelCmdline), observe(Swaps), own.kernel_words, last=True)
    packages = ["a package asks for it"] if observe(Present, path=_REBOOT_REQUIRED) else []
    return (*found.values(), *packages)
