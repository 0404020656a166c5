"""The gateway's services: a resolver, the time, and what stands for archives and registries."""

from __future__ import annotations

import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.lab import network, registry, timeserver
from tests.lab.certificates import WEB_NAMES
from tests.lab.cgroup import Group
from tests.lab.image import Images
from tests.lab.linux import inside_network, wait_until
from tests.lab.paths import CHECKOUT, LabPaths
from tests.lab.plan import STORAGE, Plan

ENTER_GROUP = 'echo $$ >"$0" && exec "$@"'
"""A shell script: it enters the control group whose `cgroup.procs` is $0 and becomes a command."""


def ensure(plan: Plan, images: Images) -> None:
    """Start what is not running, and wait until it answers."""
    paths = LabPaths(plan.name)
    lan = network.namespace(plan.name)
    inside = ["nsenter", f"--net={lan}"]
    for name, ready, command in (
        ("dns", partial(accepts, lan, plan.gateway, 53), _resolver(plan)),
        ("time", partial(_tells_the_time, lan, plan.gateway), _time(plan)),
        ("web", partial(accepts, lan, plan.gateway, 80), _web(plan, images, paths)),
        ("registry", partial(accepts, lan, plan.registry, 443), _registry(plan, images, paths)),
    ):
        group = Group.of(plan.name, name)
        if not group.alive():
            spawn(group, *inside, *command, log=paths.logs / f"{name}.log")
        wait_until(
            ready,
            seconds=20,
            otherwise=f"the lab's {name} service does not answer; see {paths.logs}/{name}.log",
        )


def stop(lab: str, service: str) -> None:
    """End a service (`dns`, `time`, `web`, `registry`) at once; the next `ensure` starts it."""
    Group.of(lab, service).kill()


def spawn(group: Group, *command: str, log: Path) -> None:
    """Start COMMAND in the background, as a member of GROUP from before its first instruction."""
    group.path.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        subprocess.Popen(
            ["sh", "-c", ENTER_GROUP, str(group.path / "cgroup.procs"), *command],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def accepts(namespace: Path, address: str, port: int) -> bool:
    """Whether ADDRESS accepts connections at PORT, seen from a namespace."""
    with inside_network(namespace):
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            return False
        return True


def _tells_the_time(namespace: Path, address: str) -> bool:
    with inside_network(namespace):
        return timeserver.answers(address)


def _time(plan: Plan) -> list[str]:
    return [sys.executable, "-m", "tests.lab.timeserver", "--address", plan.gateway]


def _resolver(plan: Plan) -> list[str]:
    """Return a resolver that answers for public names with the gateway, for no other ever.

    The nodes' own names are among the others: knowing them is the deploy's work.
    """
    return [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--log-facility=-",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        f"--listen-address={plan.gateway}",
        *(f"--address=/{name}/{plan.gateway}" for name in WEB_NAMES if name != registry.NAME),
        f"--address=/{registry.NAME}/{plan.registry}",
        # Debian's and Ubuntu's time servers
        *(f"--address=/{name}/{plan.gateway}" for name in ("pool.ntp.org", "ntp.ubuntu.com")),
        # But the predecessor's nodes knew the storage nodes from nowhere else
        *(f"--address=/{name}/{plan.address_of(name)}" for name in STORAGE if plan.legacy),
        "--address=/#/",
    ]


def _web(plan: Plan, images: Images, paths: LabPaths) -> list[str]:
    sites = {
        "http:80:deb.debian.org": images.archive,
        "https:443:deb.debian.org": images.archive,
        "https:443:pkgs.k8s.io": images.kubernetes,
        "https:443:prod-cdn.packages.k8s.io": images.kubernetes,
    }
    return [
        sys.executable,
        "-m",
        "tests.lab.webserver",
        "--address",
        plan.gateway,
        *(f"--site={site}={directory}" for site, directory in sites.items()),
        "--certificate",
        str(paths.certificates / "web.crt"),
        "--key",
        str(paths.certificates / "web.key"),
        "--log",
        str(paths.logs / "web-access.log"),
    ]


def _registry(plan: Plan, images: Images, paths: LabPaths) -> list[str]:
    """Return the registry, which answers with the web server's certificate."""
    web = paths.certificates / "web"
    configuration = registry.configuration(
        images.registry, plan.registry, web.with_suffix(".crt"), web.with_suffix(".key")
    )
    paths.registry.write_text(configuration)
    return registry.command(images.registry, paths.registry)
