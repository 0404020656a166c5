"""Warn about an etcd key that a node does not need, and about an etcd that kubeadm will refuse."""

from __future__ import annotations

from collections.abc import Iterable

from chaos_engine.facts.etcd import EtcdVersions
from chaos_engine.facts.files import Files
from chaos_engine.facts.observe import Read, current, observe, warn
from chaos_engine.operations.compatibility import etcd_misfit
from chaos_engine.operations.engine.arguments import AbsolutePath, Address, Version
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.undo import Undo


@converge(reads=lambda path: [Read.of(Files, paths=(path,))])
def report_key(path: AbsolutePath) -> Commands:
    """Warn if a node has an etcd key. Call this on a node that does not need the key.

    + path: path of the key

    The key is not removed, because somebody else may have put it there.

    **Example:** ``report_key(name="Report the key", path="/etc/kubernetes/client.key")``
    """
    if path in observe(Files, paths=(path,)):
        warn(
            f"{path}: with this key, root on this node can read and change the whole cluster; only "
            "controllers need the key; remove it"
        )
    else:
        current()[1].noop(f"{path}: not there")
    yield from ()


@converge(
    reads=lambda kubernetes, servers, folder: [
        Read.of(EtcdVersions, servers=tuple(servers), folder=folder)
    ]
)
def report_version(
    kubernetes: Version, servers: Iterable[Address], folder: AbsolutePath
) -> Commands:
    """Warn if kubeadm will refuse an etcd server because its version is too old.

    + kubernetes: version of kubeadm
    + servers: addresses of the etcd servers
    + folder: folder on the node with ca.crt, client.crt and client.key

    On a node that has joined a cluster, this operation does not ask etcd. There,
    `chaos_engine.deploys.verify` makes the same check.

    **Example:** ``report_version("1.36.2", ["192.168.1.40"], "/etc/kubernetes")``
    """
    servers = tuple(servers)
    found = observe(EtcdVersions, servers=servers, folder=folder)
    if problem := etcd_misfit(kubernetes, found):
        warn(problem)
    else:
        current()[1].noop("etcd: found no server that is too old for kubeadm")
    yield from ()


UNDO = Undo(needed_when_joined=True)
