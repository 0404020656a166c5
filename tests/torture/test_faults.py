"""Deploy under every fault that a lab can have.

Only the bad node fails, and in bounded time. The run says what was found and what to do. When the
fault is gone, one run fixes the node.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.cluster import faults, seen
from tests.cluster.virtual_cluster import Cluster, wait_for
from tests.lab import linux
from tests.lab.paths import LabPaths

Fault = Callable[[Cluster, str], AbstractContextManager[object]]

DOCKER_CLIENT = "docker-cli"
KUBECTL = "kubectl"
CMDLINE = "/boot/firmware/cmdline.txt"
PROXY = seen.PROXY


pytestmark = pytest.mark.usefixtures("nothing_half_done")


def on_lab(fault: Callable[..., AbstractContextManager[None]], *services: str) -> Fault:
    """Return a fault of the gateway's services, which affects all nodes."""
    return lambda cluster, node: fault(cluster, *services)


def nobody(name: str) -> Fault:
    """Return a fault that gives a public name the address of no machine."""
    return lambda cluster, node: faults.name_of_nobody(cluster, node, name)


ARCHIVES: dict[str, tuple[Fault, str, tuple[str, ...]]] = {
    "Debian's refuses, package missing": (
        on_lab(faults.service_down, "web"),
        DOCKER_CLIENT,
        ("deb.debian.org", DOCKER_CLIENT),
    ),
    "Debian's is nobody, package missing": (
        nobody("deb.debian.org"),
        DOCKER_CLIENT,
        ("deb.debian.org",),
    ),
}
"""Faults of archives: the fault, the package that is missing, and what the message has to name."""


@pytest.mark.parametrize("case", ARCHIVES)
def test_missing_package_that_cannot_be_had(
    deployed: Cluster, bad: str, good: str, case: str
) -> None:
    fault, package, expected = ARCHIVES[case]
    deployed.exec(bad, f"apt-get clean; dpkg -r --force-depends {package}")
    begin = time.monotonic()
    try:
        with fault(deployed, bad):
            faults.one_fails(deployed, bad, good, *expected)
            took = time.monotonic() - begin
            print(f"{case}: the run ended after {took:.0f} s")
            assert took < 400
    finally:
        faults.one_run_fixes(deployed, bad, good)


@contextmanager
def off(cluster: Cluster, *nodes: str) -> Iterator[None]:
    """Cut the power of machines."""
    for node in nodes:
        cluster.power(node, "cut")
    try:
        yield
    finally:
        for node in nodes:
            cluster.power(node, "on")


HARMLESS: dict[str, Fault] = {
    "archives and registry refuse": on_lab(faults.service_down, "web", "registry"),
    "archives and DNS are silent": on_lab(faults.service_mute, "web", "dns"),
    "/tmp is full": lambda cluster, node: faults.mounted_over(cluster, node, "/tmp", "size=4k"),
    "/tmp is noexec": lambda cluster, node: faults.mounted_over(cluster, node, "/tmp", "noexec"),
    "the log server is off": lambda cluster, node: off(cluster, "etcd3"),
    "one storage server is off": lambda cluster, node: off(cluster, "etcd1"),
}
"""Faults that do not keep a run from fixing other things."""


@pytest.mark.parametrize("case", HARMLESS)
def test_fault_that_does_not_matter_stops_nothing(
    deployed: Cluster, bad: str, good: str, case: str
) -> None:
    with HARMLESS[case](deployed, bad):
        faults.spoil(deployed, bad, good)
        deployed.exec(bad, "chmod 600 /etc/crictl.yaml")
        run = faults.deploy(deployed, bad, good)
        assert run.status == 0, run.text
        for node in (bad, good):
            deployed.exec(node, faults.GOOD_HOSTS)
        limit = ("--limit", bad, "--limit", good)
        assert deployed.announced("deploy.py", *limit) == {}


def test_registry_is_needed_only_without_the_image(deployed: Cluster) -> None:
    other = next(node for node in deployed.workers if node != PROXY)
    with faults.service_down(deployed, "registry"):
        assert deployed.announced("deploy.py", "--limit", PROXY) == {}
        deployed.exec(
            PROXY,
            "systemctl stop docker_haproxy; docker rm -f lb-haproxy; "
            "docker image rm -f $(docker image ls -q haproxy)",
        )
        faults.one_fails(deployed, PROXY, other, "fix the node's way to the registry")
    faults.one_run_fixes(deployed, PROXY, other)
    running = deployed.exec(PROXY, "docker inspect --format '{{.State.Running}}' lb-haproxy")
    assert running == "true"


def test_logs_wait_for_a_log_server_that_is_off(deployed: Cluster, bad: str, good: str) -> None:
    over_tcp = ("chaos_log_protocol=tcp",)
    canary = secrets.token_hex(8)
    with off(deployed, "etcd3"):
        run = faults.deploy(deployed, bad, good, data=over_tcp)
        assert run.status == 0, run.text
        deployed.exec(bad, f"logger {canary}")
    log = f"/var/log/remote/{deployed.address(bad)}.log"
    wait_for(
        "what was logged meanwhile",
        lambda: deployed.exec("etcd3", f"grep {canary} {log} || true"),
        120,
    )
    faults.one_run_fixes(deployed, bad, good)


WITHOUT_LISTS = "apt-get clean; rm -rf /var/lib/apt/lists/*; dpkg -r --force-depends "
CLOCKS = {"behind": "-400d", "ahead": "+20y"}


@pytest.mark.parametrize("way", CLOCKS)
def test_clock_that_is_off_is_named_beside_what_fails_by_it(
    deployed: Cluster, bad: str, good: str, way: str
) -> None:
    with faults.clock_off(deployed, bad, CLOCKS[way]):
        limit = ("--limit", bad, "--limit", good)
        assert deployed.announced("deploy.py", *limit) == {}
        deployed.exec(bad, WITHOUT_LISTS + KUBECTL)
        faults.one_fails(deployed, bad, good, f" s {way}", "look at: timedatectl", "pkgs.k8s.io")
    faults.one_run_fixes(deployed, bad, good)


def test_network_that_is_away_for_a_while_is_waited_for(
    deployed: Cluster, bad: str, good: str
) -> None:
    with faults.waiting_for_apt(deployed, bad, good) as waiting:
        with faults.cable_pulled(deployed, bad):
            waiting.release()
            wait_for(
                "the end of what waited",
                lambda: not deployed.exec(bad, "pgrep -f '[d]pkg --configure' || true"),
            )
        assert waiting.ended(180).status == 0
    faults.one_run_fixes(deployed, bad, good)


def test_network_that_stays_away_is_given_up(deployed: Cluster, bad: str, good: str) -> None:
    with faults.waiting_for_apt(deployed, bad, good) as waiting:
        begin = time.monotonic()
        with faults.cable_pulled(deployed, bad):
            run = waiting.ended(180)
            print(f"the run ended after {time.monotonic() - begin:.0f} s")
        assert run.status
        assert "the connection to the node was lost" in faults.lines_of(run, bad)
        deployed.exec(good, faults.GOOD_HOSTS)
    faults.one_run_fixes(deployed, bad, good)


def test_node_that_is_off_fails_alone(deployed: Cluster, bad: str, good: str) -> None:
    with off(deployed, bad):
        faults.one_fails(deployed, bad, good, "Could not connect")
    faults.one_run_fixes(deployed, bad, good)


def test_disk_that_fills_up_while_packages_are_installed(
    deployed: Cluster, bad: str, good: str
) -> None:
    deployed.lab("reset", bad)
    # Docker is the first package of a first deploy. The disk fills up when apt has fetched it
    deployed.exec(
        bad,
        "systemd-run --quiet --unit fill sh -c 'until ls /var/cache/apt/archives/docker.io*.deb "
        "2>/dev/null; do sleep 0.1; done; exec cat /dev/zero > /.filled'",
    )
    faults.one_fails(deployed, bad, good, "No space left on device")
    deployed.exec(bad, "systemctl stop fill; rm /.filled")
    faults.one_run_fixes(deployed, bad, good)


@contextmanager
def does_not_boot(cluster: Cluster, node: str) -> Iterator[None]:
    """Make a node switch off when it is told to reboot."""
    unit = "/etc/systemd/system/reboot.target"
    cluster.exec(
        node, f"ln -s /usr/lib/systemd/system/poweroff.target {unit}; systemctl daemon-reload"
    )
    try:
        yield
    finally:
        cluster.power(node, "on")
        cluster.exec(node, f"rm -f {unit}; systemctl daemon-reload")


def test_node_that_does_not_come_back_can_be_rescued_by_what_is_said(
    deployed: Cluster, bad: str, good: str
) -> None:
    original = deployed.exec(bad, f"cat {CMDLINE}.chaos-engine.bak")
    word = f"chaos.test={secrets.token_hex(3)}"
    words = json.dumps([*seen.WORDS, word], separators=(",", ":"))
    before = deployed.boot_id(good)
    with does_not_boot(deployed, bad):
        run = faults.deploy(
            deployed, bad, good, data=(f"chaos_kernel_words={words}", "chaos_reboot_timeout=60")
        )
        assert run.status
        assert "did not come back within 60 s" in faults.lines_of(run, bad)
        assert "copy cmdline.txt.chaos-engine.bak over cmdline.txt" in faults.lines_of(run, bad)
        assert deployed.boot_id(good) != before
        assert word in deployed.exec(good, "cat /proc/cmdline")
        # Do what the message says, on this computer
        with card_in_another_computer(deployed, bad) as boot:
            shutil.copy(boot / "cmdline.txt.chaos-engine.bak", boot / "cmdline.txt")
    assert deployed.exec(bad, f"cat {CMDLINE}") == original
    faults.one_run_fixes(deployed, bad, good)


@contextmanager
def card_in_another_computer(cluster: Cluster, node: str) -> Iterator[Path]:
    """Mount the boot partition of a node that is off on this computer."""
    folder = LabPaths(cluster.name).disk(node)
    wait_for("the card", lambda: str(folder) not in linux.run("losetup", "--list"), 20)
    place = folder / "boot"
    linux.run("mount", "-o", "loop", str(folder / "boot.img"), str(place))
    try:
        yield place
    finally:
        linux.run("umount", str(place))


def test_storage_without_a_quorum(deployed: Cluster, bad: str, good: str) -> None:
    with off(deployed, "etcd1", "etcd2"):
        faults.spoil(deployed, bad, good)
        run = faults.deploy(deployed, bad, good)
        assert run.status
        for node in (bad, good):
            deployed.exec(node, faults.GOOD_HOSTS)
            assert "fix the storage servers" in faults.lines_of(run, node)
    deployed.await_shares()
    faults.one_run_fixes(deployed, bad, good)
