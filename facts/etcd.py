"""Ask the external etcd for its version, from a node that has a client certificate."""

from __future__ import annotations

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.https import HTTPS_GET
from chaos_engine.facts.kubernetes import KUBELET_CONF
from chaos_engine.facts.observe import NodeFact
from chaos_engine.facts.text import as_tuple, pairs

PORT = 2379

_ASK = f"""\
{HTTPS_GET}
folder=$1 joined_too=$2; shift 2
[ -r "$folder/client.key" ] || exit 0
[ -n "$joined_too" ] || [ ! -e {KUBELET_CONF} ] || exit 0
for server in "$@"; do
  {{
    said=$(https_get 3 /version "$server:{PORT}" -verify_return_error -CAfile "$folder/ca.crt" \
        -cert "$folder/client.crt" -key "$folder/client.key" |
      sed -n 's/.*"etcdserver": *"\\([^"]*\\)".*/\\1/p')
    echo "$server $said"
  }} &
done
wait
"""


class EtcdVersions(NodeFact[dict[str, str]]):
    """The version of each etcd server, by its address; "" for one that does not answer.

    + servers: addresses
    + folder: where the node has ca.crt, client.crt and client.key
    + joined_too: whether to ask even from a node that has joined a cluster

    {} if the node does not ask, or has no ``client.key``.

    **Example:** ``host.get_fact(EtcdVersions, servers=("10.0.0.4",), folder="/etc/kubernetes")``
    """

    of_others = True

    @override
    def command(
        self, servers: tuple[str, ...] | str, folder: str, joined_too: bool = False
    ) -> StringCommand:
        return StringCommand(
            "sh -c",
            QuoteString(_ASK),
            "sh",
            QuoteString(folder),
            QuoteString("yes" if joined_too else ""),
            *map(QuoteString, as_tuple(servers)),
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, str]:
        return pairs(lines)
