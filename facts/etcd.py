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
"""How long the servers may take to answer. All are asked at the same time."""

# A first line of each server says that it is silent. A later line with its version overrides that.
# Without the options -no-CA..., openssl would trust the system's authorities too
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
