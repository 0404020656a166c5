"""Do the same steps by one shell script for each host, all at once: the limit."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from chaos_engine.deploys.proxy import ProxySettings
from chaos_engine.deploys.worker import WorkerSettings
from chaos_engine.facts.manifest import MANIFEST
from tests.bench.nodes import WORK, RunError, inside, timed
from tests.bench.results import CHECKOUT
from tests.bench.values import group_data, settings
from tests.cluster.virtual_cluster import Cluster

SCRIPTS = CHECKOUT / "tests/bench/shell"

# The files that the deploy has written, by its manifest
_WRITTEN = rf"""
awk -F '\t' '$2 == "file" && $5 == "." {{ print $4 }}' {MANIFEST} | sort -u |
  while IFS= read -r path; do
    case $path in *.bak) ;; *) [ ! -f "$path" ] || echo "$path" ;; esac
  done
"""

_INSTALLED = ("docker.io", "docker-cli", "ca-certificates", "rsyslog", "glusterfs-client",
              "kubelet", "kubeadm", "kubectl")  # fmt: skip

_UNITS = (
    "docker.service",
    "swap.target",
    "systemd-journald.service",
    "rsyslog.service",
    "var-log.service",
    "var-log-check.timer",
    "cri-docker.socket",
    "cri-docker.service",
    "kubelet.service",
    "chaos-engine-clock.service",
)
_PROXY_UNITS = ("docker_haproxy.service",)


class Scripts:
    """The scripts of some hosts of a lab, made from the state that the deploy brought these to."""

    def __init__(self, cluster: Cluster, hosts: Sequence[str], proxy: str = "pi5") -> None:
        self.cluster, self.hosts, self.proxy = cluster, tuple(hosts), proxy
        self.folder = WORK / f"shell-{cluster.name}"
        self.folder.mkdir(parents=True, exist_ok=True)
        data = group_data(CHECKOUT)
        self._worker: WorkerSettings = settings(WorkerSettings, data)
        self._balancer: ProxySettings = settings(ProxySettings, data)

    def record(self) -> None:
        """Record each host's current state, and write scripts that check and restore it."""
        for host in self.hosts:
            paths = self._paths(host)
            looks = self._looks(host, paths)
            state = inside(self.cluster, host, f"{looks}\nstate").decode()
            check = compose_check(looks, state)
            (self.folder / f"state-{host}.sh").write_text(check)
            tar = inside(self.cluster, host, f"tar -C / -czf - {shlex.join(_relative(paths))}")
            for name, together in (("first", ""), ("together", "yes")):
                script = self._first(host, tar, together)
                (self.folder / f"{name}-{host}.sh").write_text(script)

    def had_first(self, host: str) -> bool:
        """Tell whether a script of an earlier run has set up the host, and no deploy."""
        looked = f"test -e /usr/bin/docker && ! test -e {MANIFEST} && echo scripted; true"
        return "scripted" in inside(self.cluster, host, looked).decode()

    def look(self, hosts_file: Path | None = None) -> Mapping[str, float]:
        """Compare all hosts with what was recorded. Return what that took."""
        return self._run("state", hosts_file=hosts_file)

    def first(self, *, together: bool = False) -> Mapping[str, float]:
        """Bring fresh hosts to the recorded state, and reboot them. Return what that took.

        + together: whether one call of apt installs everything, not one for each step
        """
        return self._run("together" if together else "first", "REBOOT")

    def _run(
        self, script: str, *options: str, hosts_file: Path | None = None
    ) -> Mapping[str, float]:
        run = timed(
            self.cluster,
            *("sh", str(SCRIPTS / "all.sh"), str(self.folder), script, *options, *self.hosts),
            hosts_file=hosts_file,
        )
        if run.out.split() != ["as-wanted"] * len(self.hosts):
            raise RunError(f"{script}: {run.out[-3000:]}{run.err[-3000:]}")
        return run.values

    def _paths(self, host: str) -> list[str]:
        return inside(self.cluster, host, _WRITTEN).decode().split()

    def _looks(self, host: str, paths: Sequence[str]) -> str:
        proxy = host == self.proxy
        names = {
            "paths": [*paths, "/etc/rsyslog.d", "/etc/systemd/system/swap.target"],
            "files": paths,
            "packages": [*_INSTALLED, *self._worker.packages_absent],
            "units": [*_UNITS, *(_PROXY_UNITS if proxy else ())],
            "proxy": ["yes"] if proxy else [],
            "image": [self._balancer.haproxy_image],
        }
        lines = [f"{name}={shlex.quote(' '.join(words))}" for name, words in names.items()]
        return "\n".join([*lines, (SCRIPTS / "state.sh").read_text()])

    def _first(self, host: str, tar: bytes, together: str) -> str:
        own, site = self._worker, self._balancer
        values = {
            "version": own.kubernetes_version,
            "packages_absent": " ".join(own.packages_absent),
            "proxy": "yes" if host == self.proxy else "",
            "image": site.haproxy_image,
            "network": site.network.create,
            "together": together,
        }
        lines = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
        payload = base64.encodebytes(tar).decode()
        function = f"payload() {{ base64 -d <<'PAYLOAD'\n{payload}PAYLOAD\n}}"
        return "\n".join([*lines, function, (SCRIPTS / "first.sh").read_text()])


def compose_check(looks: str, expected: str) -> str:
    """Return a script that compares the state that LOOKS prints with the expected one.

    It prints ``as-wanted``, or what differs, and then ends with status 1.
    """
    return (
        f"{looks}\nexpected=$(cat <<'EXPECTED'\n{expected.rstrip()}\nEXPECTED\n)\n"
        'found=$(state)\nif [ "$found" = "$expected" ]; then echo as-wanted; else\n'
        "  printf '%s\\n' \"$expected\" >/run/bench.expected\n"
        "  printf '%s\\n' \"$found\" | diff /run/bench.expected - ; exit 1\nfi\n"
    )


def _relative(paths: Sequence[str]) -> list[str]:
    return [path.lstrip("/") for path in paths]
