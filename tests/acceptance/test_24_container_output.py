"""Send the output of containers away: through rotation, an absent log server, and a new start."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator

import pytest

from chaos_engine.facts.container_output import CONFIG, UNIT, UNIT_FILE
from chaos_engine.operations.container_output import NAMES, STATE
from tests.cluster.operations import LOGS
from tests.cluster.virtual_cluster import Cluster, wait_for

DEPLOY = "chaos_engine.deploys.rsyslog"
DATA = ("--data", "chaos_log_containers=True", "--data", "chaos_log_protocol=tcp")
SEND = "Logs | Send container output to the log server"
LEAVE = "Logs | Leave container output to Docker"
SERVER = "etcd3"

LINES = 1600
RATE = 200
WORD = secrets.token_hex(4)
POD = "io.kubernetes.pod.name=web-1"
SPACE = "io.kubernetes.pod.namespace=shop"
NAME = "io.kubernetes.container.name=web"
CONTAINER = "k8s_web_web-1_shop_1_0"
"""As cri-dockerd names a pod's container."""

# An image of the node's own shell: there is no registry to pull from
IMAGE = f"""
docker image inspect seen >/dev/null 2>&1 ||
  tar -chf - /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*') 2>/dev/null | docker import - seen >/dev/null
docker rm -f {CONTAINER} >/dev/null 2>&1 || true
"""
# Files are so small that there are some rotations
WRITE = f"""
begin=$(date +%s%N)
number=0
while [ $number -lt {LINES} ]; do
  due=$(( ($(date +%s%N) - begin) * {RATE} / 1000000000 ))
  while [ $number -lt $due ] && [ $number -lt {LINES} ]; do
    echo "{WORD} $number of a container that writes \\"much\\", again and again and again"
    number=$((number + 1))
  done
  sleep 0.05
done | docker run -i --name {CONTAINER} --label {POD} --label {SPACE} --label {NAME} \
  --log-opt max-size=64k --log-opt max-file=2 \
  seen /bin/sh -c 'while read -r line; do echo "$line"; done' >/dev/null
echo $(( ($(date +%s%N) - begin) / 1000000 ))
"""


@pytest.fixture(scope="module")
def node(deployed: Cluster) -> Iterator[str]:
    """Deploy the concern on one node, and turn it off again."""
    name = deployed.carded
    one = ("--limit", name)
    deployed.exec(name, IMAGE)
    both = {f"Logs | {LOGS}", SEND}
    assert deployed.announced(DEPLOY, *DATA, *one) == {name: both}
    assert deployed.changed(DEPLOY, *DATA, *one) == {name: both}
    yield name
    deployed.exec(name, f"docker rm -f {CONTAINER} >/dev/null")
    assert deployed.changed(DEPLOY, *one) == {name: {f"Logs | {LOGS}", LEAVE}}
    left = f"ls {CONFIG} {NAMES} {UNIT_FILE} /etc/systemd/system/*/{UNIT} 2>/dev/null || true"
    assert deployed.exec(name, left) == ""
    assert deployed.exec(name, f"systemctl is-active {UNIT} || true").strip() == "inactive"
    assert deployed.changed(DEPLOY, *one) == {}


def arrived(cluster: Cluster, node: str) -> Counter[int]:
    """Return how often each numbered line is in the log server's file, with the pod's names."""
    log = f"/var/log/remote/{cluster.address(node)}.log"
    head = rf"container\[[0-9a-f]{{12}}\] shop/web-1/web: {WORD}"
    pattern = rf"{head} \K[0-9]+ of a .* \"much\""
    found = cluster.exec(SERVER, f"grep -oP '{pattern}' {log} || true")
    return Counter(int(line.split()[0]) for line in found.splitlines())


def test_a_second_run_changes_nothing(deployed: Cluster, node: str) -> None:
    assert deployed.changed(DEPLOY, *DATA, "--limit", node) == {}


def test_lines_arrive_once_though_the_server_is_away_for_a_while(
    deployed: Cluster, node: str
) -> None:
    away = "systemctl stop rsyslog syslog.socket"
    back = "systemctl start syslog.socket rsyslog"
    deployed.exec(SERVER, f"systemd-run --quiet --on-active=2 sh -c '{away}; sleep 3; {back}'")
    taken = int(deployed.exec(node, WRITE))
    assert taken < 1000 * LINES / RATE * 1.3, "the container waited"
    wait_for("the last line", lambda: LINES - 1 in arrived(deployed, node), 20)
    found = arrived(deployed, node)
    # What a server has received but not read when it stops is lost (TCP tells nobody)
    assert len(found) >= LINES - 20
    assert set(found.values()) == {1}
    deployed.exec(node, f"test -e $(docker inspect --format '{{{{.LogPath}}}}' {CONTAINER}).1")


def test_what_is_there_at_a_start_without_state_is_not_sent_again(
    deployed: Cluster, node: str
) -> None:
    """As after a boot, for the state is in RAM. Docker starts later then."""
    before = arrived(deployed, node)
    deployed.exec(node, f"systemctl stop {UNIT}; rm -r {STATE}; systemctl start {UNIT}")
    deployed.exec(
        node, f"echo '{WORD} 9999 of a new \"much\"' | docker start -i {CONTAINER} >/dev/null"
    )
    wait_for("a new line", lambda: 9999 in arrived(deployed, node), 20)
    assert arrived(deployed, node) == {**before, 9999: 1}
