"""What is left of the etcd certificates where they are not wanted."""

from __future__ import annotations

from chaos_engine.facts.files import Files
from chaos_engine.facts.observe import Read, current, observe, warn
from chaos_engine.operations.arguments import AbsolutePath
from chaos_engine.operations.converge import Commands, converge


@converge(reads=lambda path: [Read.of(Files, paths=(path,))])
def notice_key(path: AbsolutePath) -> Commands:
    """Say if a node has a key of etcd's that it does not need; it is left there, since this
    package may not be the one that put it.

    + path: where the key would be
    """
    if path in observe(Files, paths=(path,)):
        warn(
            f"{path}: with this key root of this node can read and change the whole cluster, and "
            "only controllers need it; remove it"
        )
    else:
        current()[1].noop(f"{path}: not there")
    yield from ()
