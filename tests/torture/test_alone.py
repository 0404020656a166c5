"""Deploy one node with nothing around it: no log share, no log server, no external etcd."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.virtual_cluster import Cluster, own_lab, reasons
from tests.lab.paths import LabPaths
from tests.pages import DOCS, README, blocks

NODE = "pi1"
SITE = {
    "ssh_user": "ubuntu",
    "_sudo": True,
    "chaos_log_store": "ram",
    "chaos_log_server": "none",
    "chaos_etcd_certificates_hosts": "none",
}
DEPLOY = "from chaos_engine.deploys import reboot, worker\nworker()\nreboot()\n"
UNDO = "from chaos_engine.deploys import undo\nundo()\n"
OURS = "/etc /usr/local /var/lib -xdev"
VERIFY = "from chaos_engine.deploys import verify\nverify()\n"


class Site:
    """A pyinfra project of one host."""

    def __init__(self, cluster: Cluster, folder: Path, host: str = NODE) -> None:
        self.cluster, self.folder, self.host = cluster, folder, host
        for name, text in (("deploy", DEPLOY), ("undo", UNDO), ("verify", VERIFY)):
            (folder / f"{name}.py").write_text(text)

    def write_inventory(self, **settings: Any) -> None:
        """Write the inventory, with these settings besides those of `SITE`."""
        inventory = f"nodes = [({NODE!r}, { ({**SITE, **settings})!r})]\n"
        (self.folder / "inventory.py").write_text(inventory)

    def announced(self, deploy: str) -> set[str]:
        """Do a preview. Return the names of the operations that it lists."""
        return self._run(deploy, "--dry")

    def changed(self, deploy: str) -> set[str]:
        """Do a run, which must succeed. Return the names of operations that changed the node."""
        return self._run(deploy, "-y")

    def _run(self, deploy: str, flag: str) -> set[str]:
        project = ("env", "-C", str(self.folder), "pyinfra", "--json", "inventory.py")
        run = self.cluster.run(*project, f"{deploy}.py", flag)
        output = json.loads(run.out)
        operations = output["plan"] if flag == "--dry" else output["results"]["operations"]
        kinds = ("hosts_with_change", "hosts_with_conditional_change", "success")
        found = {one["name"] for one in operations if any(one.get(kind) for kind in kinds)}
        reasons(run, {self.host: found})
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start a lab of one node, and make its project."""
    options = ("--workers", NODE, "--storage", "0")
    with own_lab("alone", "ALONE_KEEP", *options) as cluster:
        site = Site(cluster, tmp_path_factory.mktemp("site"))
        (site.folder / "files").symlink_to(LabPaths(cluster.name).files)
        site.write_inventory()
        yield site


def test_a_node_alone_is_deployed_verified_and_undone(site: Site) -> None:
    cluster = site.cluster
    announced = site.announced("deploy")
    assert not any("Gluster" in name for name in announced)
    boot = cluster.boot_id(NODE)
    assert site.changed("deploy") == announced
    assert cluster.boot_id(NODE) != boot
    assert site.changed("deploy") == site.announced("deploy") == set()
    site.changed("verify")

    mounted = cluster.exec(NODE, "findmnt -no SOURCE,SIZE,OPTIONS --mountpoint /var/log").split()
    assert mounted[:2] == ["var-log-in-ram", "16M"]
    assert {"nosuid", "nodev", "noexec"} <= {*mounted[2].split(",")}
    cluster.exec(NODE, "logger --tag alone MARKED; journalctl --sync")
    assert "MARKED" in cluster.exec(NODE, "journalctl -q --no-pager -t alone")
    assert cluster.exec(NODE, "grep -rl MARKED /var/log || true") == ""
    assert cluster.exec(NODE, "dpkg-query -W glusterfs-client 2>/dev/null || true") == ""
    assert cluster.exec(NODE, 'find /etc/kubernetes -name "*.crt" -o -name "*.yaml"') == ""

    site.write_inventory(chaos_log_ram_size="24M")
    assert site.changed("deploy") == {"Worker | Log share | Put /var/log into RAM"}
    assert cluster.exec(NODE, "findmnt -no SIZE --mountpoint /var/log") == "24M"
    assert site.announced("deploy") == set()
    cluster.power(NODE, "cycle")
    assert site.announced("deploy") == set()

    site.changed("undo")
    assert site.announced("undo") == set()
    cluster.power(NODE, "cycle")
    assert cluster.exec(NODE, "findmnt --mountpoint /var/log || true") == ""
    assert cluster.exec(NODE, f"find {OURS} -name '*chaos-engine*' -o -name '*var-log*'") == ""
    assert "auth.log" in cluster.exec(NODE, "ls /var/log").split()


def test_kubernetes_packages_can_be_left_to_others(site: Site) -> None:
    site.write_inventory(chaos_kubernetes_packages=False)
    announced = site.announced("deploy")
    assert "Worker | Kubernetes | Install Kubernetes" not in announced
    assert site.changed("deploy") == announced
    assert site.announced("deploy") == set()
    assert site.cluster.exec(NODE, "ls /etc/apt/sources.list.d/kubernetes.list || true") == ""
    assert site.cluster.exec(NODE, "command -v kubelet || true") == ""


def test_the_eight_lines_of_the_readme_need_nothing_around_them(site: Site, tmp_path: Path) -> None:
    cluster = site.cluster
    cluster.lab("reset", NODE)
    project = Site(cluster, tmp_path, cluster.address(NODE))
    for block in blocks(README):
        for name in ("inventory.py", "deploy.py"):
            if block.code.startswith(f"# {name}\n"):
                (tmp_path / name).write_text(block.code)
    announced = project.announced("deploy")
    assert {name.partition(" | ")[0] for name in announced} == {
        "Journal",
        "Swap",
        "Docker",
        "Kernel",
        "Reboot",
    }
    boot = cluster.boot_id(NODE)
    assert project.changed("deploy") == announced
    assert cluster.boot_id(NODE) != boot
    assert project.changed("deploy") == project.announced("deploy") == set()
    assert "memory" in cluster.exec(NODE, "cat /sys/fs/cgroup/cgroup.controllers").split()
    assert "RuntimeMaxUse=32M" in cluster.exec(NODE, "cat /etc/systemd/journald.conf.d/*.conf")


def test_single_concerns_are_verified_as_the_documents_say(site: Site, tmp_path: Path) -> None:
    """Verify the node on which the test before has deployed nothing else."""
    verify = ("env", "-C", str(tmp_path), "pyinfra", "inventory.py", "chaos_engine.deploys.verify")
    for page in (DOCS / "only-some.md", README):
        found = blocks(page)
        (inventory,) = (one.code for one in found if "chaos_journald_max_use" in one.code)
        (tmp_path / "inventory.py").write_text(inventory)
        lines = [line for one in found if "test_alone" in one.mark for line in one.commands]
        (command,) = (line.split() for line in lines if "deploys.verify" in line)
        assert command[:3] == [*verify[3:]]
        run = site.cluster.run(*verify, *command[3:])
        said = dict(re.findall(r"\] +(\w+) +(ok|FAILED)", run.text))
        assert said == dict.fromkeys(("journald", "docker", "swap", "kernel"), "ok")
    run = site.cluster.run(*verify, "-y", ok=False)
    assert "chaos_log_server is not set; set it in the inventory or in group_data/" in run.text
