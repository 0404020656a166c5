"""Create a cluster, have nodes join it, and replace cards of nodes, by the commands of the runbook.

kubeadm, kubelet and the API servers are the lab's stand-ins, kubectl is real. The commands are
those of ``docs/replace-a-node.md``; only the kubeconfig is added, which a site has in its settings.
"""

from __future__ import annotations

import base64
import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import by_kubeadm
from tests.cluster.eavesdropper import OTHERS, Secret, Seen, eavesdropping
from tests.cluster.failover import await_proxies, owner, watched
from tests.cluster.joined import KUBECONFIG, give_pods, take_pods
from tests.cluster.lan_client import CONTROLLERS
from tests.cluster.virtual_cluster import Cluster, Result, limits, wait_for
from tests.lab import nodes
from tests.pages import DOCS, Block, blocks

FIRST, SECOND, THIRD, PROXY = NODES = ("pi1", "pi4", "pi7", "pi5")
INIT, JOIN, FORGET = (f"chaos_engine.deploys.{name}" for name in ("init", "join", "forget"))
CREATED, JOINED = "Init | Create the cluster", "Join | Join the cluster"
LOUD = ("-vvv", "--debug-all", "--diff")
PAGE = DOCS / "replace-a-node.md"
KUBELET_CONF = "/etc/kubernetes/kubelet.conf"

TOKEN, KEY = "s3cr3tt0kenf0rb0", "5ec2e7" * 10 + "c0de"
"""The secret part of each bootstrap token, and the key of the cluster's certificates."""
CHOSEN = f"""\
#!/usr/bin/python3
import sys
sys.dont_write_bytecode = True
sys.path.append("/usr/lib/lab")
from kubeadm import init, tokens
from kubeadm.main import main
new = tokens.new
tokens.new = lambda: new()[:7] + {TOKEN!r}
init.secrets.token_hex = lambda size: {KEY!r}
main()
"""
"""A kubeadm whose secrets are known, so that an eavesdropper can look for them. They are in no
argument of it."""


class Text(Secret):
    """A secret that is a text."""

    def __init__(self, text: str) -> None:
        data = text.encode()
        self._marks = [data]
        for start in range(3):
            whole = data[start:]
            self._marks.append(base64.b64encode(whole[: len(whole) // 3 * 3]))


@dataclass
class Site:
    """A cluster that the tests have created, and what was seen meanwhile.

    + run: the run in which all other nodes joined
    + seen: what an eavesdropper on the second controller has seen of it
    """

    cluster: Cluster
    run: Result
    seen: Seen

    def commands(self, heading: str) -> list[str]:
        """Return the commands of a section of the page, in their order."""
        section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        assert section, f"{PAGE.name} has no section {heading}"
        return [
            command.partition("  #")[0].strip()
            for block in blocks(PAGE)
            if _is_run_here(block) and block.code in section
            for command in block.commands
        ]

    def follow(self, heading: str, node: str) -> float:
        """Run the commands of a section for a node. Return the seconds that they take."""
        began, commands = time.monotonic(), self.commands(heading)
        assert commands
        for command in commands:
            if words := shlex.split(command.replace(SECOND, node)):
                more = ["-y", *KUBECONFIG] if words[0] == "pyinfra" else []
                words = [self.cluster.inventory if one == "inventory.py" else one for one in words]
                self.cluster.run(*words, *more)
        return time.monotonic() - began

    def ready(self) -> set[str]:
        """Return the names of the nodes that are Ready, as kubectl prints them.

        The first controller is asked, because the API's address may be away.
        """
        server = f"--server=https://{self.cluster.address(FIRST)}:6443"
        found = self.cluster.run("kubectl", server, "get", "nodes", "--output", "json").out
        return {
            node["metadata"]["name"]
            for node in json.loads(found)["items"]
            for condition in node["status"]["conditions"]
            if condition["type"] == "Ready" and condition["status"] == "True"
        }


def _is_run_here(block: Block) -> bool:
    return block.mark == f"tested: tests/acceptance/{Path(__file__).name}"


def identity(cluster: Cluster, node: str) -> str:
    """Return the ID of a node's object in the cluster."""
    path = "jsonpath={.metadata.uid}"
    return cluster.run("kubectl", "get", "node", node, "--output", path, ok=False).out


@pytest.fixture(scope="module")
def site(deployed: Cluster) -> Iterator[Site]:
    """Create the cluster on the first controller, and have all others join. Clean up at the end."""
    cluster = deployed
    known = Path(cluster.status["known_hosts"])
    before = known.read_text().splitlines(keepends=True)
    try:
        yield _site(cluster)
    finally:
        known.with_name("known_hosts.old").unlink(missing_ok=True)
        replaced = (SECOND, THIRD, PROXY)
        others = [line for line in before if line.partition(",")[0] not in replaced]
        keys = [host_key(cluster, node) for node in replaced]
        known.write_text("".join([*others, *keys]))
        for node in NODES:
            cluster.exec(node, "rm -f /usr/local/sbin/kubeadm")
            take_pods(cluster, node)
        by_kubeadm.dissolve(cluster)


def _site(cluster: Cluster) -> Site:
    only = limits([FIRST])
    assert cluster.announced(INIT, *only) == {FIRST: {CREATED}}
    assert cluster.changed(INIT, *only) == {FIRST: {CREATED}}
    script = shlex.quote(CHOSEN)
    cluster.exec(FIRST, f"printf %s {script} >/usr/local/sbin/kubeadm")
    cluster.exec(FIRST, "chmod 700 /usr/local/sbin/kubeadm")
    others = {node: {JOINED} for node in NODES if node != FIRST}
    # The first controller makes the tokens, though it is not in these runs
    assert cluster.announced(JOIN, *KUBECONFIG, *limits(others)) == others
    init = nodes.leader(cluster.name, SECOND)
    assert init is not None
    with eavesdropping(init, "/run/chaos-engine", Text(TOKEN), Text(KEY)) as seen:
        run = cluster.pyinfra("-y", JOIN, *KUBECONFIG, *LOUD, *limits(others))
    return Site(cluster, run, seen)


def test_all_nodes_have_joined_and_are_ready(site: Site) -> None:
    assert site.ready() == {*NODES}


def test_a_second_run_changes_nothing(site: Site) -> None:
    assert site.cluster.announced(JOIN, *KUBECONFIG) == {}
    assert site.cluster.announced(INIT, *limits([FIRST])) == {}
    assert site.cluster.announced("deploy.py", *KUBECONFIG) == {}


def test_controllers_joined_one_after_the_other(site: Site) -> None:
    lines = [line for line in site.run.text.splitlines() if " has joined the cluster, " in line]
    assert len(lines) == len(NODES) - 1


@pytest.mark.parametrize("secret", [TOKEN, KEY], ids=["token", "certificate key"])
def test_no_output_shows_a_secret(site: Site, secret: str) -> None:
    assert len(site.run.text) > 2000, "it was not loud"
    assert not Text(secret).shows(site.run.text.encode(errors="surrogateescape"))


def test_no_argument_and_no_readable_file_has_a_secret(site: Site) -> None:
    assert site.seen.leaks == set()
    assert site.seen.programs > 10, "nobody listened on the node"
    assert site.seen.looks > 10, "nobody listened on this computer"
    written = {path: modes for path, modes in site.seen.modes.items() if "kubeadm-join" in path}
    assert any(path.startswith("/") for path in written), "nobody saw it being written"
    assert not any(mode & OTHERS for modes in written.values() for mode in modes)


@pytest.mark.parametrize("secret", [TOKEN, KEY], ids=["token", "certificate key"])
def test_no_journal_log_or_file_keeps_a_secret(site: Site, secret: str) -> None:
    for node in NODES:
        assert site.cluster.exec(node, f"journalctl --no-pager | grep -c {secret} || true") == "0"
        places = "/dev/shm /etc /home /root /run /tmp /var/lib/chaos-engine /var/log /var/tmp"
        found = f"grep -rlIF --devices=skip -- {secret} {places} 2>/dev/null || true"
        assert site.cluster.exec(node, found) == ""
    log = site.cluster.exec("etcd3", f"grep -rlIF {secret} /var/log 2>/dev/null || true")
    assert log == ""


def test_neither_a_token_nor_the_certificates_own_one_is_left(site: Site) -> None:
    tokens = site.cluster.exec(FIRST, "kubeadm token list")
    assert TOKEN not in tokens
    assert "kubeadm-certs" not in tokens


def test_a_second_cluster_is_refused(site: Site) -> None:
    """Check it on a node that has left: its API server is away, the others answer."""
    cluster = site.cluster
    give_pods(cluster, THIRD)
    run = cluster.pyinfra("-y", FORGET, "--data", f"chaos_forget={THIRD}", *KUBECONFIG)
    assert f"Draining {THIRD}" in run.text
    assert site.ready() == {FIRST, SECOND, PROXY}
    assert cluster.exec(THIRD, f"ls {KUBELET_CONF}", ok=False) == ""
    assert cluster.announced(FORGET, "--data", f"chaos_forget={THIRD}", *KUBECONFIG) == {}

    refused = cluster.pyinfra("-y", INIT, *limits([THIRD]), ok=False)
    assert refused.status
    assert f"there is a cluster, because an API server answers: {FIRST} (200)" in " ".join(
        refused.text.split()
    )


def test_a_join_that_was_interrupted_is_done_by_the_next_run(site: Site) -> None:
    """Check it on a node that had left. kubeadm joins it as far as it can, and then fails."""
    cluster, only, wrapper = site.cluster, limits([THIRD]), "/usr/local/sbin/kubeadm"
    cluster.exec(THIRD, f"printf '#!/bin/sh\n/usr/bin/kubeadm \"$@\"; exit 1\n' >{wrapper}")
    cluster.exec(THIRD, f"chmod 755 {wrapper}")
    assert cluster.pyinfra("-y", JOIN, *KUBECONFIG, *only, ok=False).status
    assert cluster.exec(THIRD, f"ls {KUBELET_CONF}") == KUBELET_CONF
    cluster.exec(THIRD, f"rm {wrapper}")

    assert cluster.announced(JOIN, *KUBECONFIG, *only) == {THIRD: {JOINED}}
    assert cluster.changed(JOIN, *KUBECONFIG, *only) == {THIRD: {JOINED}}
    assert cluster.announced(JOIN, *KUBECONFIG, *only) == {}
    assert site.ready() == {*NODES}


def test_a_name_that_nobody_has_is_refused(site: Site) -> None:
    run = site.cluster.pyinfra("-y", FORGET, "--data", "chaos_forget=pi77", *KUBECONFIG, ok=False)
    assert run.status
    text = " ".join(run.text.split())
    assert "neither chaos_nodes nor the cluster has a node pi77; the cluster's nodes: pi1" in text


def test_a_controller_whose_card_died_is_replaced_under_its_name(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, before = site.cluster, identity(site.cluster, SECOND)
    known = Path(cluster.status["known_hosts"])
    replace_card(site, SECOND)
    assert cluster.run("pyinfra", "inventory.py", "deploy.py", "--limit", SECOND, ok=False).status
    lines = known.read_text().splitlines()

    assert site.commands("A dead card")[2:] == []
    seconds = site.follow("A dead card", SECOND)

    assert site.ready() == {*NODES}
    assert identity(cluster, SECOND) not in ("", before)
    assert cluster.announced("deploy.py", *KUBECONFIG) == {}
    others = [line for line in lines if not line.startswith(f"{SECOND},")]
    assert [line for line in known.read_text().splitlines() if line in others] == others
    assert known.with_name("known_hosts.old").read_text().splitlines() == lines
    tell(capsys, f"the card of a controller: {seconds:.0f} s")


def test_the_only_proxy_is_replaced_under_its_name(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """The API's address is away meanwhile, so nobody can be asked to forget it."""
    replace_card(site, PROXY)

    seconds = site.follow("The only proxy", PROXY)

    assert site.ready() == {*NODES}
    assert site.cluster.announced("deploy.py", *KUBECONFIG) == {}
    tell(capsys, f"the card of the proxy: {seconds:.0f} s")


@pytest.fixture
def proxies(site: Site) -> Iterator[tuple[str, str]]:
    """Make a controller the second proxy while a test lasts."""
    cluster, both = site.cluster, (PROXY, THIRD)
    cluster.proxies = both
    try:
        cluster.changed("deploy.py", *KUBECONFIG)
        await_proxies(cluster, both, CONTROLLERS)
        yield both
    finally:
        part = ("--data", "chaos_undo=haproxy,vrrp,macvlan_network", "--limit", THIRD)
        cluster.pyinfra("-y", "chaos_engine.deploys.undo", *part)
        cluster.proxies = ()
        cluster.changed("deploy.py", *KUBECONFIG)


def test_one_of_two_proxies_is_replaced_while_the_other_one_answers(
    site: Site, proxies: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, dead = site.cluster, owner(site.cluster, proxies)
    with watched(cluster, [FIRST]) as seen:
        replace_card(site, dead)
        seconds = site.follow("A dead card", dead)
    assert seen.worst < 3, "no longer than its death takes"
    assert not seen.several_owners()
    await_proxies(cluster, proxies, CONTROLLERS)
    assert site.ready() == {*NODES}
    assert owner(cluster, proxies) != dead, "the address stays where it is"
    assert cluster.announced("deploy.py", *KUBECONFIG) == {}
    tell(capsys, f"the card of one of two proxies: {seconds:.0f} s; gap {seen.worst:.2f} s")


def test_every_command_of_the_page_is_run_here(site: Site) -> None:
    run = [*site.commands("A dead card"), *site.commands("The only proxy")]
    known = {
        *run,
        f"pyinfra inventory.py {INIT} --limit pi1",
        f"pyinfra inventory.py {JOIN}",
        f"pyinfra inventory.py {FORGET} --data chaos_forget=pi7",
        f"pyinfra inventory.py {JOIN} --limit pi7",
        "kubectl get nodes",
    }
    commands = {
        command.partition("  #")[0].strip()
        for block in blocks(PAGE)
        if _is_run_here(block)
        for command in block.commands
    }
    assert commands <= known


def replace_card(site: Site, node: str) -> None:
    """Have a node begin with the fresh image and another host key, as with a new card.

    The cluster notices after 40 s that the old one is away.
    """
    cluster, key = site.cluster, "/etc/ssh/ssh_host_ed25519_key"
    cluster.lab("reset", node)
    made = "ssh-keygen -q -t ed25519 -N '' -f /tmp/key"
    cluster.exec(node, f"{made}; cat /tmp/key >{key}; cat /tmp/key.pub >{key}.pub")
    cluster.exec(node, "rm /tmp/key /tmp/key.pub; systemctl restart ssh")
    wait_for("the cluster to notice", lambda: node not in site.ready(), 90)


def host_key(cluster: Cluster, node: str) -> str:
    """Return the line of known_hosts for a node's present key."""
    kind, key, *_ = cluster.exec(node, "cat /etc/ssh/ssh_host_ed25519_key.pub").split()
    return f"{node},{cluster.address(node)} {kind} {key}\n"


def tell(capsys: pytest.CaptureFixture[str], what: str) -> None:
    """Print a line, whatever pytest captures."""
    with capsys.disabled():
        print(f"\n{what}")
