"""Deploy fresh nodes, and run the deploy a second time."""

from __future__ import annotations

import json

import pytest

from chaos_engine.operations.apt import APT
from chaos_engine.operations.engine.shell import PRELUDE
from tests.acceptance.conftest import FirstDeploy
from tests.acceptance.suites import SUITE
from tests.cluster import manifest, seen
from tests.cluster.virtual_cluster import Cluster


def test_preview_of_fresh_nodes_lists_exactly_what_the_deploy_changes(
    first_deploy: FirstDeploy,
) -> None:
    assert first_deploy.announced == first_deploy.changed


def test_preview_and_run_give_the_same_reasons_word_for_word(first_deploy: FirstDeploy) -> None:
    announced, changed = first_deploy.why
    assert announced == changed


def test_preview_of_fresh_nodes_writes_nothing(first_deploy: FirstDeploy) -> None:
    assert [path for paths in first_deploy.written.values() for path in paths] == []


def test_each_node_was_rebooted(cluster: Cluster, first_deploy: FirstDeploy) -> None:
    for node in cluster.workers:
        assert cluster.boot_id(node) != first_deploy.boots[node]


@pytest.mark.parametrize("concern", seen.CONCERNS)
def test_concern_is_seen_on_every_node(deployed: Cluster, concern: str) -> None:
    look = seen.CONCERNS[concern]
    for node in deployed.workers:
        look(deployed, node, deployed.host(node))


def test_nodes_run_what_the_suite_brings(deployed: Cluster) -> None:
    """Check the versions, as the other tests would otherwise say nothing about this release."""
    for node in deployed.workers:
        host = deployed.host(node)
        assert host.check_output("docker version -f '{{.Server.Version}}'").startswith(SUITE.docker)
        assert host.check_output("systemctl --version").split()[1] == SUITE.systemd
        assert host.check_output("rsyslogd -v").split()[1].startswith(SUITE.rsyslog)
        assert host.check_output("glusterfs --version").split()[1].startswith(SUITE.gluster)


@pytest.mark.parametrize("flag", ["-y", "--dry"])
def test_second_run_changes_nothing_and_takes_one_command_a_host(
    deployed: Cluster, flag: str
) -> None:
    run = deployed.run(
        "python", "-m", "tests.cluster.count_commands", "inventory.py", "deploy.py", flag, "--json",
        *deployed.limit,
    )  # fmt: skip
    found = json.loads(run.out)
    operations = found["results"]["operations"] if flag == "-y" else found["plan"]
    kinds = ("success", "error", "hosts_with_change", "hosts_with_conditional_change")
    assert [o["name"] for o in operations if any(o.get(kind) for kind in kinds)] == []
    counts = json.loads(run.err.split("commands: ")[1].splitlines()[0])
    assert counts == dict.fromkeys(deployed.workers, 1)


def test_preview_of_deployed_nodes_lists_and_writes_nothing(deployed: Cluster) -> None:
    with manifest.nothing_written(deployed):
        assert deployed.announced("deploy.py") == {}


def test_verify_finds_deployed_nodes_as_wanted(deployed: Cluster) -> None:
    there = ("chaos_log_server_ssh=etcd3", "chaos_log_server_files=/var/log/remote/*.log")
    asked = [word for setting in there for word in ("--data", setting)]
    run = deployed.pyinfra("chaos_engine.deploys.verify", "-y", *asked)
    assert "FAILED" not in run.text


def test_verify_says_that_the_log_server_cannot_be_asked(deployed: Cluster) -> None:
    asked = ("--data", "chaos_log_server_ssh=etcd3", "--limit", deployed.workers[0])
    run = deployed.pyinfra("chaos_engine.deploys.verify", "-y", *asked, ok=False)
    assert "etcd3: there is no file /var/log/nodes/*.log that this user can read" in run.text


def test_packages_come_without_changelogs_but_with_their_licences(deployed: Cluster) -> None:
    node = deployed.workers[0]
    found = deployed.exec(
        node, "ls /usr/share/doc/glusterfs-client /usr/share/doc/docker.io"
    ).split()
    assert "copyright" in found
    assert not [name for name in found if name.startswith("changelog")]


def test_reboot_undoes_nothing(deployed: Cluster) -> None:
    node = deployed.workers[0]
    deployed.power(node, "cycle")
    deployed.await_shares(node)  # the boot does not wait for it
    assert deployed.changed("deploy.py", "--limit", node) == {}
    for concern, look in seen.CONCERNS.items():
        assert look(deployed, node, deployed.host(node)), concern


@pytest.mark.parametrize(
    ("before", "journal"), [("", "tmpfs"), ("touch /var/lib/dpkg/updates/0001;", "")]
)
def test_dpkg_notes_new_packages_in_ram_unless_another_dpkg_has_left_notes(
    deployed: Cluster, before: str, journal: str
) -> None:
    """Otherwise dpkg would miss what the other one has noted."""
    node = deployed.workers[0]
    functions = PRELUDE + APT[: APT.index("\nconfigure || ")]
    look = "findmnt -n -o FSTYPE /var/lib/dpkg/updates || :; ls /var/lib/man-db"
    script = f"{functions}\n{before} in_ram='1m:/var/lib/man-db 16m:'$JOURNAL; apart sh -c '{look}'"
    try:
        assert deployed.exec(node, script) == journal
    finally:
        deployed.exec(node, "rm -f /var/lib/dpkg/updates/0001")
    assert deployed.exec(node, look) == "auto-update", "other programs see the card"
