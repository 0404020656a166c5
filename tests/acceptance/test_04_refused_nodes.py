"""Refuse a node in a state that is not handled, and leave it untouched. The others go on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click import unstyle

from tests.acceptance.conftest import MANIFEST
from tests.cluster.virtual_cluster import Cluster

CMDLINE = "/boot/firmware/cmdline.txt"

STATES = {
    "cmdline with two lines": (f"echo second >> {CMDLINE}", (CMDLINE, "line")),
    "cmdline without root=": (f"sed -i 's/root=[^ ]*//' {CMDLINE}", (CMDLINE, "root=")),
    "malformed daemon.json": ("echo '{' > /etc/docker/daemon.json", ("/etc/docker/daemon.json",)),
    "files that root cannot replace": (
        "echo '{}' > /etc/docker/daemon.json; chattr +i /etc/docker/daemon.json; "
        "touch /run/mounted; mount --bind /run/mounted /etc/crictl.yaml; "
        "rm /etc/modules-load.d/kubernetes.conf; mkfifo /etc/modules-load.d/kubernetes.conf",
        (
            "/etc/docker/daemon.json is immutable; clear this flag (chattr -i",
            "something is mounted on /etc/crictl.yaml",
            "/etc/modules-load.d/kubernetes.conf is a device, socket or FIFO",
        ),
    ),
    "unknown architecture": (
        "printf '%s\\n' '#!/bin/sh' "
        '\'/usr/bin/dpkg-query "$@" | sed "/^dpkg /s/ ok [^ ]* / ok armhf /"\' '
        "> /usr/local/sbin/dpkg-query; chmod 755 /usr/local/sbin/dpkg-query",
        ("armhf",),
    ),
}

AS_BEFORE = (
    "! command -v chattr >/dev/null || chattr -i /etc/docker/daemon.json; "
    "! mountpoint -q /etc/crictl.yaml || umount /etc/crictl.yaml; "
    "[ ! -p /etc/modules-load.d/kubernetes.conf ] || rm /etc/modules-load.d/kubernetes.conf"
)

BROKEN = (CMDLINE, "/etc/docker/daemon.json")


@pytest.fixture(params=STATES)
def bad(request: pytest.FixtureRequest, deployed: Cluster) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Bring the first worker into a bad state, and back. Return what the refusal has to say."""
    command, expected = STATES[request.param]
    node = deployed.workers[0]
    deployed.exec(node, f"for f in {' '.join(BROKEN)}; do cp $f $f.kept; done; {command}")
    yield node, expected
    deployed.exec(
        node,
        f"rm -f /usr/local/sbin/dpkg-query; {AS_BEFORE}; "
        f"for f in {' '.join(BROKEN)}; do cp $f.kept $f; rm $f.kept; done",
    )


def test_bad_node_is_refused_alone_and_the_others_finish(
    deployed: Cluster, bad: tuple[str, tuple[str, ...]]
) -> None:
    node, expected = bad
    other = deployed.workers[1]
    for each in (node, other):
        deployed.exec(each, "sed -i /etcd1/d /etc/hosts")
    pair = ("--limit", node, "--limit", other)

    before = deployed.exec(node, MANIFEST)
    announced = deployed.announced("deploy.py", *pair)
    (operation,) = announced[node]
    assert operation.endswith("Refuse node")
    (said,) = deployed.announced_why[node][operation]
    for text in expected:
        assert text in said

    run = deployed.pyinfra("deploy.py", "-y", *pair, ok=False)
    assert run.status
    assert "Traceback" not in run.text
    block = [
        " ".join(line.split()) for line in unstyle(run.text).split("--> Nodes:")[1].splitlines()
    ]
    assert any(line.startswith(f"[{node}] refused: ") and expected[0] in line for line in block)
    assert f"[{other}] changed by 1 operation: Name the cluster's machines" in block
    assert any(line.endswith(f"to run only on these nodes: --limit {node}") for line in block)
    assert f"[{node}]Ready" not in unstyle(run.text).replace(" ", "")
    said = next(
        line for line in run.text.splitlines() if f"[{node}]" in line and expected[0] in line
    )
    for text in expected:
        assert text in said
    assert deployed.exec(node, MANIFEST) == before
    assert "etcd1" in deployed.exec(other, "cat /etc/hosts")


def test_nodes_are_as_wanted_again(deployed: Cluster) -> None:
    deployed.changed("deploy.py")
    assert deployed.announced("deploy.py") == {}
