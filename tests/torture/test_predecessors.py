"""Take over nodes from this project's predecessor, in every state that it is known to leave.

One run does that, exactly as the preview announces, and a reboot changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster import legacy_state, seen
from tests.cluster.virtual_cluster import Cluster, own_lab

WORKER, PROXY = "pi1", seen.PROXY
APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y"
LISTS = "/etc/apt/sources.list.d"
KEYRING = "/etc/apt/keyrings/kubernetes-apt-keyring.gpg"
SCRIPT = "/usr/sbin/haproxy_start.sh"
VENDOR = "/usr/lib/systemd/system"

POWER = "power cycle"
# Nothing waits for the start of its unit
KILL_CLIENT = (
    "timeout 60 sh -c 'until mountpoint -q /var/log; do sleep 0.2; done'; pkill -KILL -x glusterfs"
)

STATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "as they were left": ((), ()),
    "README's units, and a script that looks for an image that is not there": (
        ("chmod 755 /etc/systemd/system/cri-docker.*", f"rm {LISTS}/pkgs_k8s_io*"),
        (
            f"mv {VENDOR}/docker_haproxy.service /etc/systemd/system/; "
            f"chmod 755 {SCRIPT}; sed -i s/grep.-q.haproxy:latest/\\&2/ {SCRIPT}; "
            "cp /var/log/haproxy/haproxy.cfg /var/log/haproxy/run/; "
            "systemctl daemon-reload; systemctl reenable -q docker_haproxy.service; "
            "systemctl restart docker_haproxy.service",
        ),
    ),
    "a key that is empty, an older Kubernetes; a proxy that was switched off": (
        (
            f"{APT} install --allow-downgrades "
            "kubelet=1.28.14-2.1 kubeadm=1.28.14-2.1 kubectl=1.28.14-2.1",
            f": >{KEYRING}; sed s/1.28/1.27/ {LISTS}/kubernetes.list >{LISTS}/older.list",
        ),
        (
            "systemctl disable --now -q docker_haproxy.service; "
            "docker rm -f $(docker ps -q) >/dev/null",
        ),
    ),
    "words without effect, a share whose client has died; a proxy whose container has died": (
        ("sed -i 's/$/`/' /boot/firmware/cmdline.txt", POWER, KILL_CLIENT),
        ("docker rm -f $(docker ps -q) >/dev/null",),
    ),
    "a playbook that stopped half-way; a syslog.service of its own": (
        (
            "systemctl disable --now -q cri-docker.socket cri-docker.service; "
            "rm /etc/systemd/system/cri-docker.* /usr/local/bin/cri-dockerd; "
            "rm /etc/docker/daemon.json; systemctl restart docker.service",
            f"{APT} remove kubelet kubeadm",
        ),
        (
            "systemctl disable --now -q rsyslog.service; systemctl daemon-reload; "
            "systemctl enable --now -q syslog.service",
        ),
    ),
    "no Gluster client, and a source that fails; a boot": (
        (
            f"systemctl stop var-log.service; umount -l /var/log; {APT} remove glusterfs-client; "
            f": >{KEYRING}; systemctl restart --no-block var-log.service",
        ),
        (POWER,),
    ),
}
"""Commands for the worker and for the proxy, after the predecessor's own work."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Start a lab with the predecessor's proxy and one more worker of it."""
    options = ("--workers", f"{WORKER},{PROXY}", "--legacy", WORKER, "--legacy", PROXY)
    with own_lab("legacies", "LEGACIES_KEEP", *options) as cluster:
        yield cluster


def reset(cluster: Cluster) -> None:
    """Bring both nodes back to what the predecessor left."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: cluster.lab("reset", node), (WORKER, PROXY)))


def do(cluster: Cluster, node: str, commands: tuple[str, ...]) -> None:
    """Run commands on a node, or cycle its power."""
    for command in commands:
        if command == POWER:
            cluster.power(node, "cycle")
        else:
            cluster.exec(node, command)


def look(cluster: Cluster) -> None:
    """Check that both nodes work, and that nothing of the predecessor does."""
    for node in (WORKER, PROXY):
        for concern in seen.CONCERNS.values():
            concern(cluster, node, cluster.host(node))
        assert legacy_state.remains(cluster, node) == {}, node
    for concern in seen.PROXY_CONCERNS.values():
        concern(cluster, PROXY, cluster.host(PROXY))


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_taken_over_in_one_run(cluster: Cluster, state: str) -> None:
    reset(cluster)
    for node, commands in zip((WORKER, PROXY), STATES[state], strict=True):
        do(cluster, node, commands)
    announced = cluster.announced("deploy.py")
    assert cluster.changed("deploy.py") == announced
    assert cluster.announced("deploy.py") == {}
    look(cluster)
    for node in (WORKER, PROXY):
        cluster.power(node, "cycle")
    assert cluster.announced("deploy.py") == {}
    look(cluster)


def test_a_proxy_that_is_being_started_is_taken_over(cluster: Cluster) -> None:
    """Deploy while the predecessor's script has made the container, and not yet the link."""
    reset(cluster)
    cluster.exec(
        PROXY, "docker rm -f $(docker ps -q); ip link delete foobar; "
        "systemctl restart --no-block docker_haproxy.service",
    )  # fmt: skip
    cluster.changed("chaos_engine.deploys.proxy", "--limit", PROXY)
    assert cluster.announced("chaos_engine.deploys.proxy", "--limit", PROXY) == {}
    cluster.changed("deploy.py")
    look(cluster)


def test_a_container_of_somebody_elses_is_not_replaced(cluster: Cluster) -> None:
    """Give somebody else's container the proxy's address, but not its MAC address."""
    reset(cluster)
    cluster.exec(
        PROXY, "systemctl stop docker_haproxy.service; docker rm -f $(docker ps -q); "
        "docker run -d --name mine --network lb-network --ip 192.168.1.60 "
        "-v /var/log/haproxy/run:/run/haproxy -v /var/log/haproxy:/usr/local/etc/haproxy:ro "
        "haproxy:latest",
    )  # fmt: skip
    run = cluster.pyinfra("deploy.py", "-y", "--limit", PROXY, ok=False)
    assert run.status
    assert "docker rm -f mine" in run.text
    assert cluster.exec(PROXY, "docker ps --format '{{.Names}}'") == "mine"
    cluster.exec(PROXY, "docker rm -f mine")
    cluster.changed("deploy.py")
    look(cluster)
