"""The storage nodes' cluster: Gluster volumes, one for each worker, and the database."""

from __future__ import annotations

import json
import ssl
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPSConnection
from xml.etree import ElementTree

from tests.lab import network, nodes, services
from tests.lab.disk import BRICKS
from tests.lab.errors import LabError
from tests.lab.linux import inside_network, wait_until
from tests.lab.paths import LabPaths
from tests.lab.plan import Plan
from tests.lab.progress import say

_GLUSTER_PORT = 24007
_SECONDS = 60


def ensure(plan: Plan) -> None:
    """Form the cluster and make the volumes that are missing; return when both can be used."""
    say("forming the storage cluster")
    with ThreadPoolExecutor() as pool:
        database = pool.submit(_wait_for_database, plan)
        _form(plan)
        _make_volumes(plan)
        wait_until(
            lambda: _bricks_online(plan) == len(plan.storage) * len(plan.workers),
            seconds=_SECONDS,
            otherwise="bricks are missing; see: lab exec etcd1 -- gluster volume status",
        )
        database.result()
    say(f"{len(plan.workers)} Gluster volumes and etcd are ready")


def _form(plan: Plan) -> None:
    """Let all storage nodes know each other."""
    lan = network.namespace(plan.name)
    for address in plan.storage_addresses.values():
        wait_until(
            lambda address=address: services.accepts(lan, address, _GLUSTER_PORT),  # type: ignore[misc]
            seconds=_SECONDS,
            otherwise=f"Gluster at {address} does not answer",
        )
    for peer in plan.storage[1:]:
        _gluster(plan, "peer", "probe", peer)
    # Seen from each: the first may know two others that do not know each other yet, and a volume
    # is refused then ("Staging failed ... not connected").
    wait_until(
        lambda: all(_connected(plan, node) for node in plan.storage),
        seconds=_SECONDS,
        otherwise="Gluster's nodes do not find each other",
    )


def _connected(plan: Plan, node: str) -> bool:
    """Whether a storage node has connections to all others."""
    pool = nodes.run(plan.name, node, "gluster", "--mode=script", "pool", "list").stdout
    return pool.count("Connected") == len(plan.storage)


def _make_volumes(plan: Plan) -> None:
    present = _gluster(plan, "volume", "list").split()
    for worker in plan.workers:
        if worker in present:
            continue
        bricks = [f"{node}:{BRICKS}/{worker}" for node in plan.storage]
        replica = ["replica", str(len(bricks))] if len(bricks) > 1 else []
        # "force", because a brick on the root file system is refused otherwise.
        _gluster(plan, "volume", "create", worker, *replica, *bricks, "force")
        _gluster(plan, "volume", "start", worker)


def _bricks_online(plan: Plan) -> int:
    if not plan.workers:
        return 0
    status = ElementTree.fromstring(_gluster(plan, "volume", "status", "all", "--xml"))
    return sum(
        1
        for node in status.iter("node")
        if str(node.findtext("path")).startswith(BRICKS) and node.findtext("status") == "1"
    )


def _gluster(plan: Plan, *command: str) -> str:
    """Run one command of Gluster's command line on the first storage node."""
    done = nodes.run(plan.name, plan.storage[0], "gluster", "--mode=script", *command)
    # It says so on an empty cluster, with an error status.
    if done.returncode != 0 and "No volumes present" not in done.stderr:
        said = (done.stderr or done.stdout).strip()
        raise LabError(f"gluster {' '.join(command)}: {said}")
    return done.stdout


def _wait_for_database(plan: Plan) -> None:
    where = LabPaths(plan.name).certificates
    context = ssl.create_default_context(cafile=str(where / "etcd-ca.crt"))
    context.load_cert_chain(where / "etcd-client.crt", where / "etcd-client.key")

    def healthy(address: str) -> bool:
        with inside_network(network.namespace(plan.name)):
            connection = HTTPSConnection(address, 2379, context=context, timeout=2)
            try:
                connection.request("GET", "/health")
                return bool(json.load(connection.getresponse())["health"] == "true")
            except (OSError, HTTPException, ValueError):
                return False
            finally:
                connection.close()

    for name, address in plan.storage_addresses.items():
        wait_until(
            lambda address=address: healthy(address),  # type: ignore[misc]
            seconds=_SECONDS,
            otherwise=f"etcd on {name} is not healthy; see: lab exec {name} -- journalctl -u etcd",
        )
