"""Ask the external etcd for its version, from a node that has a client certificate."""

from __future__ import annotations

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.https import HTTPS_GET
from chaos_engine.facts.kubernetes import KUBELET_CONF
from chaos_engine.facts.observe import NodeFact
from chaos_engine.facts.text import as_tuple, pairs

PORT = 2379

SECONDS = 3
"""The time limit, in seconds, for the answers. All servers are asked at the same time."""

# The script first prints a line without a version for each server. A server that answers gets a
# second line with its version, which overrides the first line. Without the options -no-CA...,
# openssl would also trust the system's authorities
_ASK = f"""\
{HTTPS_GET}
seconds="" folder=$1; shift
printf '%s \\n' "$@"
for server in "$@"; do
  {{
    said=$(https_get /version "$server:{PORT}" -verify_return_error -CAfile "$folder/ca.crt" \
      -no-CApath -no-CAstore -cert "$folder/client.crt" -key "$folder/client.key")
    version=${{said#*'"etcdserver":"'}}
    [ "$version" = "$said" ] || echo "$server ${{version%%'"'*}}"
  }} &
done
wait
"""


class EtcdVersions(NodeFact[dict[str, str]]):
    """The version of each etcd server, by address; "" for a server that does not answer.

    + servers: the servers' addresses
    + folder: the folder on the node with ca.crt, client.crt and client.key
    + joined_too: whether a node that has joined a cluster asks the servers too

    The value is {} if the node has no ``client.key``. It is also {} if the node has joined a
    cluster and `joined_too` is false.

    **Example:** ``host.get_fact(EtcdVersions, servers=("10.0.0.4",), folder="/etc/kubernetes")``
    """

    of_others = True

    @override
    def command(
        self, servers: tuple[str, ...] | str, folder: str, joined_too: bool = False
    ) -> StringCommand:
        unjoined = "" if joined_too else f"&& [ ! -e {KUBELET_CONF} ]"
        return StringCommand(
            "if [ -r",
            QuoteString(f"{folder}/client.key"),
            f"] {unjoined}; then timeout -k 1 {SECONDS} sh -c",
            QuoteString(_ASK),
            "sh",
            QuoteString(folder),
            *map(QuoteString, as_tuple(servers)),
            "|| true; fi",
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, str]:
        return pairs(lines)
