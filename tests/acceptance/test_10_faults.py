"""Deploy under faults of the node, of the network and of archives.

Only the bad node fails, with a reason. When the fault is gone, one run fixes it. tests/torture has
all faults.
"""

from __future__ import annotations

import re

import pytest

from tests.cluster import faults
from tests.cluster.virtual_cluster import Cluster

CMDLINE = "/boot/firmware/cmdline.txt"
DAEMON = "/etc/docker/daemon.json"

CONTAINER = (
    "docker image inspect seen >/dev/null 2>&1 || "
    "tar -chf - /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*') | docker import - seen; "
    "docker run -d --restart always --name lasting seen /bin/sh -c 'read forever'"
)


pytestmark = pytest.mark.usefixtures("nothing_half_done")


def test_full_disk_is_refused_before_the_run(deployed: Cluster, bad: str, good: str) -> None:
    with faults.disk_full(deployed, bad, "/", left=100 * 1024):
        faults.one_fails(deployed, bad, good, "MiB free, 200 are needed; remove files from that")


def test_disk_that_fills_up_leaves_the_old_file_and_no_half_one(
    deployed: Cluster, bad: str, good: str
) -> None:
    look = f"sha256sum {DAEMON}; ls -A /etc/docker; systemctl show -p MainPID docker"
    before = deployed.exec(bad, look)
    arguments = ("chaos_engine.deploys.docker", "-y", "--data", "chaos_docker_log_max_size=11m")
    with faults.disk_full(deployed, bad, "/"):
        run = deployed.pyinfra(*arguments, "--limit", bad, "--limit", good, ok=False)
        assert run.status
        assert "Traceback" not in run.text
        assert "No space left on device" in faults.lines_of(run, bad)
        assert deployed.exec(bad, look) == before
        assert faults.unfinished(deployed, bad) == ""
        assert "11m" in deployed.exec(good, f"cat {DAEMON}")
    faults.one_run_fixes(deployed, bad, good)


def test_boot_partition_that_is_read_only_or_full_is_refused(
    deployed: Cluster, bad: str, good: str
) -> None:
    deployed.exec(bad, f"sed -i 's/ cgroup_memory=1//' {CMDLINE}")
    before = deployed.exec(bad, f"cat {CMDLINE}; ls -A /boot/firmware")
    with faults.read_only(deployed, bad, "/boot/firmware"):
        faults.one_fails(deployed, bad, good, f"{CMDLINE}: its file system (ext4) is mounted")
    with faults.disk_full(deployed, bad, "/boot/firmware"):
        faults.one_fails(deployed, bad, good, f"{CMDLINE}: only ", "remove old kernels or files")
    assert deployed.exec(bad, f"cat {CMDLINE}; ls -A /boot/firmware") == before
    faults.one_run_fixes(deployed, bad, good)


def test_lock_of_apt_is_waited_for(deployed: Cluster, bad: str, good: str) -> None:
    with faults.waiting_for_apt(deployed, bad, good) as waiting:
        # the second one: the first may be that of an operation before it
        line = [waiting.line("waiting for apt's lock, held by ", 60) for _ in range(2)][1]
        assert re.search(r", [0-9]+ s: .*held by python3 \(process [0-9]+\), \d+ s of 300 s$", line)
        waiting.release()
        assert waiting.ended(120).status == 0
    assert "kubelet" in deployed.exec(bad, "apt-mark showhold")
    deployed.exec(good, faults.GOOD_HOSTS)


def test_docker_that_does_not_start_runs_again_as_it_was(deployed: Cluster, bad: str) -> None:
    deployed.exec(bad, f"touch /srv/no-folder; {CONTAINER}")
    look = (
        f"cat {DAEMON}; ls /etc/systemd/system/docker.service.d; systemctl is-active docker; "
        "docker inspect --format '{{.State.Running}} {{.Id}}' lasting"
    )
    before = deployed.exec(bad, look)
    try:
        run = faults.deploy(deployed, bad, data=("chaos_docker_data_root=/srv/no-folder/docker",))
        assert run.status
        assert faults.unfinished(deployed, bad) == ""
        assert "the old files were restored" in faults.lines_of(run, bad)
        assert deployed.exec(bad, look) == before
    finally:
        deployed.exec(bad, "docker rm -f lasting; rm /srv/no-folder")
    faults.one_run_fixes(deployed, bad)


def test_connection_that_is_cut_in_an_operation_fails_one_node(
    deployed: Cluster, bad: str, good: str
) -> None:
    with faults.waiting_for_apt(deployed, bad, good) as waiting:
        deployed.exec(bad, "pkill -KILL '^sshd'")
        run = waiting.ended(60)
        assert run.status
        assert "the connection to the node was lost" in faults.lines_of(run, bad)
        deployed.exec(good, faults.GOOD_HOSTS)
    deployed.exec(bad, "systemctl restart ssh.service")
    faults.one_run_fixes(deployed, bad, good)


def test_sudo_that_asks_in_the_middle_fails_one_node(
    deployed: Cluster, bad: str, good: str
) -> None:
    with (
        faults.waiting_for_apt(deployed, bad, good) as waiting,
        faults.sudo_asks(deployed, bad),
    ):
        waiting.release()
        run = waiting.ended(120)
        assert run.status
        assert "sudo asks for a password" in faults.lines_of(run, bad)
        deployed.exec(good, faults.GOOD_HOSTS)
    faults.one_run_fixes(deployed, bad, good)


def test_archives_and_registry_are_needed_only_for_what_is_missing(
    deployed: Cluster, bad: str, good: str
) -> None:
    with faults.service_down(deployed, "web", "registry", "dns"):
        limit = ("--limit", bad, "--limit", good)
        assert deployed.announced("deploy.py", *limit) == {}
        deployed.exec(bad, "apt-get clean; dpkg -r --force-depends kubectl")
        faults.one_fails(deployed, bad, good, "could not be fetched from https://pkgs.k8s.io")
    faults.one_run_fixes(deployed, bad, good)
