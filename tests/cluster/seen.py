"""Look at a deployed work node, concern by concern: on the node, on the servers and on the LAN.

It uses plain commands, and none of the package's own facts. Each function raises ``AssertionError``
if something is wrong, else returns what it saw, in words.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from testinfra.host import Host

from tests.cluster.lan_client import CONTROLLERS, ready
from tests.cluster.virtual_cluster import CHECKOUT, Cluster, wait_for

Look = Callable[[Cluster, str, Host], str]

REMOVED = [
    "cloud-init",
    "apparmor",
    "plymouth",
    "unattended-upgrades",
    "avahi-daemon",
    "lvm2",
    "snapd",
    "modemmanager",
]
WORDS = ["cgroup_enable=cpuset", "cgroup_memory=1", "cgroup_enable=memory"]


def hosts_file(cluster: Cluster, node: str, host: Host) -> str:
    """Check that nodes, storage nodes and the API's address are known by name."""
    for name in [*cluster.workers, "etcd1", "etcd2", "etcd3"]:
        address = cluster.address(name)
        found = host.check_output("getent ahostsv4 %s", name).split()
        assert address in found or name == node, f"{name} is {found}, not {address}"
    assert host.check_output("getent hosts k8s").split()[0].endswith(".60")
    return f"{len(cluster.workers) + 4} names resolve"


def packages(cluster: Cluster, node: str, host: Host) -> str:
    """Check that the packages that a work node does not need are gone, and ssh is not."""
    left = [name for name in REMOVED if host.package(name).is_installed]
    assert not left, f"still installed: {left}"
    assert host.package("openssh-server").is_installed
    return f"{len(REMOVED)} packages absent"


def kernel(cluster: Cluster, node: str, host: Host) -> str:
    """Check that the running kernel has the words and the memory controller."""
    words = host.check_output("cat /proc/cmdline").split()
    assert sorted(word for word in words if word in WORDS) == sorted(WORDS), words
    line = host.check_output("cat /boot/firmware/cmdline.txt")
    assert "\n" not in line, "cmdline.txt has more than one line"
    assert "root=" in line
    controllers = host.check_output("cat /sys/fs/cgroup/cgroup.controllers").split()
    assert "memory" in controllers, controllers
    return "memory cgroup is on"


def swap(cluster: Cluster, node: str, host: Host) -> str:
    """Check that there is no swap now, and none after the next boot."""
    rows = host.check_output("cat /proc/swaps").splitlines()[1:]
    assert not rows, rows
    fstab = host.check_output("cat /etc/fstab").splitlines()
    active = [line for line in fstab if re.match(r"[^#]\S*\s+\S+\s+swap\s", line)]
    assert not active, active
    assert host.run("systemctl is-enabled swap.target").stdout.strip() == "masked"
    return "/proc/swaps is empty"


def quiet(cluster: Cluster, node: str, host: Host) -> str:
    """Check that timers run as before: no switch is set on these nodes."""
    manifest = host.file("/var/lib/chaos-engine/manifest").content_string
    assert not [line for line in manifest.splitlines() if line.startswith("quiet\t")]
    assert host.run("systemctl is-enabled apt-daily.timer").stdout.strip() == "enabled"
    return "no switch is set, and apt-daily.timer is enabled"


def clock(cluster: Cluster, node: str, host: Host) -> str:
    """Check that the clock is synchronised, and that kubelet would wait for it at boot."""
    said = host.check_output("timedatectl show --property=NTPSynchronized --value")
    assert said.strip() == "yes", said
    wanted = host.check_output("systemctl show --property=Wants --value kubelet.service").split()
    assert "chaos-engine-clock.service" in wanted, wanted
    return "synchronised"


def journald(cluster: Cluster, node: str, host: Host) -> str:
    """Check that the journal's files are in RAM, and journald has no other open."""
    path = host.check_output("journalctl --header | grep -m1 '^File path'").split(": ")[1]
    assert path.startswith("/run/log/journal/"), path
    # ls fails if one is closed meanwhile
    opened = host.run("ls -l /proc/$(pidof systemd-journald)/fd").stdout
    assert "-> /run/log/journal" in opened
    assert "/var/log/journal" not in opened
    return "journal under /run"


def rsyslog(cluster: Cluster, node: str, host: Host) -> str:
    """Check that a message logged on the node reaches the log server, and no local file."""
    canary = f"canary-{secrets.token_hex(8)}"
    host.check_output("logger %s", canary)
    log = f"/var/log/remote/{cluster.address(node)}.log"
    wait_for(
        f"{canary} of {node} at the log server",
        lambda: canary in cluster.exec("etcd3", f"grep -F {canary} {log} || true"),
        20,
    )
    local = host.run("grep -rlsF %s /var/log /run/log --include=*log*", canary).stdout
    assert not [line for line in local.splitlines() if "/journal/" not in line], local
    return "canary at the log server"


def log_mount(cluster: Cluster, node: str, host: Host) -> str:
    """Check that /var/log is the node's own Gluster volume, whose servers get what is written."""
    source, kind = host.check_output("findmnt -no SOURCE,FSTYPE --mountpoint /var/log").split()
    assert kind == "fuse.glusterfs", kind
    assert source.split(":")[1].lstrip("/") == node, source
    name = f"seen-{secrets.token_hex(4)}"
    host.check_output("touch /var/log/%s", name)
    brick = f"/srv/gluster/{node}/{name}"
    servers = ("etcd1", "etcd2", "etcd3")
    found = [one for one in servers if cluster.exec(one, f"test ! -e {brick} || echo there")]
    host.check_output("rm /var/log/%s", name)
    assert found, "no storage node has the file"
    return f"{source}, file seen on {', '.join(found)}"


def docker(cluster: Cluster, node: str, host: Host) -> str:
    """Check that Docker runs a container, with systemd's cgroups and logs of limited size."""
    info = host.check_output(
        "docker info --format '{{.CgroupDriver}} {{.CgroupVersion}} {{.LoggingDriver}} {{.Driver}}'"
    )
    assert info == "systemd 2 json-file overlay2", info
    # An image of the node's own shell: there is no registry to pull from
    host.check_output(
        "docker image inspect seen >/dev/null 2>&1 || "
        "tar -chf - /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*') | docker import - seen"
    )
    name = f"seen-{secrets.token_hex(4)}"
    host.check_output("docker run -d --name %s seen /bin/sh -c 'echo alive; read forever'", name)
    try:
        assert host.check_output("docker logs %s", name) == "alive"
        options = host.check_output("docker inspect --format '{{.HostConfig.LogConfig}}' %s", name)
    finally:
        host.check_output("docker rm -f %s", name)
    assert "max-size:" in options, options
    assert "max-file:" in options, options
    return "a container ran, logs capped"


def container_logs(cluster: Cluster, node: str, host: Host) -> str:
    """Check that Docker's data lie on a file system with the options that fstab names."""
    data = "findmnt --noheadings --target /var/lib/docker --output"
    target = host.check_output(f"{data} TARGET")
    now = host.check_output(f"{data} OPTIONS").split(",")
    fstab = host.run("findmnt --fstab --noheadings --output OPTIONS %s", target).stdout
    wanted = {
        o for o in fstab.strip().split(",") if o.startswith(("noatime", "lazytime", "commit"))
    }
    assert wanted <= set(now), (wanted, now)
    return f"{target} is mounted with {','.join(now)}"


def cri_dockerd(cluster: Cluster, node: str, host: Host) -> str:
    """Check that cri-dockerd's socket answers, and speaks gRPC's HTTP/2."""
    version = host.check_output("/usr/local/bin/cri-dockerd --version").split()[1]
    assert host.service("cri-docker.socket").is_enabled
    assert host.service("cri-docker.service").is_enabled
    answer = host.check_output("perl -e %s", _HTTP2)
    assert answer == "settings", answer
    return f"{version} answers on its socket"


# Connects, sends HTTP/2's preface with empty settings, and looks for the server's settings frame
_HTTP2 = r"""
use IO::Socket::UNIX; alarm 10;
my $s = IO::Socket::UNIX->new(Peer => "/run/cri-dockerd.sock") or die "no socket: $!";
$s->autoflush(1);
print $s "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0\4\0\0\0\0\0";
read($s, my $head, 9) == 9 or die "no answer";
print ord(substr($head, 3, 1)) == 4 ? "settings" : "something else";
"""


def kubernetes(cluster: Cluster, node: str, host: Host) -> str:
    """Check that kubelet and kubeadm have one version, are held, and kubelet is quiet."""
    version = host.check_output("kubelet --version").split()[1]
    assert host.check_output("kubeadm version -o short") == version
    held = host.check_output("apt-mark showhold").split()
    assert {"kubelet", "kubeadm"} <= set(held), held
    assert host.service("kubelet").is_enabled
    assert not host.service("kubelet").is_running, "kubelet runs before the node has joined"
    for key in ("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"):
        assert host.sysctl(key) == 1, key
    assert "cri-dockerd.sock" in host.check_output("cat /etc/crictl.yaml")
    return f"kubelet {version}, held"


def etcd_certificates(cluster: Cluster, node: str, host: Host) -> str:
    """Check that etcd accepts the node's certificate and key, and nobody without one."""
    modes = host.check_output(
        "stat -c %a /etc/kubernetes/client.crt /etc/kubernetes/client.key /etc/kubernetes/ca.crt"
    ).split()
    assert modes == ["644", "600", "644"], modes
    with tempfile.TemporaryDirectory() as folder:
        for name in ("client.crt", "client.key", "ca.crt"):
            path = Path(folder) / name
            path.touch(0o600)
            path.write_text(host.check_output("cat /etc/kubernetes/%s", name) + "\n")
        url = f"https://{cluster.address('etcd1')}:2379/health"
        curl = ("curl", "-sS", "--max-time", "10", "--cacert", f"{folder}/ca.crt")
        own = ("--cert", f"{folder}/client.crt", "--key", f"{folder}/client.key")
        answer = cluster.run(*curl, *own, url).out
        assert '"health":"true"' in answer.replace(" ", ""), answer
        assert cluster.run(*curl, url, ok=False).status, "etcd answers without a certificate"
    return "etcd accepts the certificate"


def macvlan_network(cluster: Cluster, node: str, host: Host) -> str:
    """Check that the LAN sees one machine at the API's address, with the proxy's MAC address."""
    found = cluster.run(sys.executable, "tests/cluster/arping.py", "192.168.1.60").out
    assert json.loads(found) == ["02:42:ac:8f:4c:ff"], found
    return "192.168.1.60 is 02:42:ac:8f:4c:ff"


def haproxy(cluster: Cluster, node: str, host: Host) -> str:
    """Check that the LAN and the node itself reach all ready controllers at the API's address.

    Before `kubeadm init` there are none. Then the address only has to take connections.
    """
    controllers = ready(cluster, CONTROLLERS.intersection(cluster.workers))
    if not controllers:
        connect = ": </dev/tcp/192.168.1.60/6443"
        cluster.run("timeout", "10", "bash", "-c", connect)
        host.check_output("timeout 10 bash -c %s", connect)
        return "takes connections; no API server runs yet"
    address = ("192.168.1.60:6443", "--count", "12")
    client = (CHECKOUT / "tests/cluster/api_client.py").read_text()

    def all_answer() -> bool:
        outside = cluster.run(
            sys.executable, "tests/cluster/api_client.py", "requests", *address
        ).out
        inside = host.check_output("python3 -c %s requests " + " ".join(address), client)
        for answer in (outside, inside):
            assert set(json.loads(answer)["servers"]) == controllers, answer
        return True

    wait_for("all controllers", all_answer, 30)
    return f"{len(controllers)} controllers answer there"


def vrrp(cluster: Cluster, node: str, host: Host) -> str:
    """Check that the concern has left nothing: there is only one proxy."""
    assert not host.file("/etc/keepalived/chaos-engine.conf").exists
    assert not host.file("/usr/sbin/haproxy_vrrp.sh").exists
    return "one proxy"


def watchdog(cluster: Cluster, node: str, host: Host) -> str:
    """Check that the concern, which is off by default, has left nothing."""
    assert not host.file("/etc/systemd/system.conf.d/90-chaos-engine.conf").exists
    assert not host.file("/usr/local/sbin/chaos-engine-link-check").exists
    return "off"


def metrics(cluster: Cluster, node: str, host: Host) -> str:
    """Check that the concern, which is off by default, has left nothing."""
    assert not host.file("/usr/local/sbin/chaos-engine-metrics").exists
    return "off"


CONCERNS: dict[str, Look] = {
    look.__name__: look
    for look in (
        hosts_file,
        packages,
        kernel,
        swap,
        quiet,
        clock,
        journald,
        rsyslog,
        log_mount,
        docker,
        container_logs,
        cri_dockerd,
        kubernetes,
        etcd_certificates,
        watchdog,
        metrics,
    )
}
"""How to look at each concern, in the order of the deploy."""

OPT_IN = {"quiet", "container_logs", "watchdog", "metrics"}
"""The concerns that are off by default. Each has acceptance tests of its own."""

PROXY = "pi5"
PROXY_CONCERNS: dict[str, Look] = {look.__name__: look for look in (macvlan_network, vrrp, haproxy)}
"""How to look at the concerns that only the proxy has."""
