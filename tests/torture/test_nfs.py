"""Mount the log share from NFS servers: real clients and servers, with kernels of their own.

The tests run in this order. Each leaves the node with its export on ``/var/log``.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shlex
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.virtual_cluster import Cluster, Result, own_lab, wait_for
from tests.lab import cluster as lab
from tests.lab import nodes, uml
from tests.lab.disk import Disks
from tests.lab.image import Images
from tests.lab.paths import LabPaths

NODE = "pi1"
EXPORT = f"/srv/log/{NODE}"
STORAGE = "etcd1"
RAM = "var-log-in-ram"
FLAGS = {"nosuid", "nodev", "noexec"}
MOUNT, UNDO = "chaos_engine.deploys.log_mount", "chaos_engine.deploys.undo"
DEPLOY = "from chaos_engine.deploys import reboot, worker\nworker()\nreboot()\n"
WRITER = "while :; do date; sync; sleep 1; done >>/var/log/writer 2>&1"


pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="Debian has user-mode Linux for amd64 alone"
)


class Site:
    """A node, the NFS servers nas1 and nas2, and a Gluster server."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.paths = LabPaths(cluster.name)
        plan = lab.load(cluster.name)
        images = Images.from_json(self.paths.images.read_text())
        self.servers = [uml.Machine(plan, f"nas{n}", 30 + n) for n in (1, 2)]
        self.node = uml.Machine(plan, NODE, int(plan.address_of(NODE).rpartition(".")[2]), 1024)
        (folder / "files").symlink_to(self.paths.files)
        (folder / "deploy.py").write_text(DEPLOY)
        self.write_inventory("nfs")
        nodes.cut(plan.name, NODE)
        if not self.node.is_on:  # in a kept lab the machines may be on
            for server in self.servers:
                uml.nfs_server(server, images, EXPORT, self.paths.public_key.read_text())
            # The worker's own disk, with the keys and packages that the lab knows
            self.node.make([Disks.of(plan, NODE).folder / "upper", *images.layers("worker")], {})
        for machine in (*self.servers, self.node):
            machine.power_on()
        for server in self.servers:
            self.await_export(server)
        wait_for("ssh", self.answers, 180)

    def write_inventory(self, store: str, **others: str) -> None:
        """Write the inventory, with the log share on this store, and with other settings."""
        settings = {
            **others,
            "ssh_user": "ubuntu",
            "_sudo": True,
            "chaos_log_store": store,
            "chaos_log_nfs_servers": {each.name: each.address for each in self.servers},
            "chaos_nodes": {NODE: self.node.address},
            "chaos_storage_servers": {STORAGE: self.cluster.address(STORAGE)},
        }
        (self.folder / "inventory.py").write_text(f"nodes = [({NODE!r}, {settings!r})]\n")

    def pyinfra(self, deploy: str, *flags: str, ok: bool = True) -> Result:
        project = ("env", "-C", str(self.folder), "pyinfra", "inventory.py")
        return self.cluster.run(*project, deploy, *flags, ok=ok)

    def changed(self, deploy: str = MOUNT) -> set[str]:
        """Do a run, which must succeed. Return the names of operations that changed the node."""
        operations: Any = json.loads(self.pyinfra(deploy, "--json", "-y").out)["results"]
        return {one["name"] for one in operations["operations"] if one["success"]}

    def ssh(self, *words: str, ok: bool = True) -> str:
        """Run a command over ssh. Return what it prints, "" if it fails."""
        options = (f"-i{self.paths.ssh}/id_ed25519", "-oConnectTimeout=5", "-oBatchMode=yes")
        run = self.cluster.run("timeout", "90", "ssh", *options, *words, ok=ok)
        return run.out.strip() if not run.status else ""

    def exec(self, command: str, ok: bool = True) -> str:
        """Run a shell command as root on the node."""
        return self.ssh(NODE, f"sudo sh -c {shlex.quote(command)}", ok=ok)

    def on_server(self, server: uml.Machine, command: str, ok: bool = True) -> str:
        """Run a shell command as root on an NFS server."""
        anew = ("-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR")
        return self.ssh(*anew, f"root@{server.address}", command, ok=ok)

    def await_export(self, server: uml.Machine) -> None:
        """Wait until a server that was switched on exports its folder."""
        wait_for(server.name, lambda: self.on_server(server, "exportfs -s", ok=False), 180)

    def answers(self) -> bool:
        """Tell whether a new login runs a command."""
        return self.exec("echo in", ok=False) == "in"

    @contextlib.contextmanager
    def restarted(self) -> Iterator[None]:
        """Switch the node on again whenever it goes off meanwhile, as a reboot does."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(1):
                self.node.power_on()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    @property
    def source(self) -> str:
        """Return the source of what is mounted on /var/log."""
        return self.exec("findmnt -no SOURCE --mountpoint /var/log", ok=False)

    def await_share(self, *of: uml.Machine) -> None:
        """Wait until the share of one of these servers is mounted, of any server by default."""
        wanted = {f"var-log@{server.address}:{EXPORT}" for server in of or self.servers}

        def there() -> bool:
            source = self.source
            assert source in wanted, f"{source}: {self.reason()}"
            return True

        wait_for("the export", there, 240)

    def reason(self) -> str:
        return self.exec("cat /run/chaos-engine/var-log.reason", ok=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    options = ("--workers", NODE, "--storage", "1", "--swap", "none")
    with own_lab("nfs", "NFS_KEEP", *options) as cluster:
        yield Site(cluster, tmp_path_factory.mktemp("site"))


def test_the_export_is_mounted_and_a_second_run_changes_nothing(site: Site) -> None:
    assert site.changed() <= {"Log share | Mount the log share"}
    assert site.source == f"var-log@{site.servers[0].address}:{EXPORT}"
    options = site.exec("findmnt -no OPTIONS --mountpoint /var/log").split(",")
    assert {*options} >= {*FLAGS, "soft", "vers=4.1", "rw"}
    site.exec("echo kept >/var/log/kept && chown 1000:4 /var/log/kept")
    seen = site.on_server(site.servers[0], f"stat -c '%u %g' {EXPORT}/kept; cat {EXPORT}/kept")
    assert seen.split() == ["1000", "4", "kept"]
    assert site.changed() == set()


def test_a_link_on_the_export_leads_root_nowhere(site: Site) -> None:
    """Check it with systemd-tmpfiles, which sets the mode of /var/log/private and makes folders."""
    site.exec("mkdir -p -m 755 /srv/outside")
    site.on_server(site.servers[0], f"cd {EXPORT}; rm -rf private; ln -s /srv/outside private")
    site.exec("systemctl restart var-log.service", ok=False)
    site.await_share()
    assert site.exec("stat -c %a /srv/outside; ls -A /srv/outside") == "755"
    site.on_server(site.servers[0], f"rm {EXPORT}/private")


def test_another_server_stands_in_for_one_that_falls_silent_under_a_writer(site: Site) -> None:
    first, second = site.servers
    site.exec(f"systemd-run --quiet --unit=writer sh -c {shlex.quote(WRITER)}")
    wait_for("a writer", lambda: site.on_server(first, f"test -s {EXPORT}/writer && echo y"))
    first.freeze()
    try:
        begin = time.monotonic()
        site.await_share(second)
        print(f"the other server stood in after {time.monotonic() - begin:.0f} s")
        site.exec("echo there >/var/log/there")
        assert site.on_server(second, f"cat {EXPORT}/there") == "there"
        assert site.changed() == set()
    finally:
        first.thaw()
    # The write that waits in the kernel goes on, and ends
    site.exec("systemctl stop --no-block writer.service")
    wait_for("the writer's end", lambda: site.exec("pgrep -c '^sync$' || :") == "0", 180)
    assert site.source == f"var-log@{second.address}:{EXPORT}", "one that answers stays"


def test_ram_stands_in_while_no_server_answers(site: Site) -> None:
    for server in site.servers:
        server.cut()
    begin = time.monotonic()
    assert site.answers()
    run = site.pyinfra(MOUNT, "-y", ok=False)
    print(f"the deploy ended after {time.monotonic() - begin:.0f} s")
    assert run.status != 0
    assert "fix the storage servers" in run.text
    assert "Traceback" not in run.text
    wait_for("RAM", lambda: site.source == RAM, 120)
    assert "no answer on port 2049 from " in site.reason()
    site.exec("echo meanwhile >/var/log/meanwhile")
    for server in site.servers:
        server.power_on()
    site.await_share()
    assert site.exec("cat /var/log/meanwhile") == "meanwhile", "it goes there from RAM"
    assert site.reason() == ""


def test_a_node_whose_servers_died_shuts_down_and_boots_without_them(site: Site) -> None:
    for server in site.servers:
        server.cut()
    begin = time.monotonic()
    site.exec("systemctl poweroff", ok=False)
    wait_for("the node to be off", lambda: not site.node.is_on, 120)
    print(f"the node was off after {time.monotonic() - begin:.0f} s")
    site.node.power_on()
    wait_for("ssh", site.answers, 180)
    wait_for("RAM", lambda: site.source == RAM, 60)
    took = "systemctl show -P ExecMainExitTimestampMonotonic -P ExecMainStartTimestampMonotonic"
    first, last = sorted(map(int, site.exec(f"{took} var-log.service").split()))
    print(f"the first attempt held up the boot for {(last - first) / 1e6:.1f} s")
    for server in site.servers:
        server.power_on()
    site.await_share()


def test_an_export_that_root_cannot_write_is_told(site: Site) -> None:
    for server in site.servers:
        site.on_server(server, "sed -i s/no_root_squash/root_squash/ /etc/exports; exportfs -ra")
    wait_for("RAM", lambda: site.source == RAM, 180)
    wait_for("the reason", lambda: "root cannot write there" in site.reason(), 120)
    for server in site.servers:
        site.on_server(server, "sed -i s/root_squash/no_root_squash/ /etc/exports; exportfs -ra")
    site.await_share()


def test_the_store_is_changed_by_a_deploy(site: Site) -> None:
    exports = {f"var-log@{server.address}:{EXPORT}" for server in site.servers}
    ram, gluster = {RAM}, {f"checked@{STORAGE}:/{NODE}"}
    # A volume names its bricks by their servers' names
    site.exec(f"echo {site.cluster.address(STORAGE)} {STORAGE} >>/etc/hosts")
    for store, sources in (
        *(("ram", ram), ("nfs", exports), ("gluster", gluster)),
        *(("ram", ram), ("gluster", gluster), ("nfs", exports)),
    ):
        site.write_inventory(store)
        assert site.changed(), store
        assert site.source in sources
        assert site.changed() == set(), store


def test_undo_leaves_nothing_but_the_logs_on_the_server(site: Site) -> None:
    assert site.changed(UNDO)
    assert site.source == ""
    there = "ls -d /usr/local/sbin/var-log-mount /etc/systemd/system/var-log* 2>/dev/null || :"
    assert site.exec(there) == ""
    kept = [site.on_server(server, f"ls {EXPORT}") for server in site.servers]
    assert "kept" in kept[0]


def test_a_node_with_nfs_and_nothing_else_is_deployed_rebooted_and_undone(site: Site) -> None:
    """The whole role: with Docker, cri-dockerd and Kubernetes on the node's own kernel."""
    # Debian's user-mode Linux filters by iptables' old interface alone
    site.exec(
        "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq iptables && "
        "update-alternatives --set iptables /usr/sbin/iptables-legacy"
    )
    site.write_inventory("nfs", chaos_log_server="none", chaos_etcd_certificates_hosts="none")
    boot = "cat /proc/sys/kernel/random/boot_id"
    before = site.exec(boot)
    with site.restarted():
        changed = site.changed("deploy.py")
    assert {"Worker | Log share | Mount the log share", "Worker | Docker | Run Docker"} <= changed
    assert site.exec(boot) != before, "the memory cgroup was off"
    assert site.changed("deploy.py") == set()
    site.await_share()
    site.pyinfra("chaos_engine.deploys.verify", "-y")

    before = site.exec(boot)
    with site.restarted():
        site.exec("systemctl reboot", ok=False)
        wait_for("another boot", lambda: site.exec(boot, ok=False) not in ("", before), 240)
    site.exec("timeout 80 systemctl is-system-running --wait", ok=False)
    site.await_share()
    assert site.changed("deploy.py") == set()
    site.pyinfra("chaos_engine.deploys.verify", "-y")

    assert site.changed(UNDO)
    assert site.changed(UNDO) == set()
    ours = "find /etc /usr/local /var/lib -xdev -name '*chaos-engine*' -o -name '*var-log*'"
    assert site.exec(ours) == ""
