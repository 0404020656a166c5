"""Whether the services of a work node do their work, beyond their configuration."""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.api_servers import MANIFEST, OWN_READY
from chaos_engine.facts.haproxy import MARK, SCRIPT
from chaos_engine.facts.kubernetes import KUBELET_CONF
from chaos_engine.facts.observe import NodeFact
from chaos_engine.facts.share import CONFINED, TARGET
from chaos_engine.facts.swap import TURNERS
from chaos_engine.facts.text import pairs

LIMIT_SECONDS = 3
"""How long a check that waits for somebody may take. All of them together have to end before
`chaos_engine.facts.observe.PART_SECONDS`, or one that hangs would hide what the others say."""

# gRPC servers greet with an HTTP/2 settings frame (RFC 9113, section 3.4). perl-base is essential
# in Debian and Ubuntu, so perl can ask for it where nothing else can.
_GREETING = r"""
use IO::Socket::UNIX;
$s = IO::Socket::UNIX->new(Peer => "/run/cri-dockerd.sock") or exit 1;
$s->autoflush(1);
print $s "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0\4\0\0\0\0\0";
read($s, $frame, 9) == 9 or exit 1;
exit(ord(substr($frame, 3, 1)) == 4 ? 0 : 1);
"""


def limited(check: str) -> str:
    """The shell command that runs `check` for `LIMIT_SECONDS` at most.

    What waits for a dead share cannot be killed. So it is the child of a shell, which can. KILL
    comes after TERM only: with ``-s KILL`` uutils ends the shell alone (0.12), or nothing (0.0.30).
    """
    quoted = StringCommand(QuoteString(f"( {check} ); exit $?")).get_raw_value()
    return f"timeout -k 1 {LIMIT_SECONDS} sh -c {quoted}"


CHECKS = {
    "docker": (
        # its socket would start a Docker that is stopped
        limited("systemctl is-active --quiet docker && docker info"),
        "Docker does not answer; look at: journalctl -u docker",
    ),
    "swap": (
        "! sed 1d /proc/swaps | grep -q .",
        "swap is in use; if a run does not turn it off, it does not fit into RAM: reboot the node",
    ),
    "swap_again": (
        f"{TURNERS}\n! turners | grep -q .",
        "a service or script of this node turns swap on at each boot; the swap concern names it",
    ),
    "journald": (
        # not by its name, which anybody's program may have
        'open=$(ls -l "/proc/$(systemctl show -p MainPID --value systemd-journald)/fd") '
        '&& ! echo "$open" | grep -q /var/log/journal',
        "journald does not run, or still writes to /var/log/journal; reboot the node",
    ),
    "rsyslog": (
        # /dev/log is journald's: that a message is taken says nothing of rsyslog
        # where it is not installed and should be, its operation says so
        "! command -v rsyslogd || "
        + limited("systemctl is-active --quiet rsyslog && logger --tag chaos-engine verify"),
        "rsyslog does not run, or no message can be logged; look at: systemctl status rsyslog",
    ),
    "log_mount": (
        f"{CONFINED}confined {LIMIT_SECONDS} {TARGET} "
        # a name that nobody can have taken
        f"'new=$(mktemp {TARGET}/.chaos-engine-verify.XXXXXX) && rm -f -- \"$new\"'",
        "/var/log cannot be written; look at: systemctl status var-log",
    ),
    "cri_dockerd": (
        limited(f"perl -e '{_GREETING}'"),
        "cri-dockerd does not answer on its socket; look at: journalctl -u cri-docker",
    ),
    "kubernetes": (
        # its port is open once it has found its runtime; kubeadm's configuration may name another
        f"test ! -e {KUBELET_CONF} || "
        + limited(
            "systemctl is-active --quiet kubelet && port=$(sed -n 's/^port: *//p' "
            '/var/lib/kubelet/config.yaml) && bash -c ": </dev/tcp/127.0.0.1/${port:-10250}"'
        ),
        "kubelet does not answer; look at: journalctl -u kubelet",
    ),
    "api_server": (
        f"test ! -e {MANIFEST} || {limited(OWN_READY)}",
        "kube-apiserver does not say that it is ready; look at: crictl ps -a --name kube-apiserver",
    ),
    "kernel": (
        "grep -qw memory /sys/fs/cgroup/cgroup.controllers",
        "the memory cgroup is off; a reboot is due, or the kernel does not know the words",
    ),
    "haproxy": (
        # on the proxy only: no other node has the script
        f"! grep -qs '{MARK}' {SCRIPT} || {limited(f'{SCRIPT} check')}",
        "the API's address does not answer its own node; look at: journalctl -u docker_haproxy",
    ),
}
"""By concern: a shell command that fails if its service does not do its work, and what to say."""

PART_OF = {"api_server": "kubernetes", "swap_again": "swap"}
"""The concern of a check that has a name of its own."""


class Health(NodeFact[dict[str, str]]):
    """What is wrong with each concern's service; a concern that does its work is missing.

    Of what is sent to the log server it says nothing: whether it arrives is seen only there.

    **Example:** ``host.get_fact(Health)``
    """

    @override
    def command(self) -> StringCommand:
        return checks(CHECKS)

    @staticmethod
    @override
    def default() -> dict[str, str]:
        return {}

    @override
    def parse(self, lines: list[str]) -> dict[str, str]:
        return pairs(lines)


def checks(concerns: Iterable[str]) -> StringCommand:
    """The command that says, in a line each, what is wrong with these concerns' services."""
    bits: list[str | QuoteString] = []
    for concern in concerns:
        check, problem = CHECKS[concern]
        bits += [
            f"( {check} ) >/dev/null 2>&1 || echo",
            QuoteString(f"{concern} {problem}"),
            ";",
        ]
    return StringCommand(*bits, "true")
