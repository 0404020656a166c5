"""Run the contestants: this package under pyinfra, and the playbook under Ansible."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench import values
from tests.bench.baseline import program
from tests.bench.nodes import WORK, RunError, inside, timed
from tests.bench.results import CHECKOUT
from tests.cluster.virtual_cluster import Cluster, limits

ANSIBLE = WORK / "ansible"
"""The virtual environment of Ansible, made by ``make bench``."""

PLAYBOOK = CHECKOUT / "tests/bench/playbook/site.yml"


def deploy(
    cluster: Cluster,
    hosts: Sequence[str],
    *options: str,
    changes: int | None = 0,
    hosts_file: Path | None = None,
    inventory: str = "inventory.py",
    deploy_file: str = "deploy.py",
    checkout: Path | None = None,
) -> Mapping[str, float]:
    """Run ``pyinfra inventory.py deploy.py -y``. Return what it took.

    + options: options of pyinfra instead of ``-y``
    + changes: how many changes it has to make, summed over operations and hosts; ``None`` for any
      number. Another number raises `RunError`
    + hosts_file: a file in place of ``/etc/hosts``
    + checkout: another build of this package, see `tests.bench.baseline`
    """
    words = (inventory, deploy_file, "--json", *(options or ("-y",)))
    command = program(checkout, "pyinfra", *words)
    run = timed(cluster, *command, *limits(hosts), hosts_file=hosts_file, timeout=1800)
    if "--dry" not in options:
        operations = json.loads(run.out)["results"]["operations"]
        done = {o["name"]: o["success"] for o in operations if o["success"]}
        if changes is not None and sum(map(len, done.values())) != changes:
            raise RunError(f"deploy: not {changes} changes: {done}")
    return run.values


class Ansible:
    """The playbook for some hosts of a lab."""

    def __init__(self, cluster: Cluster, hosts: Sequence[str]) -> None:
        self.cluster, self.hosts = cluster, tuple(hosts)
        self.folder = WORK / f"playbook-{cluster.name}-{len(hosts)}"
        files = self.folder / "files"
        files.mkdir(parents=True, exist_ok=True)
        _fill(cluster, self.hosts, files)
        self.inventory = self.folder / "inventory.json"
        found = values.inventory(CHECKOUT, self.hosts, files)
        self.inventory.write_text(json.dumps(found, indent=1))

    def play(
        self,
        strategy: str = "linear",
        *,
        changes: int | None = 0,
        hosts_file: Path | None = None,
    ) -> Mapping[str, float]:
        """Run the playbook. Return what it took.

        Each run makes new connections, as the first one of a day does, and uses cached facts.

        + changes: as for `deploy`
        """
        # The path of a socket has to be short
        with tempfile.TemporaryDirectory(prefix="chaos-bench-", dir="/tmp") as sockets:
            try:
                run = timed(
                    self.cluster,
                    str(ANSIBLE / "bin/ansible-playbook"),
                    *("-i", str(self.inventory), str(PLAYBOOK)),
                    hosts_file=hosts_file,
                    environment=self._environment(strategy, sockets),
                    timeout=1800,
                )
            finally:
                self._disconnect(Path(sockets))
        found = recap(run.out)
        if set(found) != set(self.hosts):
            raise RunError(f"playbook: no recap of all hosts\n{run.out[-2000:]}")
        changed = sum(counts["changed"] for counts in found.values())
        if changes is not None and changed != changes:
            lines = [line for line in run.out.splitlines() if line.startswith(("TASK", "changed"))]
            raise RunError(f"playbook: {changed} changes, not {changes}\n" + "\n".join(lines))
        return run.values

    def _environment(self, strategy: str, sockets: str) -> dict[str, str]:
        return {
            "ANSIBLE_STRATEGY": strategy,
            "ANSIBLE_FORKS": str(len(self.hosts)),
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_GATHERING": "smart",
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.folder / "facts"),
            "ANSIBLE_CACHE_PLUGIN_TIMEOUT": "86400",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,
            "ANSIBLE_RETRY_FILES_ENABLED": "False",
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }

    def _disconnect(self, sockets: Path) -> None:
        """Close the connections that ssh keeps open for the next run."""
        for path in sockets.iterdir():
            subprocess.run(
                ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "node"],
                capture_output=True,
                check=False,
            )


def recap(text: str) -> dict[str, dict[str, int]]:
    """Return the numbers of Ansible's play recap, by host."""
    _, _, end = text.partition("PLAY RECAP")
    found = {}
    for line in end.splitlines():
        name, colon, counts = line.partition(" : ")
        if colon:
            pairs = (pair.split("=") for pair in counts.split())
            found[name.strip()] = {key: int(value) for key, value in pairs}
    return found


RENDERED = (
    "/etc/apt/preferences.d/chaos-engine-removed",
    "/etc/kubernetes/chaos-engine/kubeadm-init.yaml",
    "/etc/kubernetes/chaos-engine/kubeadm-join.yaml",
    "/etc/rsyslog.d/10-all.conf",
    "/etc/systemd/journald.conf.d/90-chaos-engine.conf",
    "/etc/systemd/system/chaos-engine-clock.service",
    "/etc/systemd/system/cri-docker.service",
    "/etc/systemd/system/cri-docker.socket",
    "/etc/systemd/system/docker_haproxy.service",
    "/etc/systemd/system/rsyslog.service.d/10-network.conf",
    "/etc/systemd/system/var-log-check.service",
    "/etc/systemd/system/var-log-check.timer",
    "/etc/systemd/system/var-log.mount.d/50-chaos-engine.conf",
    "/etc/systemd/system/var-log.service",
    "/usr/local/sbin/chaos-engine-wait-for-clock",
    "/usr/local/sbin/var-log-mount",
    "/usr/sbin/haproxy_start.sh",
    "/var/lib/chaos-engine/haproxy/haproxy.cfg",
)
"""The files that the deploy renders, on any of the nodes."""


def _fill(cluster: Cluster, hosts: Sequence[str], folder: Path) -> None:
    """Put files that nodes get unchanged beside the playbook.

    These are the user's own files, the program out of the tarball, the repository's key in the form
    that apt wants, and for each node the files that the deploy has rendered for it.
    """
    source = Path(str(cluster.status["files"]))
    for name in ("ca.crt", "etcd-client.crt", "etcd-client.key"):
        shutil.copy(source / name, folder / name)
    for name, path in (
        ("cri-dockerd", "/usr/local/bin/cri-dockerd"),
        ("kubernetes-apt-keyring.gpg", "/etc/apt/keyrings/kubernetes-apt-keyring.gpg"),
    ):
        (folder / name).write_bytes(inside(cluster, hosts[0], f"cat {path}"))
    script = f"cd / && tar --create --ignore-failed-read {' '.join(RENDERED)} 2>/dev/null"
    for host in hosts:
        with tarfile.open(fileobj=io.BytesIO(inside(cluster, host, script))) as rendered:
            rendered.extractall(folder / host, filter="data")
