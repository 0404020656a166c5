"""Have nodes ask other time servers, and kubelet wait for them at boot; undo leaves nothing.

Real: systemd-timesyncd, timedatectl, chrony, and SNTP with a server on the LAN. Not real: what the
kernel knows of the clock (`tests/lab/images/worker/clock.c`), because the nodes share the clock of
this computer. So no node has a wrong time: that kubelet waits for the server is seen, not what a
wrong time does to certificates. chrony runs with ``-x``: it chooses a server, and does not set the
clock. kubeadm is a stand-in that issues real certificates.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster import by_kubeadm, joined
from tests.cluster.faults import service_down
from tests.cluster.virtual_cluster import Cluster, wait_for
from tests.pages import shell_blocks

NODE = "pi1"
HERE = ("--limit", NODE)
CONCERN = "chaos_engine.deploys.clock"
UNDO = ("chaos_engine.deploys.undo", "--data", "chaos_undo=clock", *HERE)
SERVERS = ("--data", 'chaos_ntp_servers=["192.168.1.1"]')
SET, HOLD = "Clock | Set the time servers", "Clock | Keep kubelet back until the clock is right"

FILES = (
    "/usr/local/sbin/chaos-engine-wait-for-clock",
    "/etc/systemd/system/chaos-engine-clock.service",
    "/etc/systemd/system/kubelet.service.wants/chaos-engine-clock.service",
    "/etc/systemd/timesyncd.conf.d/90-chaos-engine-servers.conf",
    "/etc/systemd/system/systemd-timesyncd.service.d/50-chaos-engine.conf",
    "/etc/chrony/conf.d/90-chaos-engine.conf",
    "/etc/systemd/system/chrony.service.d/50-chaos-engine.conf",
)
"""All that the concern may leave on a node."""

UBUNTUS_SERVERS = "server ntp.ubuntu.com iburst nts prefer"
"""Authenticated servers, as Ubuntu's chrony has them. In the lab none of them answers."""


@pytest.fixture(scope="module")
def deployed_clock(deployed: Cluster) -> Iterator[Cluster]:
    """Give the nodes; at the end, have the concern as a deploy without settings leaves it."""
    yield deployed
    deployed.changed(CONCERN, *HERE)
    assert deployed.announced("deploy.py", *HERE) == {}


def asked(cluster: Cluster) -> str:
    """Return the servers that systemd-timesyncd was told to ask."""
    return cluster.exec(NODE, "timedatectl show-timesync -p SystemNTPServers --value")


def state(cluster: Cluster, unit: str) -> str:
    """Return whether a unit of the node runs."""
    return cluster.exec(NODE, f"systemctl show -p ActiveState --value {unit}")


def left(cluster: Cluster) -> str:
    """Return those of the concern's files that are on the node."""
    return cluster.exec(NODE, f"ls -d {' '.join(FILES)} 2>/dev/null || true")


def reboot(cluster: Cluster) -> None:
    """Reboot the node, and wait until it answers."""
    boot = cluster.boot_id(NODE)
    cluster.exec(NODE, "systemctl reboot", ok=False)
    wait_for("the reboot", partial(cluster.has_rebooted, NODE, boot), 60)
    for unit in ("ssh", "systemd-timesyncd"):
        wait_for(unit, lambda unit=unit: state(cluster, unit) == "active", 60)  # type: ignore[misc]


def test_the_given_servers_are_asked_until_undo(deployed_clock: Cluster) -> None:
    node = deployed_clock
    assert asked(node) == ""
    assert node.announced(CONCERN, *SERVERS, *HERE) == {NODE: {SET}}
    assert node.changed(CONCERN, *SERVERS, *HERE) == {NODE: {SET}}
    assert asked(node) == "192.168.1.1"
    server = "timedatectl show-timesync -p ServerName --value"
    wait_for("the server", lambda: node.exec(NODE, server) == "192.168.1.1", 30)
    reboot(node)
    assert asked(node) == "192.168.1.1"
    assert node.announced("deploy.py", *SERVERS, *HERE) == {}
    # The concern quiet writes beside it, and neither undoes the other's work
    both = (*SERVERS, "--data", "chaos_quiet_clock=True", *HERE)
    node.changed("deploy.py", *both)
    assert node.announced("deploy.py", *both) == {}
    assert asked(node) == "192.168.1.1"
    quiet = ("chaos_engine.deploys.undo", "--data", "chaos_undo=quiet", *HERE)
    assert node.changed(*quiet) == {NODE: {"Undo | Undo Other writers"}}
    node.changed(CONCERN, *SERVERS, *HERE)

    assert node.changed(*UNDO) == {NODE: {"Undo | Undo Clock"}}
    assert left(node) == ""
    assert asked(node) == ""
    assert "chaos" not in node.exec(NODE, "systemctl show -p Wants --value kubelet")
    assert node.announced(*UNDO) == {}


def test_servers_that_are_no_longer_given_are_forgotten(deployed_clock: Cluster) -> None:
    node = deployed_clock
    node.changed(CONCERN, *SERVERS, *HERE)
    assert asked(node) == "192.168.1.1"
    assert node.changed(CONCERN, *HERE) == {NODE: {SET}}
    assert asked(node) == ""
    assert node.announced("deploy.py", *HERE) == {}


@pytest.fixture
def member(deployed_clock: Cluster) -> Iterator[Cluster]:
    """Have the node join the cluster while a test runs."""
    deployed_clock.changed(CONCERN, *HERE)
    joined.join(deployed_clock, NODE)
    yield deployed_clock
    joined.leave(deployed_clock, NODE)


def test_kubelet_waits_at_boot_until_a_time_server_answers(member: Cluster) -> None:
    with service_down(member, "time"):
        reboot(member)
        wait_for("Docker", lambda: state(member, "docker") == "active", 60)
        assert state(member, "chaos-engine-clock") == "activating"
        assert state(member, "kubelet") == "inactive"
        run = member.pyinfra("chaos_engine.deploys.verify", "-y", *HERE, ok=False)
        assert "the clock is not synchronised" in run.text
        # Restarting the time service has it ask again at once
        assert state(member, "kubelet") == "inactive"
    member.exec(NODE, "systemctl restart systemd-timesyncd")
    wait_for("kubelet", lambda: state(member, "kubelet") == "active", 10)
    assert state(member, "chaos-engine-clock") == "active"
    logged = member.exec(NODE, "journalctl -b -q -t chaos-engine-wait-for-clock -p warning")
    assert logged == ""
    run = member.pyinfra("chaos_engine.deploys.verify", "-y", *HERE, ok=False)
    assert "the clock is not synchronised" not in run.text


def test_kubelet_starts_without_a_time_server_in_the_end(member: Cluster) -> None:
    seconds = 10
    member.changed(CONCERN, "--data", f"chaos_clock_wait={seconds}", *HERE)
    with service_down(member, "time"):
        reboot(member)
        wait_for("kubelet", lambda: state(member, "kubelet") == "active", seconds + 30)
        warned = member.exec(
            NODE, "journalctl -b -q -o cat -t chaos-engine-wait-for-clock -p warning"
        )
        assert f"no time server has set the clock within {seconds} seconds" in warned
        waited = member.exec(
            NODE,
            "systemctl show -p ExecMainStartTimestampMonotonic -p ExecMainExitTimestampMonotonic "
            "--value chaos-engine-clock",
        )
        start, end = map(int, waited.split())
        assert seconds - 1 <= (end - start) / 1e6 <= seconds + 5
        # A restart does not wait again
        member.exec(NODE, "timeout 5 systemctl restart kubelet")
        assert state(member, "kubelet") == "active"
    assert member.announced(CONCERN, "--data", f"chaos_clock_wait={seconds}", *HERE) == {}


def test_a_clock_that_is_right_costs_no_time(member: Cluster) -> None:
    reboot(member)
    wait_for("kubelet", lambda: state(member, "kubelet") == "active", 60)
    waited = member.exec(
        NODE,
        "systemctl show -p InactiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic "
        "--value chaos-engine-clock",
    )
    start, end = map(int, waited.split())
    assert (end - start) / 1e6 < 5
    # kubelet also waits for /var/log, which takes longer
    ready = member.exec(NODE, "systemctl show -p ActiveEnterTimestampMonotonic --value var-log")
    assert end < int(ready) + 1e6


def test_without_a_time_to_wait_kubelet_starts_at_once(member: Cluster) -> None:
    off = (CONCERN, "--data", "chaos_clock_wait=0", *HERE)
    assert member.changed(*off) == {NODE: {HOLD}}
    assert member.announced(*off) == {}
    assert "clock" not in member.exec(NODE, "systemctl show -p Wants --value kubelet")
    with service_down(member, "time"):
        reboot(member)
        wait_for("kubelet", lambda: state(member, "kubelet") == "active", 30)
    assert member.changed(CONCERN, *HERE) == {NODE: {HOLD}}


@pytest.fixture
def with_chrony(deployed_clock: Cluster) -> Iterator[Cluster]:
    """Have the node run chrony with Ubuntu's servers while a test runs."""
    install = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install"
    deployed_clock.exec(
        NODE,
        f"apt-get -qq update; {install} chrony; "
        f"echo {shlex.quote(UBUNTUS_SERVERS)} >/etc/chrony/sources.d/ubuntu.sources; "
        "sed -i '/^pool/d' /etc/chrony/chrony.conf; systemctl restart chrony",
    )
    yield deployed_clock
    deployed_clock.exec(
        NODE,
        f"rm /etc/chrony/sources.d/ubuntu.sources; {install} systemd-timesyncd; "
        "apt-get -qq -y purge chrony; systemctl start systemd-timesyncd",
    )


def test_chrony_uses_the_given_servers_beside_authenticated_ones(with_chrony: Cluster) -> None:
    node = with_chrony
    both = {NODE: {SET}}
    assert node.changed(CONCERN, *SERVERS, *HERE) == both
    chosen = "chronyc -n sources | grep -c '^^[*] 192.168.1.1 ' || true"
    wait_for("chrony's choice", lambda: node.exec(NODE, chosen) == "1", 60)
    assert node.announced("deploy.py", *SERVERS, *HERE) == {}

    node.exec(NODE, "sed -i 's/^confdir/#confdir/' /etc/chrony/chrony.conf")
    run = node.pyinfra(CONCERN, "--dry", *SERVERS, *HERE, ok=False)
    assert "does not read /etc/chrony/conf.d" in run.text
    node.exec(NODE, "sed -i 's/^#confdir/confdir/' /etc/chrony/chrony.conf")

    assert node.changed(CONCERN, *HERE) == both
    assert node.exec(NODE, chosen) == "0"
    assert node.announced("deploy.py", *HERE) == {}


def test_a_node_without_a_time_service_is_told(deployed_clock: Cluster) -> None:
    node = deployed_clock
    node.exec(NODE, "systemctl stop systemd-timesyncd")
    try:
        run = node.pyinfra(CONCERN, "--dry", *HERE)
        assert "no time service runs on this node" in run.text
        run = node.pyinfra(CONCERN, "--dry", *SERVERS, *HERE, ok=False)
        assert "the time servers cannot be set" in run.text
    finally:
        node.exec(NODE, "systemctl start systemd-timesyncd")
    assert node.announced(CONCERN, *HERE) == {}


CERTIFICATE = "/etc/kubernetes/pki/apiserver.crt"


def ending() -> bytes:
    """Return a certificate that was issued for a year, and expires in ten days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    end = datetime.now(timezone.utc) + timedelta(days=10)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(end - timedelta(days=365))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("k8s")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def controller(deployed_clock: Cluster) -> Iterator[Cluster]:
    """Have the node be a cluster of one, by kubeadm, while a test runs."""
    by_kubeadm.wait_until_ready(deployed_clock, by_kubeadm.join(deployed_clock, NODE, []))
    yield deployed_clock
    by_kubeadm.dissolve(deployed_clock)


def test_certificates_that_expire_are_told_and_renewed_as_the_runbook_says(
    controller: Cluster,
) -> None:
    node = controller
    verify = ("chaos_engine.deploys.verify", "-y", *HERE)
    run = node.pyinfra(*verify, ok=False)
    assert re.search(r"kubernetes +ok, certificates are valid for 36[45] days", run.text)

    node.exec(NODE, f"echo {shlex.quote(ending().decode())} >{CERTIFICATE}")
    run = node.pyinfra(*verify, ok=False)
    assert f"FAILED  {CERTIFICATE} expires on " in run.text
    assert "in 9 days; renew it on this node: kubeadm certs renew all" in run.text

    started = "systemctl show -p InvocationID --value lab-apiserver"
    before = node.exec(NODE, started)
    (block,) = [one for one in shell_blocks() if "certs renew all" in one.code]
    for line in block.commands:
        node.run("sh", "-c", line, timeout=120)
    assert node.exec(NODE, started) != before, "the API server has not read the new certificate"
    run = node.pyinfra(*verify, ok=False)
    assert re.search(r"kubernetes +ok, certificates are valid for 36[45] days", run.text)
