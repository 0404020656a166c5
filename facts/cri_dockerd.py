"""Read the version of cri-dockerd, and check whether it answers kubelet's calls."""

from __future__ import annotations

import re

from typing_extensions import override

from chaos_engine.facts.health import Check, limited
from chaos_engine.facts.observe import NodeFact

PROGRAM = "/usr/local/bin/cri-dockerd"

# A gRPC server first sends a settings frame of HTTP/2 (RFC 9113, section 3.4). The check uses perl
# to read this frame, because every Debian and Ubuntu has perl-base. A node may lack all other
# suitable programs
_GREETING = r"""
use IO::Socket::UNIX;
$s = IO::Socket::UNIX->new(Peer => "/run/cri-dockerd.sock") or exit 1;
$s->autoflush(1);
print $s "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0\4\0\0\0\0\0";
read($s, $frame, 9) == 9 or exit 1;
exit(ord(substr($frame, 3, 1)) == 4 ? 0 : 1);
"""

CRI_DOCKERD_ANSWERS = Check(
    "cri_dockerd",
    limited(f"perl -e '{_GREETING}'"),
    "cri-dockerd does not answer on its socket; look at: journalctl -u cri-docker",
)


class CriDockerdVersion(NodeFact[str]):
    """The version of the installed cri-dockerd, such as ``0.4.3``; "" if there is none.

    **Example:** ``host.get_fact(CriDockerdVersion)``
    """

    @override
    def command(self) -> str:
        return f"timeout -k 1 10 {PROGRAM} --version 2>&1 </dev/null || true"

    @override
    def parse(self, lines: list[str]) -> str:
        """Read a line such as ``cri-dockerd 0.4.3 (a1b2c3d)``."""
        found = (re.match(r"cri-dockerd v?([0-9]+(?:[.][0-9]+){2})\b", line) for line in lines)
        return next((match[1] for match in found if match), "")
