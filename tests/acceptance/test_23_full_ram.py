"""Fill the RAM that stands in for an absent log share, and see that the oldest files make room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.virtual_cluster import Cluster, wait_for

IN_RAM = "findmnt -no SOURCE --mountpoint /var/log -t tmpfs"
LINK = f"ln -s /var/lib/docker/containers/{'0' * 64}/{'0' * 64}-json.log /var/log/as-of-a-pod"
"""What cri-dockerd does when it starts a container: this link takes a page of RAM."""

FILL = r"""set -e
rm -f /run/writer
mkdir -p /var/log/app
for hours in 9 8 7 6; do
  head -c 2M /dev/zero >/var/log/app/$hours
  touch -d "-$hours hours" /var/log/app/$hours
done
systemd-run -q --unit=writer sh -c 'exec 3>>/var/log/app/in-use
  head -c 3M /dev/zero >&3; echo "its last line" >&3; touch /run/writer; exec sleep infinity'
until [ -e /run/writer ]; do sleep 0.1; done
# no process has it open
cat /dev/zero >/var/log/app/newest 2>/dev/null || true
"""


@pytest.fixture
def without_storage(deployed: Cluster) -> Iterator[Cluster]:
    """Switch all storage nodes off while the node with the card does not use its share."""
    storage = [str(n["name"]) for n in deployed.status["nodes"] if n["role"] == "storage"]
    node = deployed.carded
    deployed.await_shares(node)
    deployed.exec(node, "systemctl stop var-log.service")
    for server in storage:
        deployed.power(server, "cut")
    yield deployed
    for server in storage:
        deployed.power(server, "on")
    deployed.await_shares()
    deployed.exec(node, "rm -rf /var/log/app /var/log/as-of-a-pod; systemctl stop writer; true")


def test_full_ram_is_trimmed_until_the_share_is_back(without_storage: Cluster) -> None:
    cluster, node = without_storage, without_storage.carded
    cluster.exec(node, "systemctl start var-log.service", ok=False)
    assert cluster.exec(node, IN_RAM) == "var-log-in-ram"
    # The timer would trim the RAM before it is full
    cluster.exec(node, "systemctl stop var-log-check.timer")
    cluster.exec(node, FILL)
    assert "No space left" in cluster.lab("exec", node, "--", "sh", "-c", LINK, ok=False).text

    cluster.exec(node, "systemctl start var-log-check.timer var-log-check.service")
    cluster.exec(node, LINK)
    left = cluster.exec(node, "ls /var/log/app").split()
    assert {"in-use", "newest"} <= {*left} <= {"in-use", "newest", "6"}
    cluster.exec(node, "tail -c 14 /var/log/app/in-use | grep -x 'its last line'")
    used = int(cluster.exec(node, "df --output=pcent /var/log | tail -n 1").rstrip("%"))
    assert used <= 55
    said = cluster.exec(node, "journalctl -b -o cat -u var-log-check.service -p warning")
    assert "/var/log is in RAM and was 100 % full: the oldest files were removed (app/9," in said

    cluster.exec(node, "touch /var/log/app/written-to-ram")
    for server in (str(n["name"]) for n in cluster.status["nodes"] if n["role"] == "storage"):
        cluster.power(server, "on")
    cluster.await_shares(node)
    wait_for(
        "what was written to RAM, on the share",
        lambda: "written-to-ram" in cluster.exec(node, "ls /var/log/app", ok=False),
        30,
    )
