"""Check whether cri-dockerd answers kubelet's calls."""

from __future__ import annotations

from chaos_engine.facts.health import Check, limited

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
