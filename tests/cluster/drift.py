"""Change deployed nodes by hand, and see that a run fixes that with the right operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.cluster.operations import (
    CERTIFICATES,
    CLOCK,
    COPY,
    CRI_DOCKERD,
    DOCKER,
    GLUSTER,
    HAIRPIN,
    HAPROXY,
    HOSTS,
    IMAGE,
    JOURNAL,
    KERNEL,
    KUBEADM,
    KUBERNETES,
    LOGS,
    MODULES,
    NETWORK,
    PACKAGES,
    QUIET,
    REBOOT,
    SHARE,
    SWAP,
)
from tests.cluster.virtual_cluster import Cluster, limits

_APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends"
_SYSTEMD = "/etc/systemd/system"
_JOURNALD = "/etc/systemd/journald.conf.d/90-chaos-engine.conf"
_CMDLINE = "/boot/firmware/cmdline.txt"


@dataclass(frozen=True)
class Drift:
    """A change that somebody made to a node by hand.

    + command: shell command that makes it
    + fixed_by: the only operations that a preview may announce, and that may change the node
    + where: "proxy": only on the proxy; "swap": on the node that has swap; "": on any worker
    + power: whether the node's power is cut and switched on afterwards
    """

    command: str
    fixed_by: tuple[str, ...]
    where: str = ""
    power: bool = False


def _proxy(command: str, *fixed_by: str) -> Drift:
    return Drift(command, fixed_by, where="proxy")


def _worker(command: str, *fixed_by: str) -> Drift:
    return Drift(command, fixed_by)


def _ran_with(file: str, line: str, unit: str) -> str:
    """Return a command after which a unit runs with a line that its file does not have any more."""
    return (
        f"cp -p {file} /run/kept; echo {line} >> {file}; systemctl restart {unit}; "
        f"cp -p /run/kept {file}; rm /run/kept"
    )


DRIFTS = {
    "name of a machine gone": _worker("sed -i /etcd1/d /etc/hosts", HOSTS),
    "hosts block gone": _worker("sed -i '/^# BEGIN chaos/,/^# END chaos/d' /etc/hosts", HOSTS),
    "daemon.json edited": _worker("echo '{}' > /etc/docker/daemon.json", DOCKER),
    "daemon.json gone": _worker("rm /etc/docker/daemon.json", DOCKER),
    "Docker runs with an old daemon.json": _worker(
        "cp -p /etc/docker/daemon.json /run/kept; echo '{}' > /etc/docker/daemon.json; "
        "systemctl restart docker; cp -p /run/kept /etc/docker/daemon.json; rm /run/kept",
        DOCKER,
    ),
    "Docker stopped": _worker("systemctl stop docker.socket docker.service", DOCKER),
    "Docker masked": _worker("systemctl mask docker.service", DOCKER),
    "Docker not held": _worker("apt-mark unhold docker.io", DOCKER),
    "Docker half configured": _worker(
        "sed -i '/^Package: docker.io$/,/^$/s/^Status: .*/Status: hold ok half-configured/' "
        "/var/lib/dpkg/status",
        DOCKER,
    ),
    # As a power cut leaves it while dpkg unpacks
    "Docker in pieces": _worker(
        "sed -i '/^Package: docker.io$/,/^$/s/^Status: .*/Status: hold reinstreq half-installed/' "
        "/var/lib/dpkg/status",
        DOCKER,
    ),
    # As a power cut leaves it after that: dpkg does not synchronise configuration files
    "kubelet's configuration empty": _worker(
        "echo kubelet > /var/lib/chaos-engine/packages-changing; : > /etc/default/kubelet",
        KUBERNETES,
    ),
    "package back": _worker(
        f"rm /etc/apt/preferences.d/chaos-engine-removed; {_APT} install modemmanager", PACKAGES
    ),
    "pin gone": _worker("rm /etc/apt/preferences.d/chaos-engine-removed", PACKAGES),
    "swap in fstab": _worker(
        "systemctl unmask swap.target; echo '/swap.img none swap sw 0 0' >> /etc/fstab", SWAP
    ),
    "swap on": Drift("swapon /var/swap/swapfile", (SWAP,), where="swap"),
    "swap.target unmasked": _worker("systemctl unmask swap.target", SWAP),
    "kubelet does not wait for the clock": _worker(
        "systemctl disable --quiet chaos-engine-clock", CLOCK
    ),
    "program that waits for the clock gone": _worker(
        "rm /usr/local/sbin/chaos-engine-wait-for-clock", CLOCK
    ),
    "journal on the card": _worker(f"rm {_JOURNALD}; systemctl restart systemd-journald", JOURNAL),
    "journal with an old configuration": _worker(
        _ran_with(_JOURNALD, "SyncIntervalSec=99", "systemd-journald"), JOURNAL
    ),
    "second rsyslog file": _worker(
        "echo '*.* /var/log/second' > /etc/rsyslog.d/50-second.conf; systemctl restart rsyslog",
        LOGS,
    ),
    "rsyslog stopped": _worker("systemctl stop syslog.socket rsyslog.service", LOGS),
    "rsyslog disabled": _worker("systemctl disable rsyslog.service", LOGS),
    "logs to another server": _worker("sed -i s/192.168.1.42/192.168.1.41/ /etc/rsyslog.d/*", LOGS),
    "rsyslog runs with an old configuration": _worker(
        _ran_with("/etc/rsyslog.d/10-all.conf", "'# more'", "rsyslog"), LOGS
    ),
    "Gluster client removed": _worker(f"{_APT} remove glusterfs-client", GLUSTER),
    # The timer alone would fix these within minutes
    "share unmounted": _worker(
        "systemctl disable --now var-log-check.timer; systemctl stop var-log.service", SHARE
    ),
    "share detached": _worker("systemctl stop var-log-check.timer; umount -l /var/log", SHARE),
    "programs of the share are some": _worker(
        "systemctl stop var-log-check.timer; mount -i -o remount,bind,suid,dev,exec /var/log", SHARE
    ),
    "share's timer disabled": _worker("systemctl disable var-log-check.timer", SHARE),
    "share's helper edited": _worker("echo '# more' >> /usr/local/sbin/var-log-mount", SHARE),
    "share's unit deleted": _worker(
        f"rm {_SYSTEMD}/var-log.service; systemctl daemon-reload", SHARE
    ),
    "cri-dockerd disabled": _worker("systemctl disable --now cri-docker.service", CRI_DOCKERD),
    "cri-dockerd's program damaged": _worker(
        "head -c 1000 /usr/local/bin/cri-dockerd > /run/kept; chmod 755 /run/kept; "
        "mv /run/kept /usr/local/bin/cri-dockerd",
        CRI_DOCKERD,
    ),
    "cri-dockerd's unit deleted": _worker(
        f"rm {_SYSTEMD}/cri-docker.service; systemctl daemon-reload", CRI_DOCKERD
    ),
    "cri-dockerd's units with other modes": _worker(
        f"chmod 700 {_SYSTEMD}/cri-docker.s*", CRI_DOCKERD
    ),
    "modules file gone": _worker("rm /etc/modules-load.d/kubernetes.conf", MODULES),
    "parameter changed": _worker("echo 0 > /proc/sys/net/ipv4/ip_forward", MODULES),
    "parameters file edited": _worker("echo '# more' >> /etc/sysctl.d/99-kubernetes.conf", MODULES),
    "kubelet loud": _worker(
        f"rm {_SYSTEMD}/kubelet.service.d/05-chaos-engine.conf; systemctl daemon-reload; "
        "systemctl start kubelet || true",
        QUIET,
    ),
    "kubelet not held": _worker("apt-mark unhold kubelet", KUBERNETES),
    "kubelet disabled": _worker("systemctl disable kubelet.service", KUBERNETES),
    # This removes its drop-in for kubelet too
    "kubeadm removed": _worker(
        f"{_APT} remove --allow-change-held-packages kubeadm", QUIET, KUBERNETES
    ),
    "keyring damaged": _worker(
        "truncate -s 100 /etc/apt/keyrings/kubernetes-apt-keyring.gpg", KUBERNETES
    ),
    "keyring unreadable": _worker(
        "chmod 600 /etc/apt/keyrings/kubernetes-apt-keyring.gpg", KUBERNETES
    ),
    "second Kubernetes source": _worker(
        "cd /etc/apt/sources.list.d; cp kubernetes.list k8s.list", KUBERNETES
    ),
    "crictl.yaml gone": _worker("rm /etc/crictl.yaml", KUBEADM),
    "key readable": _worker("chmod 644 /etc/kubernetes/client.key", CERTIFICATES),
    "certificate replaced": _worker(
        "cp /etc/kubernetes/ca.crt /etc/kubernetes/client.crt", CERTIFICATES
    ),
    "kernel's word gone": _worker(f"sed -i 's/ cgroup_memory=1//' {_CMDLINE}", KERNEL),
    "kernel's word undone": _worker(f"sed -i 's/$/ cgroup_disable=memory/' {_CMDLINE}", KERNEL),
    "kernel booted without its word": Drift(
        f"sed -i 's/ cgroup_memory=1//' {_CMDLINE}", (KERNEL, REBOOT), power=True
    ),
    "network gone": _proxy(
        "systemctl stop docker_haproxy; docker network rm lb-network", NETWORK, HAPROXY
    ),
    "hairpin gone": _proxy("ip link del lb-hairpin", HAIRPIN),
    "hairpin's route gone": _proxy("ip route del 192.168.1.60 dev lb-hairpin", HAIRPIN),
    "hairpin down": _proxy("ip link set lb-hairpin down", HAIRPIN),
    "parent answers for all": _proxy("echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_ignore", HAIRPIN),
    "image gone": _proxy("systemctl stop docker_haproxy; docker rmi haproxy:3.0", IMAGE, HAPROXY),
    "proxy stopped": _proxy("systemctl stop docker_haproxy", HAPROXY),
    "proxy disabled": _proxy("systemctl disable docker_haproxy", HAPROXY),
    "proxy's script edited": _proxy("echo '# more' >> /usr/sbin/haproxy_start.sh", HAPROXY),
    "copy of the proxy's configuration edited": _proxy(
        "sed -i s/maxconn/nomaxconn/ /var/log/haproxy/haproxy.cfg", COPY
    ),
    "a link where that copy was": _proxy("ln -sf /etc/hostname /var/log/haproxy/haproxy.cfg", COPY),
    "link to the proxy's socket gone": _proxy("rm /var/log/haproxy/run", COPY),
    "proxy's configuration edited": _proxy(
        "sed -i s/maxconn/nomaxconn/ /var/lib/chaos-engine/haproxy/haproxy.cfg", HAPROXY
    ),
    "daemon.json edited under the proxy": _proxy("echo '{}' > /etc/docker/daemon.json", DOCKER),
    "Docker stopped under the proxy": _proxy(
        "systemctl stop docker.socket docker.service", DOCKER, HAPROXY
    ),
    "hairpin's address and proxy's configuration": _proxy(
        "ip address del 192.168.1.222/32 dev lb-hairpin; "
        "sed -i s/maxconn/nomaxconn/ /var/lib/chaos-engine/haproxy/haproxy.cfg",
        HAIRPIN,
        HAPROXY,
    ),
    "proxy made by hand": _proxy(
        # As this project's predecessor made it: another name and subnet, no route, no unit
        "systemctl stop docker_haproxy; docker network rm lb-network; ip link del lb-hairpin; "
        "ip link add foobar link eth0 type macvlan mode bridge; "
        "ip address add 192.168.1.222/32 dev foobar; "
        "docker network create -d macvlan --subnet 192.168.0.0/16 -o parent=eth0 lb-network; "
        "docker run -d --name lb-haproxy --network lb-network --ip 192.168.1.60 "
        "-v /var/log/haproxy:/usr/local/etc/haproxy haproxy:3.0",
        NETWORK,
        HAIRPIN,
        HAPROXY,
    ),
}


@dataclass(frozen=True)
class Outcome:
    """The results of a preview, a run and another preview on one node.

    + announced: names of the operations that the preview announced
    + changed: names of the operations that changed the node
    + failed: whether the node failed in the run
    + pending: names of the operations that the second preview announced
    """

    announced: set[str]
    changed: set[str]
    failed: bool
    pending: set[str]


def apply(cluster: Cluster, node: str, name: str) -> Drift:
    """Make the change of DRIFTS with this name on a node, and return it."""
    drift = DRIFTS[name]
    cluster.exec(node, drift.command)
    if drift.power:
        cluster.power(node, "cycle")
    return drift


def fix(cluster: Cluster, *nodes: str) -> Mapping[str, Outcome]:
    """Do a preview, a run and another preview over several nodes. Return the results by node."""
    limit = limits(nodes)
    before = short_names(cluster.announced("deploy.py", *limit))
    expected = cluster.announced_why
    changed, failed = cluster.ran("deploy.py", *limit)
    for node, why in cluster.changed_why.items():
        assert node in failed or why == expected.get(node), (node, why, expected.get(node))
    after = short_names(cluster.announced("deploy.py", *limit))
    none: set[str] = set()
    return {
        node: Outcome(
            before.get(node, none),
            short_names(changed).get(node, none),
            node in failed,
            after.get(node, none),
        )
        for node in nodes
    }


def short_names(operations: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return operations by host, without the names of the deploys that they are in."""
    return {host: {name.split(" | ")[-1] for name in names} for host, names in operations.items()}
