"""Compare this package under pyinfra with a playbook of the same end state under Ansible."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.bench.contestants import ANSIBLE, Ansible, deploy
from tests.bench.measure import Case, interleave
from tests.bench.nodes import RunError, converge, through_relays
from tests.bench.parts.options import Options, hosts_of
from tests.bench.plot import bars
from tests.bench.report import Page, by_scenario
from tests.bench.results import Label, Results, say
from tests.cluster.virtual_cluster import Cluster, limits

PART = "ansible"
MINUTES = 120

_CONTESTANTS = ("pyinfra", "Ansible", "Ansible, strategy free")
_STRATEGIES = {"Ansible": "linear", "Ansible, strategy free": "free"}
_NO_CHANGE, _ONE_FILE = "no change", "one file to fix"
_MENDED = "/etc/crictl.yaml"

# What the proof breaks on each node, and on the proxy. Both programs have to fix all of it
_BROKEN = r"""
sed -i '/^# BEGIN chaos-engine/,/^# END chaos-engine/d' /etc/hosts
rm -f /etc/crictl.yaml /etc/apt/preferences.d/chaos-engine-removed /etc/systemd/system/swap.target
systemctl daemon-reload
echo '/var/swap/swapfile none swap sw 0 0' >>/etc/fstab
sed -i 's/"max-file": "[0-9]*"/"max-file": "9"/' /etc/docker/daemon.json
apt-mark unhold docker.io kubelet >/dev/null
echo '*.* /var/log/all' >/etc/rsyslog.d/60-mine.conf
chmod 644 /etc/kubernetes/client.key
echo 0 >/proc/sys/net/ipv4/ip_forward
rm -f /etc/sysctl.d/99-kubernetes.conf
systemctl disable --quiet kubelet var-log-check.timer
systemctl stop cri-docker.service cri-docker.socket var-log.service
sed -i 's/ cgroup_enable=cpuset cgroup_memory=1 cgroup_enable=memory//' /boot/firmware/cmdline.txt
echo x >>/usr/local/bin/cri-dockerd
"""
_BROKEN_PROXY = r"""
systemctl stop docker_haproxy
ip link delete lb-hairpin
docker network rm lb-network >/dev/null
echo '# mine' >>/var/lib/chaos-engine/haproxy/haproxy.cfg
"""


def run(options: Options) -> None:
    """Measure all cases, in turns."""
    results = options.results(PART)
    sizes = options.sizes(4)
    cluster = options.lab(max(sizes))
    results.note("tools", {"ansible-core": _version()})
    everyone = hosts_of(max(sizes))
    converge(cluster, everyone)
    with ExitStack() as stack:
        way = stack.enter_context(through_relays(cluster, everyone, 20))
        for size in sizes:
            cases: list[Case] = []
            hosts = hosts_of(size)
            playbook = Ansible(cluster, hosts)
            playbook.play(changes=None)  # this caches its facts
            converge(cluster, hosts)
            if size == min(sizes) and "proof" not in results.notes:
                results.note("proof", prove(cluster, hosts, playbook))
            for milliseconds, hosts_file in ((0, None), (20, way.hosts_file)):
                for scenario in (_NO_CHANGE, _ONE_FILE):
                    labels: dict[str, Label] = {
                        "hosts": size,
                        "ms round trip": milliseconds,
                        "scenario": scenario,
                    }
                    cases += _cases(cluster, hosts, playbook, labels, hosts_file)
            interleave(cases, results, options.clock, options.rounds)


def _cases(
    cluster: Cluster,
    hosts: Sequence[str],
    playbook: Ansible,
    labels: Mapping[str, Label],
    hosts_file: Path | None,
) -> list[Case]:
    changing = labels["scenario"] == _ONE_FILE
    changes = len(hosts) if changing else 0
    prepare = partial(spoil, cluster, hosts) if changing else lambda: None
    runs: dict[str, Callable[[], Mapping[str, float]]] = {
        "pyinfra": lambda: deploy(cluster, hosts, changes=changes, hosts_file=hosts_file)
    }
    for name, strategy in _STRATEGIES.items():
        runs[name] = partial(playbook.play, strategy, changes=changes, hosts_file=hosts_file)
    return [Case({**labels, "contestant": name}, one, prepare) for name, one in runs.items()]


def spoil(cluster: Cluster, hosts: Sequence[str]) -> None:
    """Change one file on each host by hand. To restore it, nothing has to be restarted."""
    for host in hosts:
        cluster.exec(host, f"echo '# by hand' >> {_MENDED}")


def prove(cluster: Cluster, hosts: Sequence[str], playbook: Ansible) -> str:
    """Check that deploy and playbook have the same end state. Return how, in words, or raise."""
    say("proof: the same end state")
    playbook.play(changes=0)
    converge(cluster, hosts)
    for host in hosts:
        cluster.exec(host, _BROKEN)
        if host == "pi5":
            cluster.exec(host, _BROKEN_PROXY)
    broken = cluster.announced("deploy.py", *limits(hosts))
    if set(broken) != set(hosts):
        raise RunError(f"what was broken is not seen on all hosts: {broken}")
    playbook.play(changes=None)
    if left := cluster.announced("deploy.py", *limits(hosts)):
        raise RunError(f"after the playbook the deploy finds to be done: {left}")
    playbook.play(changes=0)
    return (
        "On nodes that the deploy had converged, the playbook changed nothing. Then "
        f"{max(len(names) for names in broken.values())} of the deploy's operations on a node were "
        "given something to fix by hand; the playbook fixed it, after which the deploy's preview "
        "listed nothing, and the playbook changed nothing."
    )


def _version() -> str:
    command = [str(ANSIBLE / "bin/ansible"), "--version"]
    output: str = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return output.partition("core ")[2].partition("]")[0]


def report(results: Results) -> Page:
    """Return a page about what was measured."""
    page = Page("Against Ansible")
    page.say(
        "The same nodes, the same end state, side by side and interleaved. The playbook "
        "([tests/bench/playbook](../../tests/bench/playbook/site.yml)) has builtin modules, "
        "handlers, one call of apt for what goes together, pipelining, as many forks as hosts, and "
        "cached facts; it restores the files, services and packages that the deploy does, but "
        "looks at less: it has no checks of the nodes' fitness, of who answers for an address, or "
        "of what a service was started with. Each run connects anew.",
        results.notes.get("proof", "The proof of the same end state has not been run."),
    )
    medians = by_scenario(results, page, (_NO_CHANGE, _ONE_FILE), _CONTESTANTS)
    page.plot("ansible.svg", bars("Wall time of one run", "seconds", medians), "Wall times")
    page.say(
        f"“{_ONE_FILE}”: `{_MENDED}` was changed by hand on each node before the run, which puts "
        "it back; nothing is restarted by that."
    )
    return page
