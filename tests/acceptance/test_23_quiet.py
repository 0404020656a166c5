"""Switch off the other writers on a node, reboot it, and undo that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pytest

from tests.cluster.virtual_cluster import Cluster, wait_for

CONCERN = "chaos_engine.deploys.quiet"
TIMERS = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "man-db.timer"),
    "fake-hwclock-save.timer",
)
TRIGGER = "/var/lib/man-db/auto-update"
APT_CONF = "/etc/apt/apt.conf.d/90chaos-engine-quiet"
SWITCHES = {
    "chaos_quiet_apt_timers": "off",
    "chaos_quiet_apt_cache": "true",
    "chaos_quiet_man_db": "true",
    "chaos_quiet_clock": "true",
    "chaos_quiet_coredumps": "true",
}

TIMESYNCD = "/etc/systemd/timesyncd.conf.d/90-chaos-engine.conf"
COREDUMP = "/etc/systemd/coredump.conf.d/90-chaos-engine.conf"

UNITS = "/usr/local/lib/systemd/system"
STAND_INS = f"""set -e
mkdir -p {UNITS}
cd {UNITS}
printf '[Service]\\nType=oneshot\\nExecStart=true\\n' >fake-hwclock-save.service
printf '[Timer]\\nOnCalendar=hourly\\n[Install]\\nWantedBy=timers.target\\n' \\
  >fake-hwclock-save.timer
systemctl daemon-reload
systemctl enable --now fake-hwclock-save.timer
"""
"""fake-hwclock would save the time of the computer's clock, which the nodes share. These units have
only its names. A node without systemd-coredump is one of its own accord."""


def switched(**others: str) -> list[str]:
    """Return pyinfra's options that set all switches, with others in place of some."""
    return [
        word
        for name, value in {**SWITCHES, **others}.items()
        for word in ("--data", f"{name}={value}")
    ]


def timers(cluster: Cluster, node: str) -> dict[str, tuple[str, str]]:
    """Return whether each timer starts at boot, and whether it runs."""
    found = {}
    for timer in TIMERS:
        enabled = cluster.exec(node, f"systemctl is-enabled {timer} || true")
        found[timer] = enabled, cluster.exec(node, f"systemctl is-active {timer} || true")
    return found


@pytest.fixture(scope="module")
def node(deployed: Cluster) -> Iterator[str]:
    """Return the node with the card. In the end, undo what the concern has left there."""
    node = deployed.carded
    deployed.exec(node, STAND_INS)
    yield node
    deployed.pyinfra(
        *("chaos_engine.deploys.undo", "-y", "--data", "chaos_undo=quiet", "--limit", node)
    )
    deployed.exec(
        node,
        f"systemctl disable --now fake-hwclock-save.timer; rm -r {UNITS}; systemctl daemon-reload",
    )


def test_switched_off_writers_stay_off_until_undo(deployed: Cluster, node: str) -> None:
    before = timers(deployed, node)
    assert set(before.values()) == {("enabled", "active")}
    deployed.exec(node, f"test -e {TRIGGER}")
    first = deployed.exec(node, "systemctl show -p MainPID --value systemd-timesyncd")
    asked = (*switched(), "--limit", node)

    announced = deployed.announced(CONCERN, *asked)
    assert announced == {node: {"Other writers | Quieten other writers"}}
    assert deployed.changed(CONCERN, *asked) == announced
    assert set(timers(deployed, node).values()) == {("disabled", "inactive")}
    deployed.exec(node, f"test ! -e {TRIGGER} && test -e {APT_CONF}")
    deployed.exec(node, f"grep -x SaveIntervalSec=1h {TIMESYNCD} && test ! -e {COREDUMP}")
    pid = "systemctl show -p MainPID --value systemd-timesyncd"
    assert deployed.exec(node, pid) != first, "the service was not restarted"
    cached = "apt-cache policy man-db >/dev/null && ls /var/cache/apt"
    deployed.exec(node, "rm -f /var/cache/apt/*.bin")
    assert "pkgcache.bin" not in deployed.exec(node, cached)

    boot = deployed.boot_id(node)
    deployed.exec(node, "systemctl reboot", ok=False)
    wait_for("the reboot", partial(deployed.has_rebooted, node, boot), 60)
    deployed.await_shares(node)
    assert set(timers(deployed, node).values()) == {("disabled", "inactive")}
    assert deployed.announced("deploy.py", *asked) == {}
    # Without the switches nothing is changed back
    assert deployed.announced("deploy.py", "--limit", node) == {}

    weekly = (*switched(chaos_quiet_apt_timers="weekly"), "--limit", node)
    deployed.changed(CONCERN, *weekly)
    assert timers(deployed, node)["apt-daily.timer"] == ("enabled", "active")
    when = "systemctl show -p TimersCalendar --value apt-daily.timer"
    assert "OnCalendar=Sat *-*-* 18:00:00" in deployed.exec(node, when)
    assert "6,18:00" not in deployed.exec(node, when)
    assert deployed.announced(CONCERN, *weekly) == {}

    deployed.exec(node, "systemctl start man-db.timer")
    verify = ("chaos_engine.deploys.verify", "-y")
    found = deployed.pyinfra(*verify, *weekly, ok=False)
    assert "to be done: Quieten other writers" in found.text
    # The same timer is as wanted without its switch
    found = deployed.pyinfra(*verify, "--limit", node, ok=False)
    assert re.search("quiet +ok", found.text)

    undo = ("chaos_engine.deploys.undo", "--data", "chaos_undo=quiet", "--limit", node)
    assert deployed.changed(*undo) == {node: {"Undo | Undo Other writers"}}
    assert timers(deployed, node) == before
    deployed.exec(node, f"test -e {TRIGGER} && test ! -e {APT_CONF}")
    for gone in ("/etc/systemd/system/apt-daily.timer.d", TIMESYNCD):
        deployed.exec(node, f"test ! -e {gone}")
    deployed.exec(node, "systemctl is-active systemd-timesyncd")
