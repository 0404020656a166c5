"""Let a node ask Kubernetes API servers whether they are ready, and for their version."""

from __future__ import annotations

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.health import Check, limited
from chaos_engine.facts.https import HTTPS_GET
from chaos_engine.facts.observe import NodeFact
from chaos_engine.facts.text import as_tuple, pairs

PORT = 6443
"""The default port of an API server: ``bindPort`` of kubeadm's configuration."""

MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
"""A file that kubeadm writes on a controller. kubelet runs the API server from it."""

ABSENT = "absent"
SILENT = "silent"

_KUBELET_CERTIFICATE = "/var/lib/kubelet/pki/kubelet-client-current.pem"

READYZ = f"""\
{HTTPS_GET}
seconds=5
ask_readyz() {{ # ADDRESS:PORT [OPTION...]: print the status of the answer, if there is one
  https_get /readyz "$@" -no-CAfile | sed -n '1s/^HTTP[^ ]* \\([0-9]*\\).*/\\1/p'
}}
readyz() {{ # ADDRESS:PORT
  said=$(ask_readyz "$1")
  # 401: the API server refuses anonymous requests
  [ "$said" != 401 ] || said=$(ask_readyz "$1" -cert {_KUBELET_CERTIFICATE})
  echo "$said"
}}
"""
"""A shell function ``readyz ADDRESS:PORT``. It prints the HTTP status of an API server's answer:
200 if the server is ready, 403 or 500 while the server starts. It prints an empty line if there is
no answer. The function does not verify the server's certificate, because the answer affects only
the order in which nodes are changed."""

OWN_READY = f"""\
{READYZ}
flag() {{ sed -n "s/.*- --$1=//p" {MANIFEST} | head -n 1; }}
at=$(flag advertise-address) port=$(flag secure-port)
[ "$(readyz "${{at:-127.0.0.1}}:${{port:-{PORT}}}")" = 200 ]
"""
"""Shell commands that run on a controller. They succeed if its API server is ready."""


class ApiServers(NodeFact[dict[str, str]]):
    """The answer of each API server to ``GET /readyz``, by the server's address.

    + addresses: IPv4 addresses of controllers

    An answer is one of these texts:

    - "200": the server is ready
    - another HTTP status: the server is not ready; while a server starts, it answers "403" or "500"
    - "silent": the server does not answer
    - "absent": the machine is reachable, but runs neither an API server nor kubelet. So the machine
      has not joined a cluster

    **Example:** ``host.get_fact(ApiServers, addresses=("192.168.1.50",))``
    """

    of_others = True

    @override
    def command(self, addresses: tuple[str, ...] | str) -> StringCommand:
        return StringCommand(
            f"{READYZ}"
            'refused() { case $(timeout -k 1 3 bash -c ": </dev/tcp/$1/$2" 2>&1) in '
            "*refused*) ;; *) false ;; esac; }\n"
            "for at in",
            *map(QuoteString, as_tuple(addresses)),
            f'; do {{ said=$(readyz "$at:{PORT}"); if [ -n "$said" ]; then echo "$at $said"; '
            f'elif refused "$at" {PORT} && refused "$at" 10250; then echo "$at {ABSENT}"; '
            f'else echo "$at {SILENT}"; fi; }} & done; wait',
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, str]:
        return pairs(lines)


_VERSION = f"""\
{HTTPS_GET}
seconds=5
ask_version() {{ # ADDRESS:PORT [OPTION...]: print the version in the answer, if there is one
  https_get /version "$@" -no-CAfile | sed -n 's/.*"gitVersion": *"v\\([^"]*\\)".*/\\1/p'
}}
version() {{ # ADDRESS:PORT
  said=$(ask_version "$1")
  # the API server may refuse anonymous requests
  [ -n "$said" ] || [ ! -r {_KUBELET_CERTIFICATE} ] ||
    said=$(ask_version "$1" -cert {_KUBELET_CERTIFICATE})
  echo "$said"
}}
"""


class ApiVersions(NodeFact[dict[str, str]]):
    """The version of each API server, such as ``1.36.2``, by the server's address.

    The version of a server that does not answer is "". Each server is asked directly at
    ``/version``, which kubeadm's clusters answer without a certificate.

    + addresses: IPv4 addresses of controllers

    **Example:** ``host.get_fact(ApiVersions, addresses=("192.168.1.50",))``
    """

    of_others = True

    @override
    def command(self, addresses: tuple[str, ...] | str) -> StringCommand:
        return StringCommand(
            f"{_VERSION}for at in",
            *map(QuoteString, as_tuple(addresses)),
            f'; do echo "$at $(version "$at:{PORT}")" & done; wait',
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, str]:
        return pairs(lines)


API_SERVER_ANSWERS = Check(
    "api_server",
    f"test ! -e {MANIFEST} || {limited(OWN_READY)}",
    "kube-apiserver is not ready; look at: crictl ps -a --name kube-apiserver",
)
