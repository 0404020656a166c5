"""Cut a node off: its silent link is restarted, then a reboot is asked for; undo leaves nothing.

The reboot itself is recorded by a stand-in for systemctl that only the check sees.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.virtual_cluster import Cluster, wait_for
from tests.lab import linux, network

NODE = "pi1"
HERE = ("--limit", NODE)
DEPLOY = (
    "chaos_engine.deploys.watchdog",
    *("--data", "chaos_watchdog=True", "--data", "chaos_watchdog_link_minutes=1", *HERE),
)
LINK = "Watchdog | Check the network link"
CHECK = "chaos-engine-link-check"
STATE = "/var/lib/chaos-engine/link-check"
UNITS = "/etc/systemd/system/chaos-engine-link-check.* /etc/systemd/system/chaos-engine-flush.*"
DROP_IN = "/etc/systemd/system.conf.d/90-chaos-engine.conf"

RECORDER = f"""\
mkdir -p /run/recorder /run/systemd/system/{CHECK}.service.d
cat >/run/recorder/systemctl <<'END'
#!/bin/sh
case $1 in is-active) exit 3 ;; esac
echo "$*" >>/run/recorder/asked
END
chmod 755 /run/recorder/systemctl
printf '[Service]\\nBindReadOnlyPaths=/run/recorder/systemctl:/usr/bin/systemctl\\n' \
  >/run/systemd/system/{CHECK}.service.d/recorder.conf
systemctl daemon-reload; systemctl stop {CHECK}.timer"""
NO_RECORDER = f"""\
rm -rf /run/recorder /run/systemd/system/{CHECK}.service.d; systemctl daemon-reload"""


@pytest.fixture(scope="module")
def watched(deployed: Cluster) -> Iterator[Cluster]:
    """Deploy the concern on one node, and undo it at the end."""
    assert deployed.changed(*DEPLOY) == {NODE: {LINK}}
    deployed.exec(NODE, RECORDER)
    yield deployed
    deployed.exec(NODE, NO_RECORDER)
    undo = ("chaos_engine.deploys.undo", "--data", "chaos_undo=watchdog", *HERE)
    assert deployed.changed(*undo) == {NODE: {"Undo | Undo Watchdog"}}
    left = f"ls {DROP_IN} {STATE} /usr/local/sbin/{CHECK} {UNITS} 2>&1"
    assert deployed.exec(NODE, f"{left} | grep -v 'No such file' || true") == ""
    assert "15s" not in deployed.exec(NODE, "systemctl show -p RuntimeWatchdogUSec")


def port(cluster: Cluster, *change: str) -> None:
    """Change the port of the LAN's switch to which the node is connected."""
    lan = network.namespace(cluster.name).name
    linux.run("ip", "-n", lan, "link", "set", f"to-{NODE}", *change)


def check(cluster: Cluster) -> str:
    """Run the check once, and return what it says."""
    # The timer starts it once a minute; here it may be more often than systemd allows
    start = f"systemctl reset-failed {CHECK}; since=$(date +%s); systemctl start {CHECK}; "
    # With -u there would also be what systemd says of the unit
    return cluster.exec(
        NODE, f"{start} journalctl --sync; journalctl -q -o cat -t {CHECK} --since @$since"
    )


def test_a_second_run_changes_nothing(watched: Cluster) -> None:
    watched.exec(NODE, f"systemctl start {CHECK}.timer")
    assert watched.announced(*DEPLOY) == {}
    assert watched.changed(*DEPLOY) == {}
    watched.exec(NODE, f"systemctl stop {CHECK}.timer")


def test_a_node_without_the_device_gets_no_drop_in_and_a_warning(watched: Cluster) -> None:
    run = watched.pyinfra(*DEPLOY, "--dry")
    assert "this node has no hardware watchdog" in run.text
    assert not watched.host(NODE).file(DROP_IN).exists


def test_a_silent_link_is_restarted_and_a_deaf_one_asks_for_a_reboot(watched: Cluster) -> None:
    assert check(watched) == ""
    assert watched.exec(NODE, f"cat {STATE}").endswith(" 0")
    routes = watched.exec(NODE, "ip -4 route show dev eth0")
    lan = network.namespace(watched.name).name
    # The port drops all frames until its peer comes up again, and both ends look up meanwhile
    linux.run(
        "ip", "netns", "exec", lan, "bridge", "link", "set", "dev", f"to-{NODE}", "state", "0"
    )
    assert "restarting the link eth0" in check(watched)
    wait_for("an answer", lambda: check(watched) == "", 10)
    assert watched.exec(NODE, "ip -4 route show dev eth0") == routes
    # Without the switch, nothing helps. Its port would answer ARP for the gateway, but may not
    port(watched, "nomaster", "arp", "off")
    watched.exec(NODE, "echo 1 >/run/chaos-engine/link-check/failures")
    try:
        assert "no other machine answers: reboot 1 of 3" in check(watched)
    finally:
        port(watched, "master", "lan", "arp", "on")
    assert watched.exec(NODE, "cat /run/recorder/asked") == "reboot"
    assert watched.exec(NODE, f"cat {STATE}").endswith(" 1")
    assert "answers again; reboots of this node meanwhile: 1" in check(watched)
    assert watched.exec(NODE, f"cat {STATE}").endswith(" 0")


def test_the_check_can_be_turned_off(watched: Cluster) -> None:
    off = ("--data", "chaos_watchdog_link_minutes=0")
    alone = ("chaos_engine.deploys.watchdog", "--data", "chaos_watchdog=True", *off, *HERE)
    assert watched.changed(*alone) == {NODE: {LINK}}
    assert watched.exec(NODE, f"ls {UNITS} 2>/dev/null || true") == ""
    assert watched.changed(*DEPLOY) == {NODE: {LINK}}
