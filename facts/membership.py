"""Read what a node needs before it creates a cluster or joins one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.api_servers import ABSENT, READYZ, SILENT
from chaos_engine.facts.etcd import PORT, SECONDS
from chaos_engine.facts.kubernetes import KUBELET_CONF
from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.text import as_tuple, decoded, grouped

KUBEADM = "/etc/kubernetes/chaos-engine"
"""The folder of kubeadm's configuration files, which a deploy writes on each node."""

INIT, JOIN = f"{KUBEADM}/kubeadm-init.yaml", f"{KUBEADM}/kubeadm-join.yaml"

UNFINISHED = "/var/lib/chaos-engine/kubeadm-unfinished"
"""A file that a run writes before it runs ``kubeadm init`` or ``kubeadm join``, with the word
``init`` or ``join``. The run removes the file when the node has joined the cluster."""


@dataclass(frozen=True)
class MembershipState(Value):
    """What a node needs before it creates a cluster or joins one.

    + joined: whether the node has joined a cluster
    + unfinished: "init" or "join" if an earlier run of this command did not finish, otherwise ""
    + kubelet: version of kubelet, "" if the node has no kubelet
    + init: whether the node has kubeadm's configuration file `INIT`
    + join: the text of kubeadm's configuration file `JOIN`, "" if there is no such file
    """

    joined: bool = False
    unfinished: str = ""
    kubelet: str = ""
    init: bool = False
    join: str = ""


class Membership(NodeFact[MembershipState]):
    """Whether the node has joined a cluster, and the files with which it can join one.

    **Example:** ``host.get_fact(Membership).joined``
    """

    @override
    def command(self) -> str:
        return f"""\
[ ! -e {KUBELET_CONF} ] || echo 'joined yes'
[ ! -e {UNFINISHED} ] || echo "unfinished $(cat {UNFINISHED})"
[ ! -e {INIT} ] || echo 'init yes'
[ ! -e {JOIN} ] || echo "join $(base64 -w 0 {JOIN})"
! command -v kubelet >/dev/null || echo "kubelet $(kubelet --version)"
"""

    @override
    def parse(self, lines: list[str]) -> MembershipState:
        found = grouped(lines, "joined unfinished init join kubelet")
        version = re.search(r"v([0-9.]+)", "".join(found["kubelet"]))
        return MembershipState(
            joined=bool(found["joined"]),
            unfinished="".join(found["unfinished"]),
            kubelet=version[1] if version else "",
            init=bool(found["init"]),
            join=decoded("".join(found["join"])),
        )


@dataclass(frozen=True)
class ApiState(Value):
    """What answers at the Kubernetes API's address.

    + answer: the HTTP status of ``/readyz``; "silent" if something accepts the connection but does
      not answer, as HAProxy without an API server does; "absent" if nothing accepts it
    + version: the API server's version, such as "1.36.2"; "" if it is not known
    """

    answer: str = ABSENT
    version: str = ""

    @property
    def ready(self) -> bool:
        """Tell whether a cluster answers. With 401, it refuses requests without a certificate."""
        return self.answer in ("200", "401")


_ASK_API = f"""\
if timeout -k 1 3 bash -c ': </dev/tcp/"$0"/"$1"' "$2" "$3" 2>/dev/null; then
  said=$(ask_readyz "$1"); echo "${{said:-{SILENT}}}"
  https_get /version "$1" -no-CAfile | grep -o '"gitVersion": *"v[0-9.]*' || true
else echo {ABSENT}; fi
"""


class ClusterApi(NodeFact[ApiState]):
    """What answers at the Kubernetes API's address, seen from the node.

    + endpoint: host and port, such as "k8s:6443"

    **Example:** ``host.get_fact(ClusterApi, endpoint="k8s:6443")``
    """

    of_others = True

    @override
    def command(self, endpoint: str) -> StringCommand:
        host, _, port = endpoint.rpartition(":")
        return StringCommand(
            "set --", *map(QuoteString, (endpoint, host, port)), f"\n{READYZ}{_ASK_API}"
        )

    @override
    def parse(self, lines: list[str]) -> ApiState:
        version = re.search(r'"v([0-9.]+)', "".join(lines[1:]))
        return ApiState(lines[0], version[1] if version else "")


# The range of all keys that begin with /registry/, in base64: etcd's gateway takes JSON
_RANGE = '{"key":"L3JlZ2lzdHJ5Lw==","range_end":"L3JlZ2lzdHJ5MA==","count_only":true}'

_COUNT = f"""\
folder=$1; shift
for server in "$@"; do
  said=$(timeout -k 1 {SECONDS} openssl s_client -quiet -crlf -connect "$server:{PORT}" \\
    -verify_return_error -CAfile "$folder/ca.crt" -no-CApath -no-CAstore \\
    -cert "$folder/client.crt" -key "$folder/client.key" 2>/dev/null <<END
POST /v3/kv/range HTTP/1.0
Content-Length: {len(_RANGE)}

{_RANGE}
END
  ) || true
  case $said in
    *'"count":"'*) said=${{said#*'"count":"'}}; echo "${{said%%'"'*}}"; break ;;
    *'"header"'*) echo 0; break ;;
  esac
done
"""


class EtcdKeys(NodeFact[int]):
    """How many keys of a Kubernetes cluster the external etcd has.

    + servers: addresses of the etcd servers; the first one that answers counts
    + folder: the folder on the node with ca.crt, client.crt and client.key

    The value is 0 if no server answers. kubeadm's own check reports that.

    **Example:** ``host.get_fact(EtcdKeys, servers=("10.0.0.4",), folder="/etc/kubernetes/etcd")``
    """

    of_others = True

    @override
    def command(self, servers: tuple[str, ...] | str, folder: str) -> StringCommand:
        return StringCommand(
            "if [ -r",
            QuoteString(f"{folder}/client.key"),
            "]; then sh -c",
            QuoteString(_COUNT),
            "sh",
            QuoteString(folder),
            *map(QuoteString, as_tuple(servers)),
            "; fi",
        )

    @override
    def parse(self, lines: list[str]) -> int:
        return int(lines[0]) if lines else 0
